"""Splitting slides into training, validation and test by patient, with each stain and class in proportion."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from bundle.data.datalist import DatalistItem
from bundle.errors import DatalistError

DEFAULT_FRACTIONS: Final[Mapping[str, float]] = {"training": 0.7, "validation": 0.15, "test": 0.15}


def split_by_patient(
    items: Sequence[DatalistItem], fractions: Mapping[str, float] = DEFAULT_FRACTIONS, seed: int = 0
) -> dict[str, list[DatalistItem]]:
    """Put whole patients into splits so that each stain, and each class of it, comes near to `fractions`.

    Patients are taken largest first, equal ones in an order drawn by `seed`, and each goes where it lowers the sum of
    squared distances to the wanted counts most (greedy, after the idea of iterative stratification: Sechidis et al.
    2011).

    Args:
        items: slides; `classes` may be unknown.
        fractions: part of each split; zero leaves a split out. They need not sum to 1.
        seed: order of equal patients.

    Raises:
        DatalistError: fewer patients than splits, or fractions that make no sense.
    """
    total = sum(fractions.values())
    if total <= 0 or min(fractions.values()) < 0:
        raise DatalistError(f"fractions {dict(fractions)} must not be negative, and at least one positive")
    wanted = {split: part / total for split, part in fractions.items() if part > 0}
    groups: dict[str, list[DatalistItem]] = defaultdict(list)
    for item in items:
        groups[item.patient].append(item)
    if len(groups) < len(wanted):
        raise DatalistError(f"{len(groups)} patients cannot fill {len(wanted)} splits; set fewer `fractions` above 0")
    chosen = _assign({patient: _strata(group) for patient, group in groups.items()}, wanted, seed)
    return {split: [item for item in items if chosen[item.patient] == split] for split in wanted}


def _strata(items: Sequence[DatalistItem]) -> Counter[tuple[str, str]]:
    """Slides of a patient by (stain, "") and (stain, class)."""
    return Counter((item.stain, name) for item in items for name in ("", *(item.classes or ())))


def _assign(counts: Mapping[str, Counter[tuple[str, str]]], wanted: Mapping[str, float], seed: int) -> dict[str, str]:
    order = np.random.default_rng(seed).permutation(sorted(counts)).tolist()
    order.sort(key=lambda patient: -counts[patient].total())
    totals = sum(counts.values(), Counter())
    have: dict[str, Counter[tuple[str, str]]] = {split: Counter() for split in wanted}
    chosen: dict[str, str] = {}
    for place, patient in enumerate(order):
        empty = [split for split in wanted if not have[split]]
        # The last patients are kept for splits that would stay empty.
        open_splits = empty if len(order) - place <= len(empty) else list(wanted)
        best = min(open_splits, key=lambda split: _cost(counts[patient], have[split], totals, wanted[split]))
        have[best].update(counts[patient])
        chosen[patient] = best
    return chosen


def _cost(added: Counter, have: Counter, totals: Counter, fraction: float) -> float:
    """How much the squared relative distance to the wanted counts grows when `added` joins `have`."""
    growth = 0.0
    for stratum, count in added.items():
        gap = have[stratum] - fraction * totals[stratum]
        growth += ((gap + count) ** 2 - gap**2) / (fraction * totals[stratum] ** 2)
    return growth
