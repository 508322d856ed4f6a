"""Open a slide of any supported format and read it at any resolution.

A slide lies on an endless white plane: reads may reach past its edges. All coordinates are relative to its frame, the
part of the file that QuPath shows (OpenSlide's bounds), or the region of it that was asked for. Which library decodes
a file is decided in `bundle.readers`; where tissue is and how tiles are laid is not the business of this module.
"""

import math
import os
import threading
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bundle.errors import ConfigError, UnknownResolutionError
from bundle.geometry import Rect, Size
from bundle.readers import Reader, open_reader
from bundle.readers.base import DECODE_ERRORS, Pixels, ReducingReader, read_error
from bundle.readers.levels import FileLevel, file_levels, fine_enough, frame_of, in_level, inside_of, readable_levels
from bundle.readers.resample import PixelGrid, centres_inside, resample

_SAME_MPP = 1.01
"""mpp along x and y may differ by this factor before a warning."""


@dataclass(frozen=True)
class Level:
    """One resolution of a slide: `size` of the frame in px of this level, `downsample` level-0 px per px."""

    size: Size
    downsample: float


def open_slide(path: Path | str, *, mpp: float | None = None, region: Rect | None = None) -> "Slide":
    """Open a slide file, or a folder of DICOM files.

    Args:
        path: the file.
        mpp: um/px of level 0; wins over what the file states.
        region: the part of the slide to see, level-0 px of its frame; None for all of it.

    Raises:
        SlideReadError: the file is missing, empty, truncated or no slide that can be read.
        ConfigError: `mpp` is not a finite number above 0, or `region` does not lie inside the slide.
    """
    return Slide(Path(path), mpp=mpp, region=region)


