"""Write what a study has found: study.md with all tables, a CSV file a table, and the boxplots."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bundle.atomic import write_text
from bundle.study.checks import check
from bundle.study.further_tables import (
    comparisons,
    comparisons_text,
    confounder,
    confounder_text,
    detection,
    detection_numbers,
    detection_text,
)
from bundle.study.paper_tables import fill
from bundle.study.plan import Cell
from bundle.study.plots import boxplots
from bundle.study.published import published
from bundle.study.results import Results
from bundle.study.running import record_of, shell

FURTHER = {
    "checks": (
        "The study's pattern",
        "What a reproduction must show whatever its absolute figures: mean Dice over images of all stains. A verdict "
        "looks at the two means only, not at how sure they are; where the first check fails, the others say little.",
    ),
    "confounder": (
        "Tiles in pixels against tiles in micrometres",
        "The same weights, trained on normal glomeruli. A tile of the study is fixed in pixels, so that a slide of "
        "half the magnification shows its glomeruli at half the size that the network has learned; a tile fixed in "
        "micrometres shows every slide as the training slides were. F1 is that of glomeruli of any class.",
    ),
    "detection": (
        "Glomeruli as objects",
        "F1 and panoptic quality of glomeruli of any class on whole slides (IoU above 0.5), as mean over slides and "
        "pooled; HD95 in crops where something was found, by the class of the glomerulus in their middle.",
    ),
    "paired_tests": (
        "Tests between networks",
        "Dice of the first minus that of the second: Wilcoxon signed-rank test over patients, not corrected for the "
        "number of tests.",
    ),
}
"""Heading and explanation of what stands beside the study's tables, by file name."""


def write_report(cells: Sequence[Cell], networks: Sequence[str], output_dir: Path) -> None:
    """Write study.md, table3.csv to table6.csv, a CSV file for each of `FURTHER`, cells.csv and boxplots.png.

    Args:
        cells: all of the study, run or not.
        networks: names of its networks.
        output_dir: folder of its results; what is not there is a dash.

    Raises:
        OutputError: a file cannot be written.
    """
    results = Results(output_dir)
    others = [name for name in published().networks if name not in networks and (output_dir / name).is_dir()]
    shown = [*networks, *others]
    sections = ["# The study, reproduced", _introduction(cells)]
    for paper in published().tables.values():
        table = fill(paper, results, networks)
        write_text(output_dir / f"table{paper.number}.csv", table.frame().to_csv(index=False))
        sections += [f"## Table {paper.number}: {paper.title}", _markdown(table.text())]
    for name, (numbers, text) in _further(results, shown).items():
        write_text(output_dir / f"{name}.csv", numbers.to_csv(index=False))
        sections += [f"## {FURTHER[name][0]}", FURTHER[name][1], _markdown(text)]
    write_text(output_dir / "cells.csv", _cells(cells).to_csv(index=False))
    boxplots(results, shown, output_dir / "boxplots.png")
    sections += ["## Dice of each image", "![Boxplots of class-stratified Dice](boxplots.png)"]
    write_text(output_dir / "study.md", "\n\n".join(sections) + "\n")


def _further(results: Results, networks: Sequence[str]) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Each table of `FURTHER` as numbers and to read."""
    checks, objects = check(results, networks), detection(results, networks)
    tiles, tests = confounder(results, networks), comparisons(results, networks)
    return {
        "checks": (checks, checks),
        "confounder": (tiles, confounder_text(tiles)),
        "detection": (detection_numbers(objects), detection_text(objects)),
        "paired_tests": (tests, comparisons_text(tests)),
    }


def _introduction(cells: Sequence[Cell]) -> str:
    missing = [cell.name for cell in cells if record_of(cell) is None]
    gaps = f"\n\nWithout a result so far: {', '.join(missing)}." if missing else ""
    return (
        f"Published figures: {published().source}; they are of the study's own slides, which are private. Ours are of "
        "the cohort that this study was given: class-stratified Dice, mean ± standard deviation over images (number "
        "of images). The CSV files have patients and 95 % intervals too (bootstrap over patients, columns low and "
        f"high), and cells.csv has every command.{gaps}"
    )


def _cells(cells: Sequence[Cell]) -> pd.DataFrame:
    seconds = [(record_of(cell) or {}).get("seconds") for cell in cells]
    names, commands = [cell.name for cell in cells], [shell(cell) for cell in cells]
    return pd.DataFrame({"cell": names, "seconds": seconds, "command": commands})


def _markdown(table: pd.DataFrame) -> str:
    return table.to_markdown(index=False, disable_numparse=True)
