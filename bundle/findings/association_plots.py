"""Heat map and volcano plot of the association."""

import math
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from bundle.atomic import atomic_path
from bundle.findings.association_pairs import threshold
from bundle.findings.clinical import Kind

STRONGEST: Final = 6.0
"""|log10 p| at which the heat map's colour ends."""

LABELS: Final = 6
"""Names in a panel of the volcano plot."""

LABEL_GAP: Final = 0.03
"""Least distance of two names, of the panel's height."""

MAX_ROWS: Final = 80
"""Features in the heat map: those of the smallest p, in the table's order."""

FOUND, OTHER, LINE = "#c8102e", "#9aa5b1", "#444444"


def heat_map(table: pd.DataFrame, path: Path, fdr: float) -> None:
    """Write a picture: a row a feature, a column a variable, colour by log10 p and direction, a dot where found.

    Variables of several groups have no direction and a panel of their own. What was not tested is hatched.

    Raises:
        OutputError: `path` cannot be written.
    """
    best = table.groupby("feature")["p"].min().sort_values(kind="stable").index[:MAX_ROWS]
    features = [name for name in table["feature"].drop_duplicates() if name in best]
    shown = table[table["feature"].isin(features)]
    parts = [part for is_group, part in shown.groupby(shown["kind"] == str(Kind.CATEGORICAL))]
    widths = [part["variable"].nunique() for part in parts]
    figure = Figure(figsize=(4.2 + 0.55 * sum(widths), 2.6 + 0.19 * len(features)), layout="constrained")
    axes = figure.subplots(1, len(parts), squeeze=False, width_ratios=widths, sharey=True)[0]
    for panel, part in zip(axes, parts, strict=True):
        is_group = bool((part["kind"] == str(Kind.CATEGORICAL)).all())
        image = _cells(panel, part, features, fdr, signed=not is_group)
        label = "$-\\log_{10}p$" + ("" if is_group else " with its direction as sign")
        figure.colorbar(image, ax=panel, location="bottom", shrink=0.9, label=label)
    axes[0].set_yticks(range(len(features)), features, fontsize=7)
    figure.suptitle(f"Features and clinical variables; dots: false-discovery rate {fdr:g}", fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _cells(axes: Axes, part: pd.DataFrame, features: list[str], fdr: float, *, signed: bool) -> AxesImage:
    variables = list(part["variable"].drop_duplicates())
    strength = -np.log10(part["p"].clip(lower=1e-300)) * (part["direction"] if signed else 1.0)
    grid = _grid(part.assign(value=strength), "value", features, variables)
    axes.set_facecolor("#eeeeee")
    axes.patch.set(hatch="////", edgecolor="#cccccc")
    limits = (-STRONGEST, STRONGEST) if signed else (0.0, STRONGEST)
    image = axes.imshow(grid, cmap="RdBu_r" if signed else "Purples", vmin=limits[0], vmax=limits[1], aspect="auto")
    rows, columns = np.nonzero(_grid(part, "q", features, variables) <= fdr)
    axes.scatter(columns, rows, s=9, color="black", edgecolor="white", linewidth=0.5)
    axes.set_xticks(range(len(variables)), variables, rotation=45, ha="right", fontsize=8)
    axes.tick_params(length=0)
    return image


def _grid(part: pd.DataFrame, value: str, features: list[str], variables: list[str]) -> NDArray[np.float64]:
    table = part.pivot(index="feature", columns="variable", values=value)
    return table.reindex(index=features, columns=variables).to_numpy(float)


def volcano(table: pd.DataFrame, path: Path, fdr: float) -> None:
    """Write a picture: a panel a measure of effect, a dot a pair, effect against log10 p, the strongest named.

    Raises:
        OutputError: `path` cannot be written.
    """
    tested = table[table["p"].notna()]
    measures = list(tested["measure"].drop_duplicates()) or [""]
    columns = 2 if len(measures) in (2, 4) else min(3, len(measures))
    rows = math.ceil(len(measures) / columns)
    figure = Figure(figsize=(4.4 * columns, 3.9 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for panel, measure in zip(axes, measures, strict=False):
        _panel(panel, tested[tested["measure"] == measure], measure, fdr, threshold(table, fdr))
    for panel in axes[len(measures) :]:
        panel.set_visible(False)
    for panel in axes[::columns]:
        panel.set_ylabel("$-\\log_{10}p$")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _panel(axes: Axes, pairs: pd.DataFrame, measure: str, fdr: float, line: float | None) -> None:
    is_ratio = measure.startswith("hazard ratio")
    effect, height = pairs["effect"], -np.log10(pairs["p"].clip(lower=1e-300))
    colours = np.where(pairs["q"] <= fdr, FOUND, OTHER)
    axes.scatter(effect, height, s=14, c=colours, alpha=0.8, linewidth=0)
    if is_ratio:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="x", which="both", labelsize=7)
    axes.axvline(1.0 if is_ratio else 0.0, color=LINE, linewidth=0.6)
    if line is not None:
        axes.axhline(-math.log10(max(line, 1e-300)), color=LINE, linewidth=0.6, linestyle="--")
    axes.set_title(f"{measure} ({len(pairs)} pairs)", fontsize=9)
    axes.set_xlabel(measure, fontsize=8)
    axes.margins(0.18, 0.12)
    named: list[float] = []
    for row in pairs.assign(height=height)[pairs["q"] <= fdr].nsmallest(LABELS, "p").itertuples():
        if any(abs(row.height - other) < LABEL_GAP * height.max() for other in named):
            continue  # one name over another says nothing
        named.append(row.height)
        left = (row.effect < 1) if is_ratio else (row.effect < 0)
        axes.annotate(
            f"{row.feature}, {row.variable}",
            (row.effect, row.height),
            xytext=(4 if left else -4, 0),
            textcoords="offset points",
            ha="left" if left else "right",
            va="center",
            fontsize=6,
        )
