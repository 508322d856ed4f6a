"""What a network says of single tiles, before anything is blended: for calibration and for a look at one glomerulus."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from bundle.data.annotations import Annotation, Glomerulus
from bundle.grid import Tile
from bundle.slide import Slide
from bundle.stream.splitter import TileSplitter


@dataclass(frozen=True)
class TileLogits:
    """Runs a network over tiles of a slide, in the order in which they are asked for.

    Attributes:
        splitter: reads the tiles as inference does.
        network: maps (B, 3, h, w) to logits (B, C, h, w).
        batch_size: tiles a forward pass.
        device: where the network runs.
    """

    splitter: TileSplitter
    network: Callable[..., torch.Tensor]
    batch_size: int = 8
    device: torch.device | str = "cpu"

    def __call__(self, slide: Slide, tiles: Sequence[Tile]) -> Iterator[NDArray[np.float32]]:
        """Logits (C, h, w) of each of `tiles`, which may lie anywhere, model resolution.

        Raises:
            SlideReadError: a tile cannot be decoded.
        """
        with closing(self.splitter(slide, list(tiles))) as located:
            while batch := [values for values, _ in islice(located, self.batch_size)]:
                with torch.inference_mode():
                    logits = self.network(torch.cat(batch).to(self.device)).float().cpu().numpy()
                yield from logits


@dataclass(frozen=True)
class ObjectLogits:
    """A second look at each glomerulus that was found, in the middle of a tile of its own.

    The map of a slide keeps the probability of one class a pixel; this gives those of all classes, for as little as a
    tile a glomerulus.

    Attributes:
        tiles: runs the network.
        pixels: how many of an object's pixels are taken, evenly spread; a small object's are taken more than once.
    """

    tiles: TileLogits
    pixels: int = 256

    def __call__(self, slide: Slide, glomeruli: Annotation) -> NDArray[np.float32]:
        """Logits (n, pixels, C) inside the n objects; NaN where an object lies outside of its tile, or is too small.

        Raises:
            SlideReadError: a tile cannot be decoded.
        """
        splitter = self.tiles.splitter
        downsample, side = splitter.grid(slide).downsample, splitter.tiles.tile_px
        places = [_centred(glomerulus, downsample, side) for glomerulus in glomeruli.glomeruli]
        found = []
        for glomerulus, place, logits in zip(glomeruli.glomeruli, places, self.tiles(slide, places), strict=True):
            alone = replace(glomeruli, glomeruli=(replace(glomerulus, label=1),), complete=True)
            inside = alone.rasterize(place.x * downsample, place.y * downsample, side, side, downsample) == 1
            found.append(_spread(logits[:, inside], self.pixels))
        return np.stack(found) if found else np.zeros((0, self.pixels, 0), np.float32)


def _centred(glomerulus: Glomerulus, downsample: float, side: int) -> Tile:
    """The tile with the object's bounding box in the middle."""
    left, top, right, bottom = (bound / downsample for bound in glomerulus.polygon.bounds)
    return Tile(round((left + right - side) / 2), round((top + bottom - side) / 2))


def _spread(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """`count` of the columns of (C, n), as rows."""
    if not values.shape[1]:
        return np.full((count, len(values)), np.nan, np.float32)
    return values[:, np.linspace(0, values.shape[1] - 1, count).round().astype(int)].T