class Slide:
    """An open slide; made by `open_slide`. Close it, or use it as a context manager.

    Several threads may read one slide at once. In a forked or spawned worker it reopens the file by itself, since
    processes that share a file handle would move each other's read position.

    Attributes:
        path: the file.
        size: level-0 px of the frame.
        levels: finest first; labels and macros are not among them.
        mpp: um/px of level 0, or None; the geometric mean where the file states different values along x and y.
        objective_power: as stated, or None.
        bounds: the frame inside the file's full level 0, level-0 px.
        reader: name of the library that decodes the file.
    """

    def __init__(self, path: Path, *, mpp: float | None = None, region: Rect | None = None):
        if mpp is not None and not _is_positive(mpp):
            raise ConfigError(f"{path}: mpp {mpp} is not a resolution; give micrometres per pixel above 0 (--mpp 0.25)")
        self.path = path
        self._reopen = partial(open_slide, path, mpp=mpp, region=region)
        self._lock = threading.Lock()
        self._reader: Reader | None = open_reader(path)
        self._pid = os.getpid()
        try:
            facts = self._reader.facts
            self.reader = self._reader.name
            self.mpp = mpp if mpp is not None else _one_mpp(path, facts.mpp_xy)
            self.objective_power = facts.objective_power
            self.bounds = frame_of(path, inside_of(facts.bounds, facts.level_sizes[0]), region)
            self._file_levels = file_levels(facts.level_sizes, self.bounds)
            self._readable = readable_levels(self._file_levels, facts.reductions, self.bounds)
        except BaseException:
            self.close()
            raise
        self.size = self.bounds.size
        self.levels = tuple(Level(level.frame.size, level.downsample) for level in self._file_levels)

    def require_mpp(self) -> float:
        """um/px of level 0; `UnknownResolutionError` if neither the file nor the caller states it."""
        if self.mpp is None:
            raise UnknownResolutionError(
                f"{self.path}: states no resolution; give micrometres per pixel of level 0 (--mpp 0.25)"
            )
        return self.mpp

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """Pixels of a level, unresampled; white outside the frame.

        Args:
            level: index into `levels`.
            x: left edge, px of that level, relative to the frame; may be negative.
            y: top edge, likewise.
            width: px of that level.
            height: likewise.

        Returns:
            RGB uint8 (height, width, 3).

        Raises:
            SlideReadError: the pixel data is damaged.
        """
        _check_size(width, height)
        return self._read(self._file_levels[level], x, y, width, height)

    def read_region(self, x: float, y: float, width: int, height: int, mpp: float) -> Pixels:
        """Pixels at any resolution, from the coarsest level that is fine enough (the finest if none is).

        Where the file lacks a level near to `mpp` and its tiles are JPEG, they are decoded at 1/2, 1/4 or 1/8 size.
        Tiles read along rows, each row overlapping the one before, decode every stored tile once.
        Antialiased bilinear resampling. A pixel whose centre lies outside the frame is white. Tiles read one by one
        equal one large read to 1 grey level (rounding of the last float digit).

        Args:
            x: left edge, level-0 px of the frame; may lie outside.
            y: top edge, likewise.
            width: px of the result.
            height: likewise.
            mpp: um/px of the result.

        Returns:
            RGB uint8 (height, width, 3).

        Raises:
            UnknownResolutionError: the slide's own resolution is not known.
            ConfigError: `mpp` is not a finite number above 0.
            SlideReadError: the pixel data is damaged.
        """
        if not _is_positive(mpp):
            raise ConfigError(f"{self.path}: cannot read at {mpp} um/px; give a number above 0")
        return self.read_downsampled(x, y, width, height, mpp / self.require_mpp())

    def read_downsampled(self, x: float, y: float, width: int, height: int, downsample: float) -> Pixels:
        """`read_region` by level-0 px per px of the result, any number above 0; errors as `read`, no mpp needed."""
        return self._sample(PixelGrid(x, y, width, height, downsample, downsample))

    def thumbnail(self, max_size_px: int) -> Pixels:
        """The whole frame, its longer side at most `max_size_px`; result and errors as of `read_downsampled`."""
        scale = max(1.0, max(self.size.width, self.size.height) / max_size_px)
        width, height = (max(1, round(side / scale)) for side in (self.size.width, self.size.height))
        return self._sample(PixelGrid(0, 0, width, height, self.size.width / width, self.size.height / height))

    @property
    def decoded_tiles(self) -> int | None:
        """Stored tiles that this process decoded so far; None where the library that decodes does not tell."""
        reader = self._open()
        return reader.decoded_tiles if isinstance(reader, ReducingReader) else None

    def close(self) -> None:
        """Release the file; reading afterwards raises ValueError."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _sample(self, grid: PixelGrid) -> Pixels:
        """The pixels of `grid`, which is in level-0 px of the frame."""
        _check_size(grid.width, grid.height)
        pixels = np.full((grid.height, grid.width, 3), 255, np.uint8)
        left, right = centres_inside(grid.x, grid.width, grid.scale_x, self.size.width)
        top, bottom = centres_inside(grid.y, grid.height, grid.scale_y, self.size.height)
        if left < right and top < bottom:
            level = fine_enough(self._readable, min(grid.scale_x, grid.scale_y))
            inside = in_level(grid.part(left, top, right, bottom), level, self.bounds)
            pixels[top:bottom, left:right] = resample(partial(self._read, level), level.frame.size, inside)
        return pixels

    def _read(self, level: FileLevel, x: int, y: int, width: int, height: int) -> Pixels:
        """`read` of a level that the file has or that its reader makes."""
        pixels = np.full((height, width, 3), 255, np.uint8)
        frame = level.frame
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, frame.width), min(y + height, frame.height)
        if left >= right or top >= bottom:
            return pixels
        reader = self._open()
        place = (frame.x + left, frame.y + top, right - left, bottom - top)
        try:
            pixels[top - y : bottom - y, left - x : right - x] = _decode(reader, level, place)
        except DECODE_ERRORS as error:
            where = f"level {level.index} at ({left * level.reduction}, {top * level.reduction})"
            raise read_error(self.path, f"{where} cannot be decoded ({error}); copy the file again") from error
        return pixels

    def _open(self) -> Reader:
        if self._reader is not None and self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._reader = open_reader(self.path)
                    self._pid = os.getpid()
        if self._reader is None:
            raise ValueError("the slide is closed")
        return self._reader

    def __enter__(self) -> "Slide":
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A cache of open slides (training tiles) lets them go without closing them.
        if getattr(self, "_reader", None) is not None:
            self.close()

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self._reopen, ()

    def __repr__(self) -> str:
        mpp = "unknown um/px" if self.mpp is None else f"{self.mpp:g} um/px"
        size = f"{self.size.width}x{self.size.height} px"
        return f"Slide({self.path}, {size}, {mpp}, {len(self.levels)} levels, {self.reader})"


def _decode(reader: Reader, level: FileLevel, place: tuple[int, int, int, int]) -> Pixels:
    if level.reduction == 1:
        return reader.read(level.index, *place)
    assert isinstance(reader, ReducingReader), "levels are reduced only where the reader can"
    return reader.read_reduced(level.index, level.reduction, *place)


def _is_positive(value: object) -> bool:
    # Not a number at all where a command line said 0,25.
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ValueError(f"a region of {width} x {height} px holds no pixel")


def _one_mpp(path: Path, mpp_xy: tuple[float, float] | None) -> float | None:
    if mpp_xy is None:
        return None
    if max(mpp_xy) > _SAME_MPP * min(mpp_xy):
        message = f"{path}: pixels are not square ({mpp_xy[0]:g} x {mpp_xy[1]:g} um); their geometric mean is used"
        warnings.warn(message, stacklevel=4)
    return math.sqrt(mpp_xy[0] * mpp_xy[1])
