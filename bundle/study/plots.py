"""Boxplots of a study: Dice of each image by class, network and training."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bundle.atomic import atomic_path
from bundle.classes import CLASS_NAMES
from bundle.evaluation.tables import ALL
from bundle.study.further_tables import VIEWS, View, sets_of
from bundle.study.published import LEVELS, published
from bundle.study.results import DICE, Results

COLORS: Final = dict(zip(VIEWS, ("#4c78a8", "#72b7b2", "#f58518"), strict=True))
POINTS_UP_TO: Final = 60
"""With more images than this a box says more than its points."""


def boxplots(results: Results, networks: Sequence[str], path: Path) -> None:
    """Write a picture: a row for slides and one for crops, a column a class, a box a network and training.

    A diamond is the study's published mean.

    Raises:
        OutputError: `path` cannot be written.
    """
    figure = Figure(figsize=(4.2 * len(CLASS_NAMES), 3.4 * len(LEVELS)), layout="constrained")
    axes = figure.subplots(len(LEVELS), len(CLASS_NAMES), sharey=True, squeeze=False)
    for (i, level), (j, label) in product(enumerate(LEVELS), enumerate(CLASS_NAMES)):
        _panel(axes[i, j], results, networks, level, label)
        axes[i, j].set_title(f"{label.replace('_', ' ').capitalize()}, {LEVELS[level]}")
    for row in axes:
        row[0].set_ylabel("class-stratified Dice")
    diamond = Line2D([], [], color="black", marker="D", markersize=5, linestyle="none", label="published mean")
    boxes = [Patch(facecolor=color, label=f"trained on {view.words}") for view, color in COLORS.items()]
    figure.legend(handles=[*boxes, diamond], loc="outside lower center", ncols=len(boxes) + 1, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _panel(axes: Axes, results: Results, networks: Sequence[str], level: str, label: str) -> None:
    (test_set,) = sets_of(label)
    random = np.random.default_rng(0)  # spreads the points sideways
    for (i, network), (j, view) in product(enumerate(networks), enumerate(VIEWS)):
        x = i + 0.26 * (j - 1)
        images = results.images(network, view.stage, test_set + view.suffix, level)
        column = f"{DICE}_{label}"
        values = np.array([]) if images is None else images[column].dropna().to_numpy()
        if len(values):
            _box(axes, x, values, COLORS[view])
            if len(values) <= POINTS_UP_TO:
                axes.scatter(
                    x + random.uniform(-0.06, 0.06, len(values)), values, s=6, color="black", alpha=0.5, zorder=3
                )
        mean = _published_mean(network, view, test_set, level, label)
        axes.scatter([x], [mean], marker="D", s=22, color="black", edgecolor="white", zorder=4)
    axes.set_xticks(range(len(networks)), networks)
    axes.set_xlim(-0.5, max(len(networks), 1) - 0.5)
    axes.set_ylim(-0.03, 1.03)
    axes.grid(axis="y", alpha=0.3)


def _box(axes: Axes, x: float, values: np.ndarray, color: str) -> None:
    axes.boxplot(
        [values],
        positions=[x],
        widths=0.22,
        patch_artist=True,
        manage_ticks=False,
        showfliers=len(values) > POINTS_UP_TO,
        boxprops={"facecolor": color, "alpha": 0.8},
        medianprops={"color": "black"},
        flierprops={"marker": ".", "markersize": 3},
    )


def _published_mean(network: str, view: View, test_set: str, level: str, label: str) -> float:
    """NaN where the study has no such figure."""
    for table in published().tables.values():
        if (table.stage, "", table.test_set, table.label) == (view.stage, view.suffix, test_set, label):
            return table.figures.get((level, ALL, network), float("nan"))
    return float("nan")
