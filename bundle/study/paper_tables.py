"""Tables 3 to 6 of the study in its layout: a row a stain, a column a network, ours beside the published figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from bundle.evaluation.tables import ALL
from bundle.study.published import LEVELS, PaperTable, published
from bundle.study.results import DICE, Figure, Results

GAP: Final = "–"  # noqa: RUF001
"""For a figure that is not there."""


@dataclass(frozen=True)
class FilledTable:
    """A table of the study with our figures by (level, stain, network)."""

    paper: PaperTable
    networks: tuple[str, ...]
    ours: Mapping[tuple[str, str, str], Figure]

    def frame(self) -> pd.DataFrame:
        """Numbers: columns images, stain, then for each network what `Figure` holds, and "NETWORK published"."""
        rows = []
        for level, stain in self._rows():
            row: dict[str, object] = {"images": LEVELS[level], "stain": stain}
            for network in self.networks:
                figure = self.ours.get((level, stain, network))
                values = dict.fromkeys(Figure.__dataclass_fields__, np.nan) if figure is None else vars(figure)
                row |= {f"{network} {name}": value for name, value in values.items()}
                row[f"{network} published"] = self.paper.figures.get((level, stain, network), np.nan)
            rows.append(row)
        return pd.DataFrame(rows)

    def text(self) -> pd.DataFrame:
        """To read: columns images, stain, then for each network "mean ± std (images)" and what is published."""
        rows = []
        for level, stain in self._rows():
            row = {"images": LEVELS[level], "stain": stain}
            for network in self.networks:
                row[network] = text_of(self.ours.get((level, stain, network)))
                row[f"{network}, published"] = number(self.paper.figures.get((level, stain, network), np.nan))
            rows.append(row)
        return pd.DataFrame(rows)

    def _rows(self) -> list[tuple[str, str]]:
        """(level, stain): the study's stains in its order, then others of ours, ALL last."""
        pairs = dict.fromkeys(key[:2] for key in (*self.paper.figures, *self.ours))
        ordered = [(level, stain) for level in self.paper.levels for found, stain in pairs if found == level]
        return sorted(ordered, key=lambda pair: (list(LEVELS).index(pair[0]), pair[1] == ALL))


def fill(paper: PaperTable, results: Results, networks: Sequence[str]) -> FilledTable:
    """Our figures for a table of the study.

    Args:
        paper: the table.
        results: our evaluations.
        networks: names of our networks; those of the study come first, as far as the table or we have figures of them.
    """
    names = tuple(dict.fromkeys((*published().networks, *networks)))
    ours = {
        (level, stain, name): figure
        for name in names
        for level in paper.levels
        for stain, figure in results.figures(name, paper.stage, paper.test_set, level, DICE, paper.label).items()
    }
    shown = {network for _, _, network in (*paper.figures, *ours)} | set(networks)
    return FilledTable(paper, tuple(name for name in names if name in shown), ours)


def text_of(figure: Figure | None, digits: int = 3) -> str:
    """ "mean ± std (images)"; a dash for none."""
    if figure is None:
        return GAP
    std = "" if np.isnan(figure.std) else f" ± {figure.std:.{digits}f}"
    return f"{figure.mean:.{digits}f}{std} ({figure.images})"


def number(value: float, *, signed: bool = False) -> str:
    """Three digits, with its sign where `signed`; a dash for NaN."""
    return GAP if np.isnan(value) else f"{value:{'+' if signed else ''}.3f}"
