"""Run a network over a whole slide: splitter, batches, probabilities, merger."""

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from typing import Any

import torch
from monai.inferers import Inferer
from tqdm import tqdm

from bundle.errors import ConfigError
from bundle.slide import Slide
from bundle.stream.merger import BandMerger
from bundle.stream.prediction import ClassMap, class_probabilities
from bundle.stream.splitter import LocatedTile, TileSplitter


class SlideInferer(Inferer):
    """MONAI `Inferer` from a slide to its `ClassMap`; memory depends on the slide's width, not on its height.

    Args:
        splitter: cuts the slide into tiles.
        merger: makes the merger, called with `merged_shape`, `cropped_shape` and `downsample`.
        batch_size: tiles a forward pass.
        device: where the network runs.
        progress: show a progress bar over tiles.

    Raises:
        ConfigError: `batch_size` is below 1.
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
        if batch_size < 1:
            raise ConfigError(f"inferer: batch_size must be at least 1, not {batch_size}")
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
        tissue = self.splitter.tissue_mask(inputs)
        selected = self.splitter.select(inputs, tissue)
        merger: BandMerger | None = None
        with (
            tqdm(total=len(selected), desc=inputs.path.name, unit="tile", disable=not self.progress) as bar,
            # Closed also when the network fails: its threads would go on reading.
            closing(self.splitter(inputs, selected)) as located,
        ):
            for tiles, locations in self._batches(located):
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
        prediction = merger.finalize() if merger else ClassMap.empty(grid.size, grid.downsample)
        if tissue is not None:
            # What a network makes of blank glass at a tile's edge is no glomerulus.
            prediction.clear_outside(tissue)
        return prediction

    def _batches(self, tiles: Iterator[LocatedTile]) -> Iterator[tuple[torch.Tensor, list[tuple[int, int]]]]:
        while batch := list(islice(tiles, self.batch_size)):
            images, locations = zip(*batch, strict=True)
            yield torch.cat(images), list(locations)
