"""What the study has no table for: pixels against micrometres, glomeruli as objects, and tests between networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Final

import numpy as np
import pandas as pd

from bundle.classes import CLASS_NAMES, NORMAL
from bundle.errors import DatalistError
from bundle.evaluation import paired_tests
from bundle.evaluation.tables import ALL, FOREGROUND
from bundle.study import plan
from bundle.study.paper_tables import GAP, number, text_of
from bundle.study.published import LEVELS, published
from bundle.study.results import DICE, Figure, Results


@dataclass(frozen=True)
class View:
    """How weights were trained and look at a slide: stage, end of the test set's folder, and both in words."""

    stage: str
    suffix: str
    words: str


VIEWS: Final = (
    View(plan.NORMAL, "", "normal"),
    View(plan.NORMAL, plan.PHYSICAL, "normal, tiles in µm"),
    View(plan.MIXED, "", "normal, then Mixed"),
)


def confounder(results: Results, networks: Sequence[str]) -> pd.DataFrame:
    """Tiles in pixels against tiles in micrometres, by the same weights: mean Dice and F1 over images of all stains.

    F1 is that of glomeruli of any class: objects of a one-channel network have no class.

    Returns:
        Columns network, glomeruli, measure, images, pixels, micrometres, change.
    """
    dice = [(DICE, label, level) for label, level in product(CLASS_NAMES, LEVELS)]
    rows = []
    for network, (measure, label, level) in product(networks, [*dice, ("f1", FOREGROUND, "slides")]):
        for test_set in sets_of(label):
            pixels, micrometres = (
                results.overall(network, plan.NORMAL, test_set + suffix, level, measure, label)
                for suffix in ("", plan.PHYSICAL)
            )
            rows.append(
                {
                    "network": network,
                    "glomeruli": _name(label, test_set),
                    "measure": "Dice" if measure == DICE else "F1",
                    "images": LEVELS[level],
                    "pixels": pixels,
                    "micrometres": micrometres,
                    "change": micrometres - pixels,
                }
            )
    return pd.DataFrame(rows)


def confounder_text(table: pd.DataFrame) -> pd.DataFrame:
    """`confounder` to read."""
    numbers = {name: table[name].map(number) for name in ("pixels", "micrometres")}
    return table.assign(**numbers, change=[number(value, signed=True) for value in table["change"]])


def detection(results: Results, networks: Sequence[str]) -> pd.DataFrame:
    """Glomeruli of any class as objects of slides, and their boundaries in crops; means over images of all stains.

    HD95 is shown by the class of the glomerulus that a crop was cut for; crops in which nothing was found have none.

    Returns:
        A row a network, view and test set: columns network, trained on, test set; then a `Figure` or `None` for each of
        F1, pooled F1, panoptic quality and HD95 by class.
    """
    rows: list[dict[str, object]] = []
    for network, view, test_set in product(networks, VIEWS, (plan.NORMAL, plan.SCLEROSIS)):
        where = (network, view.stage, test_set + view.suffix)
        row: dict[str, object] = {"network": network, "trained on": view.words, "test set": test_set}
        for heading, measure in {"F1": "f1", "F1, pooled": "pooled_f1", "panoptic quality": "panoptic_quality"}.items():
            row[heading] = results.figures(*where, "slides", measure, FOREGROUND).get(ALL)
        distances = _distances(results.images(*where, "crops"))
        rows.append(row | {f"HD95 µm, {label.replace('_', ' ')}": distances.get(label) for label in CLASS_NAMES})
    return pd.DataFrame(rows, dtype=object)


def detection_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """`detection`, a row a figure: columns network, trained on, test set, measure and what `Figure` holds."""
    tidy = table.melt(["network", "trained on", "test set"], var_name="measure", value_name="figure")
    tidy = tidy[[isinstance(figure, Figure) for figure in tidy["figure"]]].reset_index(drop=True)
    return tidy.drop(columns="figure").join(pd.DataFrame([vars(figure) for figure in tidy["figure"]]))


def detection_text(table: pd.DataFrame) -> pd.DataFrame:
    """`detection` to read."""
    return table.apply(lambda column: [_cell(value, str(column.name)) for value in column])


def _cell(value: object, heading: str) -> str:
    if isinstance(value, str):
        return value
    return text_of(value if isinstance(value, Figure) else None, 1 if heading.startswith("HD95") else 3)


def _distances(crops: pd.DataFrame | None) -> Mapping[str, Figure]:
    """HD95 of the crops of each class; a crop's name is its number and class, see `bundle.data.crops`."""
    if crops is None:
        return {}
    labels, nan = crops["crop"].str.partition(" ")[2], float("nan")
    found = {}
    for label, values in crops[f"hd95_um_{FOREGROUND}"].groupby(labels):
        known = values.dropna()
        if len(known):
            patients = crops.loc[known.index, "patient"].nunique()
            found[str(label)] = Figure(known.mean(), known.std(), len(known), patients, nan, nan)
    return found


def comparisons(results: Results, networks: Sequence[str]) -> pd.DataFrame:
    """Wilcoxon signed-rank tests over patients between any two networks, for each of the study's tables and levels.

    Returns:
        Columns table, images, first, second, median_difference (of Dice, first minus second), p, compared (images),
        patients, remark; p is not corrected for the number of tests.
    """
    rows = []
    for table in published().tables.values():
        for level, pair in product(table.levels, combinations(networks, 2)):
            first, second = (results.images(network, table.stage, table.test_set, level) for network in pair)
            row = {"table": table.number, "images": LEVELS[level], "first": pair[0], "second": pair[1]}
            rows.append(row | _test(first, second, f"{DICE}_{table.label}"))
    columns = ["table", "images", "first", "second", "median_difference", "p", "compared", "patients", "remark"]
    return pd.DataFrame(rows, columns=columns)


def _test(first: pd.DataFrame | None, second: pd.DataFrame | None, measure: str) -> dict[str, object]:
    gap: dict[str, object] = {"median_difference": np.nan, "p": np.nan, "compared": 0, "patients": 0}
    if first is None or second is None:
        return gap | {"remark": "not evaluated"}
    try:
        found = paired_tests(first, second, prefix=measure)
    except DatalistError:  # one network's evaluation is of an older cohort
        return gap | {"remark": "not of the same images"}
    if found.empty:
        return gap | {"remark": "no such measure"}
    test = found.iloc[0]
    return {
        "median_difference": test["median_difference"],
        "p": test["p"],
        "compared": test["images"],
        "patients": test["patients"],
        "remark": "too few patients" if np.isnan(test["p"]) else "",
    }


def comparisons_text(table: pd.DataFrame) -> pd.DataFrame:
    """`comparisons` to read."""
    p = [GAP if np.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}" for value in table["p"]]
    difference = [number(value, signed=True) for value in table["median_difference"]]
    return table.assign(median_difference=difference, p=p).rename(columns={"median_difference": "median difference"})


def sets_of(label: str) -> tuple[str, ...]:
    """Where the study tests a class; the union of all is tested on both."""
    if label == FOREGROUND:
        return (plan.NORMAL, plan.SCLEROSIS)
    return (plan.NORMAL,) if label == NORMAL.name else (plan.SCLEROSIS,)


def _name(label: str, test_set: str) -> str:
    return f"all of {test_set}" if label == FOREGROUND else label.replace("_", " ")
