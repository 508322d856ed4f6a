"""What a SegGPT learns from: query tiles, prompt tiles, and colours that only the prompts explain.

Wang et al., "SegGPT", ICCV 2023, arXiv 2304.03284, section 3: each sample's classes get colours at random, so that the
network cannot learn what a colour means but must look it up in the prompts.
"""

from collections import Counter
from collections.abc import Callable
from copy import copy
from typing import Any, Final

import numpy as np
import torch
from torch.utils.data import Dataset

from bundle.classes import BACKGROUND_INDEX, GLOMERULUS_CLASSES, IGNORE_INDEX
from bundle.data.tiles import Target, TileDataset
from bundle.errors import ConfigError, DatalistError
from bundle.networks.seggpt.colours import paint
from bundle.symmetries import SYMMETRIES, seen
from bundle.training.colouring import Colouring

TRIES: Final = 8
"""Draws until prompts show a class of the query: a pasted class has no place where it is sure to be seen."""


class InContextDataset(Dataset):
    """Samples of in-context training: query tiles and prompt tiles, painted with one palette.

    For each sample the slides (datalist items) are divided in two at random: the queries are drawn from one part, the
    prompts from the other, each as `TileDataset` draws, so that a prompt never shows what a query shows. A prompt is
    drawn at a glomerulus. One at least shows a class that the first query shows, if that can be had in a few tries.
    Each tile is turned and flipped at random. Sample `i` of epoch `e` depends on the tiles' seed, `e` and `i` alone.

    Args:
        tiles: draws and augments the tiles; its transform gives images in 0..1, its length is that of the dataset.
        prompts: prompts of a sample.
        queries: tiles of a sample that share the prompts, which so are encoded once for all.
        colouring: of the masks.
        other_patient: probability that the prompts are of other patients, rather than of other slides only.
        same_stain: probability that they are of the first query's stain, where there are such.
        glomerulus_weight: of the query's glomerulus pixels in the loss, against 1 of background.

    Raises:
        ConfigError: `prompts` or `queries` is below 1.
        DatalistError: there is but one slide to draw from.
    """

    def __init__(
        self,
        tiles: TileDataset,
        prompts: int = 3,
        colouring: Colouring | None = None,
        other_patient: float = 0.5,
        same_stain: float = 0.7,
        glomerulus_weight: float = 1.0,
        queries: int = 1,
    ) -> None:
        if min(prompts, queries) < 1:
            raise ConfigError(
                f"in-context training: prompts and queries must be 1 or more, not {prompts} and {queries}"
            )
        self.tiles = tiles
        self.prompts = prompts
        self.queries = queries
        self.colouring = colouring or Colouring()
        self.other_patient = other_patient
        self.same_stain = same_stain
        self.glomerulus_weight = glomerulus_weight
        self.items = sorted({target.item for target in _all_targets(tiles)})
        if len(self.items) < 2:
            raise DatalistError(
                f"{tiles.data[0]['label']}: in-context training takes query and prompts from different slides, and the "
                f"training split has one with something to draw; add another annotated slide"
            )
        patients = {tiles.data[item]["patient"] for item in self.items}
        self.has_patients = len(patients) > 1

    @property
    def seed(self) -> int:
        """Seed of all draws."""
        return self.tiles.seed

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose samples the next pass draws."""
        self.tiles.set_epoch(epoch)

    def __len__(self) -> int:
        """Samples an epoch."""
        return len(self.tiles)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Sample `index` of the current epoch, for tiles of S pixels, Q queries, K prompts; float32, RGB in 0..1.

        "image" (Q, 3, S, S); "label" (Q, 4, S, S): its painted mask and the weight of each pixel in the loss, 0 where
        nothing is known or a class is shown that no prompt shows; "prompt_images", "prompt_masks" (K, 3, S, S).

        Raises:
            BundleError: a slide or annotation cannot be read, or there is no palette of the colouring's name.
        """
        random = np.random.default_rng((self.seed, self.tiles.epoch, index))
        for _ in range(TRIES):
            queries, prompts, shared = self._draw(random)
            shown = {value for prompt in prompts for value in _classes(prompt)}
            if shared is None or shared in shown:
                break
        palette = torch.tensor(self.colouring.draw(random, shared), dtype=torch.float32)
        (query_images, query_labels), (prompt_images, prompt_labels) = (
            _stacked([_turned(tile, random) for tile in tiles]) for tiles in (queries, prompts)
        )
        weight = self._weight(query_labels, shown)
        return {
            "image": query_images,
            "label": torch.cat([paint(query_labels, palette), weight[:, None]], dim=1),
            "prompt_images": prompt_images,
            "prompt_masks": paint(prompt_labels, palette),
        }

    def _draw(self, random: np.random.Generator) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int | None]:
        """Queries, prompts, and a class of the first query that a prompt should show; `None` if it shows none."""
        part, pool = self._divide(random)
        queries = [_tile(part, random) for _ in range(self.queries)]
        if random.random() < self.same_stain:
            same = _part(pool, stain=lambda stain: stain == queries[0]["stain"])
            pool = same if same.targets else pool
        classes = _classes(queries[0])
        shared = classes[random.integers(len(classes))] if classes else None
        prompts = [_tile(pool, random) for _ in range(self.prompts - 1)]
        return queries, [self._first_prompt(pool, shared, random), *prompts], shared

    def _divide(self, random: np.random.Generator) -> tuple[TileDataset, TileDataset]:
        """Tiles for the query and for its prompts, of different slides and perhaps of different patients."""
        by_patient = self.has_patients and random.random() < self.other_patient
        group = {item: self.tiles.data[item]["patient"] if by_patient else item for item in self.items}
        groups = sorted(set(group.values()))
        random.shuffle(groups)
        first = set(groups[: max(1, len(groups) // 2)])
        queries = _part(self.tiles, item=lambda item: group[item] in first)
        pool = _part(self.tiles, item=lambda item: group[item] not in first)
        pool.background_fraction = 0.0
        return queries, pool

    def _first_prompt(self, pool: TileDataset, shared: int | None, random: np.random.Generator) -> dict[str, Any]:
        for _ in range(TRIES):
            # Drawn anywhere half of the time: at its own places a class is found at once, but one that is mostly pasted
            # would then be shown by the few slides alone that have it.
            own = _part(pool, label=lambda label: label == shared)
            prompt = _tile(own if own.targets and random.random() < 0.5 else pool, random)
            if shared is None or shared in _classes(prompt):
                break
        return prompt

    def _weight(self, label: torch.Tensor, shown: set[int]) -> torch.Tensor:
        weight = torch.where(label == BACKGROUND_INDEX, 1.0, self.glomerulus_weight)
        for value in (IGNORE_INDEX, *(c.index for c in GLOMERULUS_CLASSES if c.index not in shown)):
            weight[label == value] = 0
        return weight


def _any(value: object) -> bool:
    return True


def _part(
    tiles: TileDataset,
    item: Callable[[int], bool] = _any,
    stain: Callable[[str], bool] = _any,
    label: Callable[[int], bool] = _any,
) -> TileDataset:
    """The same tiles, drawn from these items, stains and classes alone; perhaps there are none."""
    targets: dict[str, dict[int, dict[str, list[Target]]]] = {}
    for name, by_class in tiles.targets.items():
        for index, by_patient in by_class.items():
            for patient, places in by_patient.items():
                kept = [t for t in places if stain(name) and label(index) and item(t.item)]
                if kept:
                    targets.setdefault(name, {}).setdefault(index, {})[patient] = kept
    part = copy(tiles)
    part.targets = targets
    items = {target.item for target in _all_targets(part)}
    part.items_by_stain = Counter(tiles.data[i]["stain"] for i in items)
    return part


def _all_targets(tiles: TileDataset) -> list[Target]:
    by_classes = (by_patient for by_class in tiles.targets.values() for by_patient in by_class.values())
    return [target for by_patient in by_classes for places in by_patient.values() for target in places]


def _tile(tiles: TileDataset, random: np.random.Generator) -> dict[str, Any]:
    return tiles[int(random.integers(2**31))]


def _turned(tile: dict[str, Any], random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Image (3, S, S) and label (1, S, S), float32, as one of the eight symmetries shows them."""
    symmetry = SYMMETRIES[random.integers(len(SYMMETRIES))]
    image, label = (torch.as_tensor(tile[key], dtype=torch.float32) for key in ("image", "label"))
    both = seen(torch.cat([image, label])[None], *symmetry)[0]
    return both[:3], both[3:]


def _stacked(tiles: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 3, S, S) and labels (N, S, S)."""
    images, labels = zip(*tiles, strict=True)
    return torch.stack(images), torch.cat(labels)


def _classes(tile: dict[str, Any]) -> list[int]:
    """The glomerulus classes that a tile shows."""
    values = np.unique(np.asarray(tile["label"])).tolist()
    return [c.index for c in GLOMERULUS_CLASSES if c.index in values]
