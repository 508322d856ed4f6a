"""Where the phantom's glomeruli and arteries lie, and their outlines: the exact ground truth.

The layout depends on the seed and the slide's extent in micrometres, not on `origin`.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bundle.classes import GLOBAL, NORMAL, SEGMENTAL
from bundle.errors import ConfigError
from bundle.phantom.spec import PhantomSpec
from bundle.phantom.tissue import Tissue, lay_cores

OUTLINE_VERTICES = 128
GAP_UM = 15.0
"""Least distance between two structures, and between a structure and the tissue's surface."""
ARTERY = 0
"""`Structure.label` of an artery, which is background in the truth."""

ARTERIES_PER_MM2 = 1.2
MAX_DIAMETER_UM = 280.0
# (least, most, mode) of the diameter in µm. A sclerosed glomerulus shrinks.
DIAMETERS_UM = {
    NORMAL.index: (120, MAX_DIAMETER_UM, 190),
    SEGMENTAL.index: (120, MAX_DIAMETER_UM, 185),
    GLOBAL.index: (80, 180, 125),
    ARTERY: (50, 200, 75),
}
# The roughest outline reaches this many mean radii.
_ROUGHEST = 1.16
_CELL_UM = MAX_DIAMETER_UM * _ROUGHEST + GAP_UM
_TRIES_PER_STRUCTURE = 60
_ROUNDS_WHEN_EXACT = 100
"""Times the tries for a glomerulus that must be placed: the last ones search a nearly full core."""


