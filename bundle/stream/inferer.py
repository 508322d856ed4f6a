"""Run a network over a whole slide: splitter, batches, probabilities, merger."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Any

import torch
from monai.inferers import Inferer
from tqdm import tqdm

from bundle.errors import ConfigError
from bundle.memory import trim_heap
from bundle.slide import Slide
from bundle.stream.merger import BandMerger
from bundle.stream.prediction import ClassMap, class_probabilities
from bundle.stream.splitter import LocatedTile, TileSplitter

Locations = list[tuple[int, int]]
Batch = tuple[torch.Tensor, Locations]
"""Tiles (B, 3, h, w), or what was predicted of them, and the (row, column) of each at model resolution."""


class SlideInferer(Inferer):
    """MONAI `Inferer` from a slide to its `ClassMap`; memory depends on the slide's width, not on its height.

    Three things run at once: the splitter's threads decode, one thread runs the network, and the caller's blends.

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

    def __call__(  # type: ignore[override]  # MONAI says Tensor; its own WSI splitters take file names
        self, inputs: Slide, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> ClassMap:
        """Segment the slide `inputs`; `network` maps (B, 3, h, w) tiles to (B, C, h, w) logits.

        Raises:
            ConfigError: tiles are in micrometres and the slide's um per pixel is not known.
            SlideReadError: a tile cannot be decoded.
            BackendError: `network` is an `Accelerated` whose backend cannot run it.
        """

        # In the network's thread: torch's modes are a thread's own.
        @torch.inference_mode()
        def predict(tiles: torch.Tensor) -> torch.Tensor:
            if self.device.type == "cuda":  # copied while the batch before is computed
                tiles = tiles.pin_memory().to(self.device, non_blocking=True)
            return class_probabilities(network(tiles, *args, **kwargs).float())

        grid = self.splitter.grid(inputs)
        tissue = self.splitter.tissue_mask(inputs)
        selected = self.splitter.select(inputs, tissue)
        merger: BandMerger | None = None
        with (
            tqdm(total=len(selected), desc=inputs.path.name, unit="tile", disable=not self.progress) as bar,
            # Closed also when the network fails: its threads would go on reading.
            closing(self.splitter(inputs, selected)) as located,
            closing(_predictions(self._batches(located), predict)) as predictions,
        ):
            for probabilities, locations in predictions:
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
                trim_heap()
        prediction = merger.finalize() if merger else ClassMap.empty(grid.size, grid.downsample)
        if tissue is not None:
            # What a network makes of blank glass at a tile's edge is no glomerulus.
            prediction.clear_outside(tissue)
        return prediction

    def _batches(self, tiles: Iterator[LocatedTile]) -> Iterator[Batch]:
        while batch := list(islice(tiles, self.batch_size)):
            images, locations = zip(*batch, strict=True)
            yield torch.cat(images), list(locations)


def _predictions(
    batches: Iterable[Batch], predict: Callable[[torch.Tensor], torch.Tensor]
) -> Generator[Batch, None, None]:
    """Predict the batches in a thread of its own; the next runs while the caller works on the one before."""
    with ThreadPoolExecutor(1, thread_name_prefix="network") as thread:
        running: deque[tuple[Future[torch.Tensor], Locations]] = deque()
        for tiles, locations in batches:
            running.append((thread.submit(predict, tiles), locations))
            if len(running) > 1:
                yield _take(running)
        while running:
            yield _take(running)


def _take(running: deque[tuple[Future[torch.Tensor], Locations]]) -> Batch:
    future, locations = running.popleft()
    return future.result(), locations
