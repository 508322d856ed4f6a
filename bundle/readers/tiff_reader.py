"""TIFF slides: inspect the structure with tifffile, read pixels through `aszarr()` tile by tile, strips whole.

tifffile is the reference for TIFF: the other readers are used only where they agree with it.
"""

import math
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from bundle.errors import SlideReadError
from bundle.geometry import Size
from bundle.readers.base import Pixels, SlideFacts, over_background, read_error, whole
from bundle.readers.jpeg_guard import JpegGuard
from bundle.readers.tiff_metadata import tiff_resolution
from bundle.readers.tiff_structure import check_structure

UNTILED_LIMIT_PX = 1_000_000_000
"""A strip TIFF is decoded whole: more would not fit into a usual machine's memory."""

_GRAY = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
_COLOUR = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
_APERIO_YCBCR = tifffile.COMPRESSION.APERIO_JP2000_YCBC
_CONVERTED = (tifffile.COMPRESSION.JPEG, _APERIO_YCBCR)
"""Compressions whose YCbCr comes out as RGB."""
_PARSE_ERRORS = (
    tifffile.TiffFileError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    RuntimeError,
    ArithmeticError,
    AttributeError,
    struct.error,
)
_NEED = "an 8-bit brightfield RGB slide is needed (export it as a pyramidal RGB TIFF)"

_LevelPixels = Any
"""A level's pixels: a zarr array that decodes on demand, or a numpy array."""


class TiffReader:
    """tifffile behind the `Reader` interface. Safe for threads: tifffile locks its file handle."""

    def __init__(self, path: Path):
        """Check the file's structure and its image; raises `SlideReadError`."""
        self.name = "tifffile"
        self.path = path
        self.tiff = check_tiff(path)
        try:
            self.series = _slide_series(path, self.tiff)
            mpp_xy, power = tiff_resolution(path, self.tiff, self.series)
            sizes = tuple(_level_size(level) for level in self.series.levels)
        except SlideReadError:
            self.tiff.close()
            raise
        except _PARSE_ERRORS as error:
            self.tiff.close()
            raise read_error(path, f"damaged TIFF ({error}); copy it again") from error
        if any(min(size.width, size.height) < 1 for size in sizes):
            self.tiff.close()
            raise read_error(path, "damaged TIFF (a level of no pixels); copy it again")
        self.facts = SlideFacts(sizes, mpp_xy, power, whole(sizes[0]))
        self._guard = JpegGuard(path, self.series)
        self._arrays: dict[int, _LevelPixels] = {}
        self._lock = threading.Lock()

    @property
    def decodes_colour(self) -> bool:
        """False for Aperio's JPEG 2000 in YCbCr, whose components tifffile passes on as if they were RGB."""
        return self.series.keyframe.compression != _APERIO_YCBCR

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """See `Reader.read`."""
        self._guard.check(level, x, y, width, height)
        array = self._array(level)
        rows, columns = slice(y, y + height), slice(x, x + width)
        if self.series.axes == "SYX":
            pixels = np.moveaxis(np.asarray(array[:, rows, columns]), 0, -1)
        else:
            pixels = np.asarray(array[rows, columns])
        return _as_rgb(pixels, self.series.keyframe)

    def close(self) -> None:
        """See `Reader.close`."""
        self._arrays.clear()
        self._guard.close()
        self.tiff.close()

    def _array(self, level: int) -> _LevelPixels:
        with self._lock:
            if level not in self._arrays:
                self._arrays[level] = self._open_level(level)
            return self._arrays[level]

    def _open_level(self, level: int) -> _LevelPixels:
        if not self.series.levels[level].keyframe.is_tiled:
            # One strip may hold the whole image: through zarr every read would decode it again.
            return self.series.levels[level].asarray()
        # Scanners leave out empty tiles: they are glass, so white.
        blank = 0 if self.series.keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE else 255
        return zarr.open_array(self.series.aszarr(level=level, fillvalue=blank), mode="r")


def check_tiff(path: Path) -> tifffile.TiffFile:
    """Open a TIFF whose structure is whole; `SlideReadError` if it is not."""
    try:
        tiff = tifffile.TiffFile(path)
    except _PARSE_ERRORS as error:
        raise read_error(path, f"not a readable TIFF ({error}); copy it again") from error
    try:
        check_structure(path, tiff)
    except SlideReadError:
        tiff.close()
        raise
    except _PARSE_ERRORS as error:
        tiff.close()
        raise read_error(path, f"damaged TIFF ({error}); copy it again") from error
    return tiff


def _slide_series(path: Path, tiff: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """The series with the largest plane (labels and macros are smaller), or `SlideReadError` if it is no RGB slide."""
    if not tiff.series:
        raise read_error(path, f"holds no image; {_NEED}")
    series = max(tiff.series, key=lambda s: s.sizes.get("height", 0) * s.sizes.get("width", 0))
    problem = _not_a_slide(series)
    if problem:
        raise read_error(path, f"{problem}: {_NEED}")
    return series


def _not_a_slide(series: tifffile.TiffPageSeries) -> str | None:
    page = series.keyframe
    shape = "x".join(map(str, series.shape))
    if series.axes not in ("YX", "YXS", "SYX"):
        return f"has {series.ndim} dimensions ({series.axes} {shape}), not a brightfield RGB slide"
    if series.dtype != np.uint8:
        return f"has {series.dtype} pixels, not 8-bit brightfield ones"
    channels = 1 if series.axes == "YX" else series.shape[series.axes.index("S")]
    if page.photometric not in (_GRAY if channels == 1 else _COLOUR) or channels not in (1, 3, 4):
        return f"has {channels} channels of photometric {_name(page.photometric)}, not RGB"
    if page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression not in _CONVERTED:
        return f"has YCbCr pixels in {_name(page.compression)} compression, which no reader here converts to RGB"
    if page.compression not in tifffile.TIFF.DECOMPRESSORS:
        return f"has compression {_name(page.compression)}, which cannot be decoded"
    if not page.is_tiled and math.prod(page.shape[:2]) > UNTILED_LIMIT_PX:
        return f"is not tiled and has {math.prod(page.shape[:2]) / 1e9:.1f} gigapixels"
    return None


def _name(value: object) -> str:
    return str(getattr(value, "name", value))


def _level_size(level: tifffile.TiffPageSeries) -> Size:
    return Size(level.sizes["width"], level.sizes["height"])


def _as_rgb(pixels: Pixels, page: tifffile.TiffPage) -> Pixels:
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        pixels = 255 - pixels
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2)
    if pixels.shape[2] == 4:
        associated = tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples
        return over_background(pixels, premultiplied=associated)
    return np.ascontiguousarray(pixels)
