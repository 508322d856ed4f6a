"""A slide as a Deep Zoom Image: JPEG tiles whose levels halve down to one pixel, made when they are asked for.

Numbering and sizes follow Microsoft's Deep Zoom format as OpenSeadragon reads it: level 0 is 1 x 1, a tile shares
`overlap_px` with each neighbour.
"""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image
from tqdm import tqdm

from bundle.geometry import Rect, Size
from bundle.readers.base import Pixels
from bundle.slide import Slide

JPEG_QUALITY = 80


@dataclass(frozen=True)
class DeepZoom:
    """Geometry of the tiles of an image of `size` level-0 pixels; a whole tile is `tile_px` + 2 `overlap_px` wide."""

    size: Size
    tile_px: int = 510
    overlap_px: int = 1

    @property
    def max_level(self) -> int:
        """The level that is the image itself."""
        return (max(self.size.width, self.size.height) - 1).bit_length()

    def downsample(self, level: int) -> int:
        """Level-0 pixels per pixel of `level`."""
        return 1 << (self.max_level - level)

    def level_size(self, level: int) -> Size:
        """Pixels of `level`; the last ones may reach past the image."""
        scale = self.downsample(level)
        return Size(-(-self.size.width // scale), -(-self.size.height // scale))

    def tiles(self, level: int) -> Iterator[tuple[int, int]]:
        """(column, row) of every tile of `level`, row by row."""
        size = self.level_size(level)
        columns, rows = (-(-side // self.tile_px) for side in (size.width, size.height))
        return ((column, row) for row in range(rows) for column in range(columns))

    def place(self, level: int, column: int, row: int) -> Rect | None:
        """Where a tile lies, pixels of `level`, its overlap included; `None` if there is no such tile."""
        if not 0 <= level <= self.max_level or column < 0 or row < 0:
            return None
        size = self.level_size(level)
        if column * self.tile_px >= size.width or row * self.tile_px >= size.height:
            return None
        left, top = (max(0, i * self.tile_px - self.overlap_px) for i in (column, row))
        right = min((column + 1) * self.tile_px + self.overlap_px, size.width)
        bottom = min((row + 1) * self.tile_px + self.overlap_px, size.height)
        return Rect(left, top, right - left, bottom - top)

    def descriptor(self) -> str:
        """The .dzi file."""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="jpeg" '
            f'Overlap="{self.overlap_px}" TileSize="{self.tile_px}">'
            f'<Size Width="{self.size.width}" Height="{self.size.height}"/></Image>\n'
        )


@dataclass(frozen=True)
class EmbeddedPyramid:
    """The tiles that a page holds.

    Attributes:
        pictures: different tiles, base64 of JPEG; blank glass is there once.
        tiles: "level/column_row" to its place in `pictures`.
        min_level: coarsest level held.
        max_level: finest level held.
    """

    pictures: tuple[str, ...]
    tiles: dict[str, int]
    min_level: int
    max_level: int


def tile_jpeg(slide: Slide, zoom: DeepZoom, level: int, column: int, row: int) -> bytes | None:
    """A tile of the slide; `None` if there is no such tile.

    Raises:
        SlideReadError: the pixel data is damaged.
    """
    place = zoom.place(level, column, row)
    if place is None:
        return None
    scale = zoom.downsample(level)
    return jpeg(slide.read_downsampled(place.x * scale, place.y * scale, place.width, place.height, scale))


def jpeg(rgb: Pixels) -> bytes:
    """RGB pixels (H, W, 3) as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def base64_jpeg(rgb: Pixels) -> str:
    """RGB pixels (H, W, 3) as base64 of a JPEG file."""
    return base64.b64encode(jpeg(rgb)).decode()


def embed(slide: Slide, zoom: DeepZoom, budget_bytes: int, progress: bool = False) -> EmbeddedPyramid:
    """All levels, coarsest first, that take at most `budget_bytes` of base64; at least the one of a single tile.

    Raises:
        SlideReadError: the pixel data is damaged.
    """
    first = max(level for level in range(zoom.max_level + 1) if len(list(zoom.tiles(level))) == 1)
    places: dict[str, int] = {}
    pictures: dict[str, int] = {}
    used, last = 0, first
    for level in range(first, zoom.max_level + 1):
        new = _level(slide, zoom, level, budget_bytes - used if level > first else None, progress)
        if new is None:
            break
        for tile, picture in new.items():
            places[tile] = pictures.setdefault(picture, len(pictures))
        last, size = level, sum(map(len, set(new.values())))
        used += size
        # A level has four times the pixels of the one before and is never less than twice as large.
        if used + 2 * size > budget_bytes:
            break
    return EmbeddedPyramid(tuple(pictures), places, first, last)


def _level(slide: Slide, zoom: DeepZoom, level: int, budget: int | None, progress: bool) -> dict[str, str] | None:
    """The tiles of a level; `None` as soon as they exceed the budget."""
    found: dict[str, str] = {}
    known: set[str] = set()
    used = 0
    bar = tqdm(list(zoom.tiles(level)), desc=f"report, level {level}", unit="tile", disable=not progress, leave=False)
    for column, row in bar:
        tile = tile_jpeg(slide, zoom, level, column, row)
        assert tile is not None, "tiles() names existing tiles"
        picture = base64.b64encode(tile).decode()
        found[f"{level}/{column}_{row}"] = picture
        used += 0 if picture in known else len(picture)
        known.add(picture)
        if budget is not None and used > budget:
            bar.close()
            return None
    return found
