"""From a slide to tiles at model resolution, tissue only, row by row, read ahead of the network."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from monai.inferers import Splitter
from numpy.typing import NDArray

from bundle.errors import ConfigError
from bundle.grid import Tile, TileGrid, Tiles
from bundle.slide import Slide
from bundle.tissue import TissueMask

LocatedTile = tuple[torch.Tensor, tuple[int, int]]
"""A tile for the network and its (row, column) at model resolution."""

TileColours = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""From a tile's RGB to other colours, uint8 (3, h, w)."""


class TileSplitter(Splitter):
    """MONAI `Splitter` of a slide: yields (tile, (row, column)) in row order.

    A tile is a float tensor of shape (1, 3, tile_px, tile_px) after `preprocessing`; its location is the top-left
    corner in pixels at model resolution. Past the slide's edge a tile is white.

    Args:
        tiles: size, overlap and resolution of the tiles.
        preprocessing: maps a uint8 array (3, H, W) to the network's input, e.g. MONAI's `ScaleIntensityRange`.
        tissue: finds where to look, a `TissueFinder` or a `Glance`; tiles without any of it are left out. `None` keeps
            all tiles.
        workers: threads that decode ahead of the network.
        read_ahead: tiles that may wait, decoded, for the network.
        colours: looks at a slide once and gives what is done with the colours of its tiles before `preprocessing`, such
            as a `StainNormaliser`. `None` leaves them.

    Raises:
        ConfigError: `workers` is below 1.
    """

    def __init__(
        self,
        tiles: Tiles,
        preprocessing: Callable,
        tissue: Callable[[Slide], TissueMask] | None = None,
        workers: int = 2,
        read_ahead: int = 8,
        colours: Callable[[Slide], TileColours] | None = None,
    ) -> None:
        super().__init__(patch_size=tiles.tile_px)
        if workers < 1:
            raise ConfigError(f"splitter: a thread must decode; num_workers must be at least 1, not {workers}")
        self.tiles = tiles
        self.preprocessing = preprocessing
        self.tissue = tissue
        self.workers = workers
        self.read_ahead = read_ahead
        self.colours = colours

    def grid(self, slide: Slide) -> TileGrid:
        """The tile grid on `slide`.

        Raises:
            ConfigError: tiles are in micrometres and the slide's um per pixel is not known.
        """
        return self.tiles.grid(slide.size, slide.mpp)

    def get_input_shape(self, inputs: Slide) -> tuple[int, int]:
        """(height, width) of the slide at model resolution, pixels."""
        size = self.grid(inputs).size
        return size.height, size.width

    def get_padded_shape(self, inputs: Slide) -> tuple[int, int]:
        """(height, width) that the tiles cover, pixels at model resolution."""
        grid = self.grid(inputs)
        return max(grid.size.height, grid.tile_px), max(grid.size.width, grid.tile_px)

    def tissue_mask(self, slide: Slide) -> TissueMask | None:
        """Where `slide` has tissue; `None` without a tissue finder.

        Raises:
            SlideReadError: the slide cannot be decoded.
        """
        return None if self.tissue is None else self.tissue(slide)

    def select(self, slide: Slide, mask: TissueMask | None) -> list[Tile]:
        """The tiles that the network will see, in row order: those that touch tissue, all of them without a mask."""
        grid = self.grid(slide)
        if mask is None:
            return list(grid)
        keep = mask.tiles(grid)
        return [tile for tile, kept in zip(grid, keep.ravel(), strict=True) if kept]

    def __call__(self, inputs: Slide, selected: list[Tile] | None = None) -> Generator[LocatedTile, None, None]:
        """Yield (tile, (row, column)); `selected` spares a second look for tissue. Its threads end when it is closed.

        Raises:
            ConfigError: see `grid`.
            SlideReadError: a tile cannot be decoded.
        """
        downsample = self.grid(inputs).downsample
        recolour = self.colours(inputs) if self.colours else None
        waiting: deque[tuple[Tile, Future[torch.Tensor]]] = deque()
        with ThreadPoolExecutor(self.workers, thread_name_prefix="tile-reader") as pool:
            try:
                for tile in self.select(inputs, self.tissue_mask(inputs)) if selected is None else selected:
                    waiting.append((tile, pool.submit(self._read, inputs, tile, downsample, recolour)))
                    if len(waiting) > self.read_ahead:
                        yield self._take(waiting)
                while waiting:
                    yield self._take(waiting)
            finally:
                for _, future in waiting:
                    future.cancel()

    @staticmethod
    def _take(waiting: deque[tuple[Tile, Future[torch.Tensor]]]) -> LocatedTile:
        tile, future = waiting.popleft()
        return future.result(), (tile.y, tile.x)

    def _read(self, slide: Slide, tile: Tile, downsample: float, recolour: TileColours | None) -> torch.Tensor:
        side = self.tiles.tile_px
        rgb = slide.read_downsampled(tile.x * downsample, tile.y * downsample, side, side, downsample)
        rgb = rgb.transpose(2, 0, 1)
        return torch.as_tensor(self.preprocessing(rgb if recolour is None else recolour(rgb)))[None]
