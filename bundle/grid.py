"""Tile geometry: where the tiles of a slide lie, in micrometres or in pixels. Pure functions and frozen values.

Two frames occur. *Level 0* is the slide's finest level. *Model resolution* is what the network sees: one of its pixels
covers `downsample` x `downsample` level-0 pixels, `downsample` being any number > 0, not only a power of two.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from bundle.errors import ConfigError
from bundle.geometry import Size


def tile_starts(length_px: int, tile_px: int, overlap_px: int) -> tuple[int, ...]:
    """First pixels of tiles of `tile_px` that cover [0, length_px), neighbours sharing at least `overlap_px`.

    The last tile is moved back so that it ends at the edge and sees tissue rather than padding; only an image smaller
    than one tile is padded.
    """
    if length_px <= tile_px:
        return (0,)
    step_px = tile_px - overlap_px
    return (*range(0, length_px - tile_px, step_px), length_px - tile_px)


@dataclass(frozen=True)
class Tile:
    """Top-left corner of a tile at model resolution, pixels."""

    x: int
    y: int


@dataclass(frozen=True)
class TileGrid:
    """The tiles of one slide, all lengths at model resolution.

    Attributes:
        size: the slide at model resolution, pixels; the last pixel of a row may be partly past the edge.
        tile_px: side of the square tiles, pixels.
        overlap_px: least overlap of neighbours, pixels.
        downsample: level-0 pixels per model pixel.
    """

    size: Size
    tile_px: int
    overlap_px: int
    downsample: float

    @cached_property
    def xs(self) -> tuple[int, ...]:
        """Left edges of the tile columns, ascending."""
        return tile_starts(self.size.width, self.tile_px, self.overlap_px)

    @cached_property
    def ys(self) -> tuple[int, ...]:
        """Top edges of the tile rows, ascending."""
        return tile_starts(self.size.height, self.tile_px, self.overlap_px)

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.xs) * len(self.ys)

    def __iter__(self) -> Iterator[Tile]:
        """Tiles row by row from the top, each row from the left."""
        return (Tile(x, y) for y in self.ys for x in self.xs)


@dataclass(frozen=True)
class PhysicalTiles:
    """Tiles fixed in micrometres: every scanner's slide is seen at one scale.

    Attributes:
        tile_um: side of a tile, µm.
        overlap_um: overlap of neighbours, µm.
        mpp: model resolution, µm per pixel.

    Raises:
        ConfigError: `mpp` is not above 0, a tile has no pixel, or its overlap is negative or not below it.
    """

    tile_um: float
    overlap_um: float
    mpp: float

    def __post_init__(self) -> None:
        if not self.mpp > 0:
            raise ConfigError(f"tiles: mpp must be > 0 µm/px, not {self.mpp}")
        _check_tile(self.tile_px, self.overlap_px)

    @property
    def tile_px(self) -> int:
        """Side of a tile at model resolution, pixels."""
        return round(self.tile_um / self.mpp)

    @property
    def overlap_px(self) -> int:
        """Overlap at model resolution, pixels."""
        return round(self.overlap_um / self.mpp)

    def downsample(self, slide_mpp: float | None) -> float:
        """Level-0 pixels per model pixel on a slide of `slide_mpp` µm per level-0 pixel; `ConfigError` on None."""
        if slide_mpp is None:
            raise ConfigError("tiles in micrometres need the slide's µm/px: give it with --mpp")
        return self.mpp / slide_mpp

    def grid(self, size: Size, slide_mpp: float | None) -> TileGrid:
        """The grid on a slide of `size` level-0 pixels; `ConfigError` on a `slide_mpp` of None."""
        return _grid(self, size, self.downsample(slide_mpp))


@dataclass(frozen=True)
class PixelTiles:
    """Tiles fixed in level-0 pixels and resized for the network: the protocol of Souza et al. 2025.

    A slide scanned at half the magnification is then seen at half the scale; see `PhysicalTiles`.

    Attributes:
        tile_level0_px: side of a tile on the slide, level-0 pixels (1024 in the study).
        overlap_level0_px: overlap of neighbours, level-0 pixels (256 in the study).
        tile_px: side of the resized tile that the network sees, pixels (320 in the study).

    Raises:
        ConfigError: a tile has no pixel, or its overlap is negative or not below it.
    """

    tile_level0_px: int
    overlap_level0_px: int
    tile_px: int

    def __post_init__(self) -> None:
        if self.tile_level0_px < 1:
            raise ConfigError(f"tiles: tile_level0_px must be at least 1, not {self.tile_level0_px}")
        _check_tile(self.tile_px, self.overlap_px)

    @property
    def overlap_px(self) -> int:
        """Overlap at model resolution, pixels."""
        return round(self.overlap_level0_px * self.tile_px / self.tile_level0_px)

    def downsample(self, slide_mpp: float | None) -> float:
        """Level-0 pixels per model pixel; the slide's resolution does not matter."""
        return self.tile_level0_px / self.tile_px

    def grid(self, size: Size, slide_mpp: float | None) -> TileGrid:
        """The grid on a slide of `size` level-0 pixels."""
        return _grid(self, size, self.downsample(slide_mpp))


Tiles = PhysicalTiles | PixelTiles


def _check_tile(tile_px: int, overlap_px: int) -> None:
    if tile_px < 1:
        raise ConfigError(f"tiles: a tile of {tile_px} px at model resolution is too small; enlarge the tile")
    if not 0 <= overlap_px < tile_px:
        raise ConfigError(
            f"tiles: the overlap ({overlap_px} px at model resolution) must be less than the tile ({tile_px} px)"
        )


def _grid(tiles: Tiles, size: Size, downsample: float) -> TileGrid:
    return TileGrid(size_at(size, downsample), tiles.tile_px, tiles.overlap_px, downsample)


def size_at(size: Size, downsample: float) -> Size:
    """`size` level-0 pixels at `downsample` level-0 pixels per pixel, rounded up so that the edge is covered."""
    # The tolerance keeps 1024 / 3.2000000001 from growing a column that holds nothing.
    return Size(*(max(1, math.ceil(length / downsample - 1e-6)) for length in (size.width, size.height)))