@dataclass(frozen=True, eq=False)
class Structure:
    """A glomerulus (label 1 to 3) or an artery (0), star-shaped about its centre; micrometres of the world.

    `radii_um` are the distances of the outline's vertices at equally spaced angles from 0. `sclerosed` is the share
    of the tuft that is solid; `seed` decides everything inside.
    """

    label: int
    x_um: float
    y_um: float
    radii_um: np.ndarray
    sclerosed: float
    seed: int

    @cached_property
    def reach_um(self) -> float:
        """The largest radius."""
        return float(self.radii_um.max())

    def vertices_um(self, grow_um: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """x and y of the outline's vertices, `grow_um` further out."""
        angles = np.arange(len(self.radii_um)) * (2 * np.pi / len(self.radii_um))
        radii = self.radii_um + grow_um
        return self.x_um + radii * np.cos(angles), self.y_um + radii * np.sin(angles)


@dataclass(frozen=True, eq=False)
class Layout:
    """The tissue and the structures in it."""

    tissue: Tissue
    structures: tuple[Structure, ...]

    @cached_property
    def _boxes(self) -> np.ndarray:
        return np.array([(s.x_um, s.y_um, s.reach_um) for s in self.structures]).reshape(-1, 3)

    def near(self, x0: float, y0: float, x1: float, y1: float, margin_um: float) -> Iterator[Structure]:
        """The structures that may reach within `margin_um` of a window, all in micrometres."""
        x, y, reach = self._boxes.T
        reach = reach + margin_um
        hit = (x + reach > x0) & (x - reach < x1) & (y + reach > y0) & (y - reach < y1)
        return (self.structures[i] for i in np.flatnonzero(hit))


def lay_out(spec: PhantomSpec) -> Layout:
    """The layout of a phantom: same spec, same layout; `origin`, `stain` and `oracle` do not matter.

    Raises:
        ConfigError: the exact `counts` of glomeruli do not fit into the tissue.
    """
    rng = np.random.default_rng([spec.seed, 1])
    tissue = lay_cores(spec, rng)
    area_mm2 = tissue.area_mm2()
    glomeruli = rng.permutation(np.repeat([NORMAL.index, SEGMENTAL.index, GLOBAL.index], _numbers(spec, area_mm2)))
    labels = np.concatenate([glomeruli, np.full(round(ARTERIES_PER_MM2 * area_mm2), ARTERY)])
    rounds = 1 if spec.counts is None else _ROUNDS_WHEN_EXACT
    structures = tuple(_place(tissue, labels, rng, rounds))
    placed = sum(s.label != ARTERY for s in structures)
    if spec.counts is not None and placed < len(glomeruli):
        raise ConfigError(
            f"phantom slide: only {placed} of {len(glomeruli)} glomeruli fit; take a larger size or lower counts; "
            f"got {spec}"
        )
    return Layout(tissue, structures)


def _numbers(spec: PhantomSpec, area_mm2: float) -> np.ndarray:
    """Wanted glomeruli by class: as counted, or by density, shared out by largest remainder.

    Then every class with a share gets one where there are enough.
    """
    if spec.counts is not None:
        return np.array(spec.counts)
    count = round(spec.glomeruli_per_mm2 * area_mm2)
    if spec.glomeruli_per_mm2 > 0:
        count = max(count, 1)
    share = np.array(spec.class_fractions) / sum(spec.class_fractions)
    numbers = np.floor(share * count).astype(int)
    for i in np.argsort(numbers - share * count, kind="stable")[: count - numbers.sum()]:
        numbers[i] += 1
    for i in np.flatnonzero((share > 0) & (numbers == 0)):
        if count >= np.count_nonzero(share):
            numbers[i] += 1
            numbers[np.argmax(numbers)] -= 1
    return numbers


def _place(tissue: Tissue, labels: np.ndarray, rng: np.random.Generator, rounds: int) -> Iterator[Structure]:
    """Throw darts. What finds no room is left out; after several rounds for a glomerulus, all that follows is.

    A grid of cells larger than any structure keeps the look for neighbours local.
    """
    taken: dict[tuple[int, int], list[Structure]] = defaultdict(list)
    for label in labels:
        radii = _outline(int(label), rng)
        for _ in range(1 if label == ARTERY else rounds):
            structure = _throw(tissue, int(label), radii, taken, rng)
            if structure is not None:
                taken[_cell(structure.x_um, structure.y_um)].append(structure)
                yield structure
                break
        else:
            if rounds > 1 and label != ARTERY:
                return


def _throw(
    tissue: Tissue,
    label: int,
    radii: np.ndarray,
    taken: Mapping[tuple[int, int], Sequence[Structure]],
    rng: np.random.Generator,
) -> Structure | None:
    """A structure at the first of `_TRIES_PER_STRUCTURE` random places that has room for it."""
    reach = float(radii.max())
    xs, ys = tissue.random_points(rng, _TRIES_PER_STRUCTURE)
    # The coarse look at the centre spares most of the looks at whole outlines.
    for x, y in np.stack([xs, ys], axis=1)[tissue.depth(xs, ys) > reach * 0.7]:
        structure = Structure(label, float(x), float(y), radii, _sclerosed(label, rng), 0)
        column, row = _cell(x, y)
        neighbours = (t for i in (-1, 0, 1) for j in (-1, 0, 1) for t in taken.get((column + i, row + j), ()))
        if any(np.hypot(x - t.x_um, y - t.y_um) < reach + t.reach_um + GAP_UM for t in neighbours):
            continue
        if tissue.depth(*structure.vertices_um()).min() >= GAP_UM:
            return replace(structure, seed=int(rng.integers(2**31)))
    return None


def _cell(x_um: float, y_um: float) -> tuple[int, int]:
    return int(x_um // _CELL_UM), int(y_um // _CELL_UM)


def _outline(label: int, rng: np.random.Generator) -> np.ndarray:
    least, most, mode = DIAMETERS_UM[label]
    radius = rng.triangular(least, mode, most) / 2
    angles = np.arange(OUTLINE_VERTICES) * (2 * np.pi / OUTLINE_VERTICES)
    wobble = np.zeros(OUTLINE_VERTICES)
    for waves, amplitude in ((2, 0.08), (3, 0.035), (4, 0.02), (5, 0.015), (7, 0.01)):
        wobble += amplitude * rng.uniform(0.1, 1) * np.cos(waves * angles + rng.uniform(0, 2 * np.pi))
    return radius * (1 + wobble)


def _sclerosed(label: int, rng: np.random.Generator) -> float:
    return {NORMAL.index: 0.0, SEGMENTAL.index: float(rng.uniform(0.2, 0.6)), GLOBAL.index: 1.0}.get(label, 0.0)
