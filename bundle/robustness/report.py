"""Table and plot of a robustness protocol, of one model or of several beside each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bundle.atomic import atomic_path, write_text
from bundle.classes import CLASS_NAMES
from bundle.errors import DatalistError
from bundle.evaluation.tables import ALL, FOREGROUND, cell
from bundle.robustness.perturbations import UNPERTURBED

MEASURES: Final = ("dice", "stratified_dice", "pooled_f1")
GROUP: Final = ["model", "stain", "measure", "class"]
RESULTS: Final = "robustness.csv"
PLOTTED: Final = ("dice", "pooled_f1")


def read_results(paths: Sequence[Path | str]) -> pd.DataFrame:
    """The robustness.csv of several models, one below the other.

    Raises:
        DatalistError: a file cannot be read, is something else, or has a model that another has too.
    """
    frames: list[pd.DataFrame] = []
    for path in map(Path, paths):
        try:
            frame = pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise DatalistError(f"{path}: not a table that can be read ({error})") from error
        missing = [name for name in (*GROUP, "perturbation", "mean") if name not in frame]
        if missing:
            raise DatalistError(f"{path}: has no column {missing[0]!r}; give a {RESULTS} of configs/robustness.yaml")
        both = {model for other in frames for model in other["model"]} & set(frame["model"])
        if both:
            raise DatalistError(f"{path}: the model {min(both)!r} occurs twice; run it again with another --model_name")
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def ranges(frame: pd.DataFrame) -> pd.DataFrame:
    """Of each model, stain, measure and class: unperturbed value, lowest and highest, where, and their difference.

    Args:
        frame: rows of robustness.csv; rows without a value do not count.
    """
    rows = []
    for key, group in frame.dropna(subset="mean").groupby(GROUP, sort=False):
        values = group.set_index("perturbation")["mean"]
        row = {
            UNPERTURBED: values.get(UNPERTURBED, np.nan),
            "min": values.min(),
            "min_at": values.idxmin(),
            "max": values.max(),
            "max_at": values.idxmax(),
            "range": values.max() - values.min(),
        }
        rows.append({**dict(zip(GROUP, key, strict=True)), **row})
    return pd.DataFrame(rows, columns=[*GROUP, UNPERTURBED, "min", "min_at", "max", "max_at", "range"])


def write_report(frame: pd.DataFrame, folder: Path | str) -> None:
    """Write robustness.csv, range.csv, robustness.md and robustness.png.

    Args:
        frame: columns model, perturbation, stain, measure, class, mean, std, n, patients, low, high.
        folder: where to.

    Raises:
        OutputError: they cannot be written.
    """
    folder = Path(folder)
    table = ranges(frame)
    write_text(folder / RESULTS, frame.to_csv(index=False))
    write_text(folder / "range.csv", table.to_csv(index=False))
    write_text(folder / "robustness.md", _markdown(frame, table))
    figure = _plot(frame)
    with atomic_path(folder / "robustness.png") as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def _markdown(frame: pd.DataFrame, table: pd.DataFrame) -> str:
    parts = [
        "# Robustness",
        "Mean ± standard deviation over slides [95 % interval, bootstrap over patients] (slides that have the class); "
        "`pooled_f1` adds the counts of all slides up first. Ranges are from the lowest to the highest perturbation, "
        f"{UNPERTURBED} among them.",
    ]
    numbers = table.round(3)
    for measure in MEASURES:
        part = numbers[numbers["measure"] == measure].drop(columns="measure")
        if len(part):
            parts += [f"## Range of {measure}", part.to_markdown(index=False)]
    overall = frame[frame["stain"] == ALL]
    for (model, measure), group in overall.groupby(["model", "measure"], sort=False):
        cells = group.assign(cell=[cell(row) for row in group.to_dict("records")])
        wide = cells.pivot(index="perturbation", columns="class", values="cell")
        wide = wide.loc[cells["perturbation"].drop_duplicates(), cells["class"].drop_duplicates()]
        parts += [
            f"## {model}: {measure}, all stains",
            wide.reset_index().to_markdown(index=False, disable_numparse=True),
        ]
    return "\n\n".join(parts) + "\n"


def _plot(frame: pd.DataFrame) -> Figure:
    """A row a measure, a column a class that has any value; a line a model over the perturbations."""
    overall = frame[(frame["stain"] == ALL) & frame["measure"].isin(PLOTTED)].dropna(subset="mean")
    names = list(frame["perturbation"].drop_duplicates())
    labels = [name for name in (FOREGROUND, *CLASS_NAMES) if (overall["class"] == name).any()] or [FOREGROUND]
    figure = Figure(figsize=(1.5 + 4.2 * len(labels), 3.2 * len(PLOTTED)), layout="constrained")
    axes = figure.subplots(len(PLOTTED), len(labels), sharex=True, sharey=True, squeeze=False)
    for i, measure in enumerate(PLOTTED):
        for j, label in enumerate(labels):
            chosen = overall[(overall["measure"] == measure) & (overall["class"] == label)]
            _panel(axes[i, j], chosen, names)
            axes[i, j].set_title(f"{label.replace('_', ' ')}, {measure.replace('_', ' ')}")
    axes[0, 0].legend(frameon=False, fontsize="small")
    return figure


def _panel(axes: Axes, frame: pd.DataFrame, names: Sequence[str]) -> None:
    for number, (model, group) in enumerate(frame.groupby("model", sort=False)):
        values = group.set_index("perturbation")["mean"].reindex(names)
        low, high = values.min(), values.max()
        axes.axhspan(low, high, color=f"C{number}", alpha=0.12, linewidth=0)
        axes.plot(range(len(names)), values, marker="o", markersize=4, label=f"{model}: {low:.2f} to {high:.2f}")
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize="small")
    axes.set_ylim(-0.02, 1.02)
    axes.grid(axis="y", alpha=0.3)
