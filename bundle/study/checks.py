"""The study's pattern, which a reproduction must show whatever its absolute figures: judged on ours and on its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from bundle.evaluation.tables import ALL
from bundle.study.paper_tables import GAP, number
from bundle.study.published import published
from bundle.study.results import DICE, Results

HIGH: Final = 0.8
"""Least Dice on normal glomeruli that counts as high."""

Means = Callable[[int, str], float]
"""Mean Dice of ALL in a table of the study at a level; NaN where there is none."""


@dataclass(frozen=True)
class Finding:
    """The two numbers (or a number and its limits) of a check, and whether they are as the study says."""

    numbers: tuple[float, ...]
    holds: bool

    @property
    def text(self) -> str:
        """ "0.005 against 0.460"."""
        return f"{number(self.numbers[0])} against {' to '.join(number(value) for value in self.numbers[1:])}"

    @property
    def verdict(self) -> str:
        """In a word; a dash where a number is missing."""
        if np.isnan(self.numbers).any():
            return GAP
        return "reproduced" if self.holds else "not reproduced"


def normal_is_high(means: Means) -> Finding:
    """Normal glomeruli are segmented well."""
    normal = means(3, "slides")
    return Finding((normal, HIGH), normal >= HIGH)


def global_collapses(means: Means) -> Finding:
    """Global sclerosis falls below half of that where it was not trained."""
    untrained, half = means(5, "slides"), means(3, "slides") / 2
    return Finding((untrained, half), untrained < half)


def crops_gain_more(means: Means) -> Finding:
    """Fine-tuning raises Dice of crops more than that of slides."""
    crops, slides = (means(6, level) - means(5, level) for level in ("crops", "slides"))
    return Finding((crops, slides), crops > slides)


def segmental_is_between(means: Means) -> Finding:
    """Segmental sclerosis lies between global and normal."""
    segmental, worst, best = means(4, "slides"), means(5, "slides"), means(3, "slides")
    return Finding((segmental, worst, best), worst < segmental < best)


CHECKS: Final = {
    f"Normal glomeruli: Dice (Table 3) against {HIGH}": normal_is_high,
    "Trained on normal only: Dice of global sclerosis (Table 5, slides) against half of Table 3": global_collapses,
    "Fine-tuning: gain of crops against gain of slides (Table 6 minus Table 5)": crops_gain_more,
    "Segmental sclerosis (Table 4) against global (Table 5) to normal (Table 3)": segmental_is_between,
}


def check(results: Results, networks: Sequence[str]) -> pd.DataFrame:
    """Every check of every network: columns check, network, ours, verdict, published."""
    rows = []
    for name, judge in CHECKS.items():
        for network in networks:
            ours, study = judge(_ours(results, network)), judge(_published(network))
            row = {"check": name, "network": network, "ours": ours.text, "verdict": ours.verdict}
            rows.append(row | {"published": GAP if study.verdict == GAP else study.text})
    return pd.DataFrame(rows, columns=["check", "network", "ours", "verdict", "published"])


def _ours(results: Results, network: str) -> Means:
    def mean(table_number: int, level: str) -> float:
        table = published().tables[table_number]
        return results.overall(network, table.stage, table.test_set, level, DICE, table.label)

    return mean


def _published(network: str) -> Means:
    return lambda table_number, level: published().tables[table_number].figures.get((level, ALL, network), float("nan"))
