"""From one row a glomerulus to one row a patient: what the association tests as features."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from bundle.classes import CLASS_NAMES, GLOBAL, SEGMENTAL
from bundle.errors import ConfigError, FindingsError, reason_of

ID_COLUMNS: Final = ("entity_id", "patient")
"""What every table of glomeruli must have."""

STATISTICS: Final = ("mean", "sd", "median")
"""Besides these, qNN is the NN % quantile."""

SIGNIFICANT: Final = 12
"""Digits that features are kept to."""

COUNT: Final = "glomeruli"
PERCENTAGES: Final = {f"percent_{c.name}": c.name for c in (SEGMENTAL, GLOBAL)}


@dataclass(frozen=True)
class Selection:
    """Which glomeruli and which of their columns count.

    Attributes:
        stain: glomeruli of this stain only; a patient's other slides show the same glomeruli again.
        of_class: measurements of glomeruli of this class only; percentages are of all classes all the same.
        features: numeric columns; `None` takes all that are numeric and not in `exclude`.
        exclude: columns that are no feature: ids and places.
        min_glomeruli: patients with fewer are left out.

    Raises:
        ConfigError: `of_class` is no class.
    """

    stain: str | None = None
    of_class: str | None = None
    features: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    min_glomeruli: int = 1

    def __post_init__(self) -> None:
        if self.of_class is not None and self.of_class not in CLASS_NAMES:
            raise ConfigError(f"of_class {self.of_class!r}: must be one of {', '.join(CLASS_NAMES)}")


def read_entities(path: Path | str) -> pd.DataFrame:
    """A table of glomeruli from a Parquet or CSV file, or from the crop store that is the folder `path`.

    Returns:
        The table, with `patient` as text, empty where it is not known.

    Raises:
        FindingsError: it cannot be read, is empty, lacks one of `ID_COLUMNS`, or names a glomerulus twice.
        ConfigError: Parquet without pyarrow.
    """
    path = Path(path) / "entities.parquet" if Path(path).is_dir() else Path(path)
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, dtype={"patient": str, "slide": str, "entity_id": str}, encoding="utf-8-sig")
    except ImportError as error:
        raise ConfigError(f"{path}: Parquet needs pyarrow; install it with `pip install -e '.[findings]'`") from error
    except (OSError, ValueError) as error:
        reason = reason_of(error)
        raise FindingsError(f"{path}: no table of glomeruli (Parquet or CSV) that can be read ({reason})") from error
    missing = [column for column in ID_COLUMNS if column not in frame]
    if missing:
        raise FindingsError(f"{path}: has no column {missing[0]!r}; it has {', '.join(map(str, frame.columns))}")
    if frame.empty:
        raise FindingsError(f"{path}: has no row; there is nothing to associate")
    twice = frame["entity_id"].duplicated()
    if twice.any():
        raise FindingsError(f"{path}: glomerulus {frame['entity_id'][twice].iloc[0]!r} has two rows")
    return frame.assign(patient=frame["patient"].astype(object).fillna("").astype(str).str.strip())


def select(entities: pd.DataFrame, selection: Selection, where: str) -> pd.DataFrame:
    """The glomeruli that count, of patients that are known and have enough of them.

    Raises:
        FindingsError: none is left; says why.
    """
    kept = entities[entities["patient"] != ""]
    if kept.empty:
        raise FindingsError(f"{where}: no row has a patient; fill the column 'patient'")
    if selection.stain is not None:
        kept = kept[kept["stain"] == selection.stain] if "stain" in kept else kept.iloc[:0]
        if kept.empty:
            raise FindingsError(f"{where}: no glomerulus of stain {selection.stain!r}")
    enough = kept.groupby("patient")["entity_id"].transform("size") >= selection.min_glomeruli
    if not enough.any():
        raise FindingsError(f"{where}: no patient has {selection.min_glomeruli} glomeruli; lower min_glomeruli")
    return kept[enough]


def measured(entities: pd.DataFrame, selection: Selection, where: str) -> pd.DataFrame:
    """patient and the features of the glomeruli of `selection.of_class`, one row a glomerulus, float64.

    Infinite values become NaN, as a mean would be lost to one of them.

    Raises:
        FindingsError: one of `selection.features` is no numeric column of the table; or a class is selected, and the
            table has none.
    """
    names = _feature_columns(entities, selection, where)
    if selection.of_class is not None and "class" not in entities:
        raise FindingsError(f"{where}: has no column 'class' to select {selection.of_class!r} by; leave of_class out")
    rows = entities if selection.of_class is None else entities[entities["class"] == selection.of_class]
    values = rows[names].astype(float)
    return values.where(np.isfinite(values)).assign(patient=rows["patient"])


def _feature_columns(entities: pd.DataFrame, selection: Selection, where: str) -> list[str]:
    numeric = [str(c) for c in entities.select_dtypes(["number", "bool"]) if c not in ID_COLUMNS]
    if selection.features is None:
        return [name for name in numeric if name not in selection.exclude]
    absent = [name for name in selection.features if name not in numeric]
    if absent:
        raise FindingsError(f"{where}: {absent[0]!r} is no numeric column; those are {', '.join(numeric)}")
    return list(selection.features)


def patient_features(
    entities: pd.DataFrame, selection: Selection, statistics: Sequence[str], where: str
) -> pd.DataFrame:
    """Features of patients.

    Args:
        entities: see `select`.
        selection: what counts.
        statistics: "mean", "sd" (n - 1), "median", or "qNN", the NN % quantile (linear between order statistics).
        where: file that an error names.

    Returns:
        Indexed by patient: `glomeruli`, `percent_CLASS` of all glomeruli that have a class (%), and FEATURE_STATISTIC
        in the feature's unit. NaN where a patient has no such glomerulus, and for the sd of one alone.

    Raises:
        ConfigError: an unknown statistic.
        FindingsError: see `measured`.
    """
    patients = entities.groupby("patient")
    columns = {COUNT: patients.size().astype(float)}
    if "class" in entities:
        classes = entities["class"].where(entities["class"].isin(CLASS_NAMES))
        for name, label in PERCENTAGES.items():
            is_class = (classes == label).astype(float).where(classes.notna())
            columns[name] = 100 * is_class.groupby(entities["patient"]).mean()
    values = measured(entities, selection, where)
    names = [str(name) for name in values if name != "patient"]
    # A constant's mean is off by rounding, differently in each patient, and ranks would make much of it.
    decimals = {name: _decimals(values[name]) for name in names}
    by_patient = values.groupby("patient")
    tables = {statistic: _statistic(by_patient, statistic).round(decimals) for statistic in statistics}
    # Feature by feature, its statistics side by side, as the plots show them.
    columns |= {f"{name}_{statistic}": table[name] for name in names for statistic, table in tables.items()}
    return pd.DataFrame(columns)


def _statistic(values: "pd.api.typing.DataFrameGroupBy", statistic: str) -> pd.DataFrame:
    if statistic.startswith("q") and statistic[1:].isdigit() and 0 < int(statistic[1:]) < 100:
        return values.quantile(int(statistic[1:]) / 100)
    if statistic not in STATISTICS:
        raise ConfigError(f"statistics: {statistic!r} must be one of {', '.join(STATISTICS)} or a quantile such as q90")
    return values.agg("std" if statistic == "sd" else statistic)


def _decimals(values: pd.Series) -> int:
    """As many as keep `SIGNIFICANT` digits of the largest value."""
    largest = values.abs().max()
    return SIGNIFICANT - int(np.ceil(np.log10(largest))) if largest > 0 else SIGNIFICANT
