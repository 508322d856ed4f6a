"""From one row an image to the tables of a paper: per stain, patient and slide, as CSV and Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bundle.atomic import write_text
from bundle.classes import CLASS_NAMES
from bundle.evaluation.statistics import Interval, bootstrap_interval, patients_of

ALL = "ALL"
FOREGROUND = "glomerulus"
"""Name of the union of all classes."""

DESCRIPTORS = ("slide", "crop", "patient", "stain")
"""What a row of a table says of its image."""

SUMMARY_COLUMNS = ("measure", "class", "mean", "std", "n", "patients", "low", "high")


def summarise(frame: pd.DataFrame, by: str, measures: Sequence[str]) -> pd.DataFrame:
    """Mean, standard deviation (n - 1), number of images and of patients, and 95 % interval of each measure.

    Args:
        frame: one row an image; columns MEASURE_CLASS, or MEASURE for what has no class.
        by: a descriptor column, e.g. "stain" or "patient".
        measures: what to summarise.

    Returns:
        One row a group, measure and class: `by` and `SUMMARY_COLUMNS`; groups sorted, ALL last. Images without the
        class (NaN) do not count; a class without any has n = 0 and NaN. The interval is a bootstrap over patients
        (`bundle.evaluation.statistics.bootstrap_interval`), NaN with fewer than 2.
    """
    rows = []
    for name, group in groups(frame, by):
        for column, measure, label in _columns(frame, measures):
            interval = bootstrap_interval(group[column], patients_of(group))
            rows.append(summary_row(by, name, measure, label, interval, float(group[column].std())))
    return pd.DataFrame(rows, columns=[by, *SUMMARY_COLUMNS])


def groups(frame: pd.DataFrame, by: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The images of each value of `by`, sorted, then ALL."""
    for value, group in frame.groupby(by, sort=True):
        yield str(value), group
    yield ALL, frame


def summary_row(by: str, group: str, measure: str, label: str, interval: Interval, std: float) -> dict[str, object]:
    """One row of a summary."""
    values = (measure, label, interval.mean, std, interval.images, interval.patients, interval.low, interval.high)
    return {by: group, **dict(zip(SUMMARY_COLUMNS, values, strict=True))}


def _columns(frame: pd.DataFrame, measures: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(column, measure, class) of what the measures cover; the class is empty where a measure has none."""
    for measure in measures:
        for label in (FOREGROUND, *CLASS_NAMES):
            if f"{measure}_{label}" in frame:
                yield f"{measure}_{label}", measure, label
        if measure in frame:
            yield measure, measure, ""


def markdown(summary: pd.DataFrame, by: str) -> str:
    """A summary of one measure as a Markdown table, a column a class: "mean ± std [low, high] (n)"."""
    cells = summary.assign(cell=[cell(row) for row in summary.to_dict("records")])
    table = cells.pivot(index=by, columns="class", values="cell")
    table = table.loc[cells[by].drop_duplicates(), cells["class"].drop_duplicates()]
    # Else tabulate reads "0.250 (1)" as it likes.
    return table.rename(columns=_heading).reset_index().to_markdown(index=False, disable_numparse=True)


def _heading(label: str) -> str:
    return label.replace("_", " ") or "slide"


def cell(row: Mapping[str, float]) -> str:
    """ "mean ± std [low, high] (n)" of one row of a summary, as far as there is one."""
    if not row["n"] or np.isnan(row["mean"]):
        return "n/a (0)"
    std = "" if np.isnan(row["std"]) else f" ± {row['std']:.3f}"
    interval = "" if np.isnan(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['mean']:.3f}{std}{interval} ({row['n']:.0f})"


def one_line(summary: pd.DataFrame) -> str:
    """The rows ALL of a summary, for a log: "glomerulus 0.921 ± 0.030 (5), normal n/a (0), ..."."""
    overall = summary[summary.iloc[:, 0] == ALL]
    return ", ".join(f"{_heading(row['class'])} {cell(row)}" for row in overall.to_dict("records"))


def write_tables(frame: pd.DataFrame, summaries: Mapping[str, pd.DataFrame], folder: Path | str, title: str) -> None:
    """Write per_image.csv, per_DESCRIPTOR.csv for each of `summaries`, and summary.md into `folder`.

    Raises:
        OutputError: they cannot be written.
    """
    folder = Path(folder)
    sections = [
        f"# {title}",
        "Mean ± standard deviation [95 % interval, bootstrap over patients] (number of images that have the class). "
        "`pooled_` measures add the counts of all images up first.",
    ]
    write_text(folder / "per_image.csv", frame.to_csv(index=False))
    for by, summary in summaries.items():
        write_text(folder / f"per_{by}.csv", summary.to_csv(index=False))
        for measure, part in summary.groupby("measure", sort=False):
            sections += [f"## {measure} per {by}", markdown(part, by)]
    write_text(folder / "summary.md", "\n\n".join(sections) + "\n")
