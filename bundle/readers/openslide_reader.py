"""OpenSlide: formats that only it knows (NDPI, MRXS, SCN, BIF, DICOM, CZI, ...), and TIFF that other readers leave."""

from pathlib import Path

import numpy as np
from openslide import OpenSlide, OpenSlideError

from bundle.geometry import Rect, Size
from bundle.readers.base import WHITE, Pixels, SlideFacts, over_background, read_error, whole
from bundle.readers.tiff_metadata import positive

_BLOCK_PX = 1024


class OpenSlideReader:
    """OpenSlide behind the `Reader` interface. Safe for threads, as OpenSlide is."""

    def __init__(self, path: Path):
        """Open and decode one pixel per level, so that a truncated file fails here; raises `SlideReadError`."""
        self.name = "openslide"
        self.path = path
        try:
            self._slide = OpenSlide(path)
        except (OpenSlideError, OSError) as error:
            raise read_error(path, f"OpenSlide cannot open it ({error}); copy or export it again") from error
        self._background = _background(self._slide.properties.get("openslide.background-color"))
        self.facts = _facts(self._slide)
        try:
            for level, size in enumerate(self.facts.level_sizes):
                self.read(level, size.width - 1, size.height - 1, 1, 1)
        except OSError as error:
            self.close()
            raise read_error(path, f"its pixels cannot be decoded ({error}); copy it again") from error

    @property
    def places_levels_exactly(self) -> bool:
        """Whether each pixel of each level has an integer level-0 position, the only ones OpenSlide can be asked for.

        At other positions it interpolates between pixels: measured 20 grey levels off at a downsample of 2.0003.
        """
        return all(downsample == round(downsample) for downsample in self._slide.level_downsamples)

    def stated(self, name: str) -> str | None:
        """A property of the file by OpenSlide's name for it."""
        return self._slide.properties.get(name)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """See `Reader.read`."""
        downsample = self._slide.level_downsamples[level]
        if downsample == round(downsample):
            return self._read_at(level, x, y, width, height)
        return self._read_in_blocks(level, x, y, width, height)

    def close(self) -> None:
        """See `Reader.close`."""
        self._slide.close()

    def _read_at(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        downsample = self._slide.level_downsamples[level]
        location = (round(x * downsample), round(y * downsample))
        try:
            rgba = np.asarray(self._slide.read_region(location, level, (width, height)))
        except OpenSlideError as error:
            raise OSError(str(error)) from error
        return over_background(rgba, self._background)

    def _read_in_blocks(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """Assemble from blocks at fixed places, so that a pixel's value does not depend on the rectangle asked for."""
        size = self.facts.level_sizes[level]
        pixels = np.empty((height, width, 3), np.uint8)
        for top in range(y - y % _BLOCK_PX, y + height, _BLOCK_PX):
            for left in range(x - x % _BLOCK_PX, x + width, _BLOCK_PX):
                right, bottom = min(left + _BLOCK_PX, size.width), min(top + _BLOCK_PX, size.height)
                block = self._read_at(level, left, top, right - left, bottom - top)
                x0, x1, y0, y1 = max(x, left), min(x + width, right), max(y, top), min(y + height, bottom)
                pixels[y0 - y : y1 - y, x0 - x : x1 - x] = block[y0 - top : y1 - top, x0 - left : x1 - left]
        return pixels


def _facts(slide: OpenSlide) -> SlideFacts:
    stated = slide.properties
    mpp_x, mpp_y = (positive(stated.get(f"openslide.mpp-{axis}")) for axis in "xy")
    sizes = tuple(Size(*dimensions) for dimensions in slide.level_dimensions)
    edges = [stated.get(f"openslide.bounds-{edge}") for edge in ("x", "y", "width", "height")]
    bounds = Rect(*(int(edge) for edge in edges if edge is not None)) if None not in edges else whole(sizes[0])
    return SlideFacts(
        sizes,
        (mpp_x, mpp_y) if mpp_x and mpp_y else None,
        positive(stated.get("openslide.objective-power")),
        bounds,
    )


def _background(stated: str | None) -> tuple[int, int, int]:
    """OpenSlide gives the vendor's background as RRGGBB."""
    if stated is None:
        return WHITE
    red, green, blue = bytes.fromhex(stated)
    return red, green, blue
