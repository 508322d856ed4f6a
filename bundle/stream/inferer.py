"""Run a network over a whole slide: splitter, batches, probabilities, merger."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from monai.inferers import Inferer
from tqdm import tqdm

from bundle.slide import Slide
from bundle.stream.merger import BandMerger
from bundle.stream.prediction import ClassMap
from bundle.stream.splitter import LocatedTile, TileSplitter


def class_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Probabilities over background and glomerulus classes, (B, C, H, W) with C >= 2, from logits.

    One channel is the study's head: a sigmoid, read as (background, glomerulus). More are a softmax.
    """
    if logits.shape[1] == 1:
        glomerulus = logits.sigmoid()
        return torch.cat([1 - glomerulus, glomerulus], dim=1)
    return logits.softmax(dim=1)


class SlideInferer(Inferer):
    """MONAI `Inferer` from a slide to its `ClassMap`; memory depends on the slide's width, not on its height.

    Args:
        splitter: cuts the slide into tiles.
        merger: makes the merger, called with `merged_shape`, `cropped_shape` and `downsample`.
        batch_size: tiles a forward pass.
        device: where the network runs.
        progress: show a progress bar over tiles.
    """

    def __init__(
        self,
        splitter: TileSplitter,
        merger: Callable[..., BandMerger] = BandMerger,
        batch_size: int = 8,
        device: torch.device | str = "cpu",
        progress: bool = True,
    ) -> None:
        super().__init__()
        self.splitter = splitter
        self.merger = merger
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.progress = progress

    @torch.inference_mode()
    def __call__(  # type: ignore[override]  # MONAI says Tensor; its own WSI splitters take file names
        self, inputs: Slide, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> ClassMap:
        """Segment the slide `inputs`; `network` maps (B, 3, h, w) tiles to (B, C, h, w) logits."""
        grid = self.splitter.grid(inputs)
        selected = self.splitter.select(inputs)
        merger: BandMerger | None = None
        with tqdm(total=len(selected), desc=inputs.path.name, unit="tile", disable=not self.progress) as bar:
            for tiles, locations in self._batches(self.splitter(inputs, selected)):
                probabilities = class_probabilities(network(tiles.to(self.device), *args, **kwargs).float())
                if merger is None:
                    channels = probabilities.shape[1]
                    merger = self.merger(
                        merged_shape=(1, channels, *self.splitter.get_padded_shape(inputs)),
                        cropped_shape=(1, channels, grid.size.height, grid.size.width),
                        downsample=grid.downsample,
                    )
                for values, location in zip(probabilities.split(1), locations, strict=True):
                    merger.aggregate(values, location)
                bar.update(len(locations))
        return merger.finalize() if merger else ClassMap.empty(grid.size, grid.downsample)

    def _batches(self, tiles: Iterator[LocatedTile]) -> Iterator[tuple[torch.Tensor, list[tuple[int, int]]]]:
        while batch := list(islice(tiles, self.batch_size)):
            images, locations = zip(*batch, strict=True)
            yield torch.cat(images), list(locations)
