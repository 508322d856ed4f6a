"""The clinical table: one row a patient, its variables declared in YAML, every cell checked against what was declared.

A declaration is a mapping of a variable's name to its kind and columns:

    egfr:      {kind: continuous}
    ckd_stage: {kind: ordinal, levels: ['1', '2', '3a', '3b', '4', '5']}
    diabetes:  {kind: binary, levels: ['no', 'yes']}
    diagnosis: {kind: categorical}
    failure:   {kind: survival, time: months_to_failure, event: failed}

`column` names the column where it is not the variable's name. In the checked table every value is a number: levels by
their place in `levels`, binary variables 0 and 1, survival the time, with its event in a column of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import yaml

from bundle.errors import FindingsError, reason_of


class Kind(StrEnum):
    """What a variable's values are, and by that, which test it gets."""

    CONTINUOUS = "continuous"
    ORDINAL = "ordinal"
    BINARY = "binary"
    CATEGORICAL = "categorical"
    SURVIVAL = "survival"


SETTINGS: Final = {
    Kind.CONTINUOUS: {"column"},
    Kind.ORDINAL: {"column", "levels"},
    Kind.BINARY: {"column", "levels"},
    Kind.CATEGORICAL: {"column", "levels"},
    Kind.SURVIVAL: {"time", "event"},
}
"""What may be declared of each kind, besides `kind`."""

YES_OR_NO: Final = {"0.0": 0.0, "1.0": 1.0, "no": 0.0, "yes": 1.0, "false": 0.0, "true": 1.0}


@dataclass(frozen=True)
class Variable:
    """A clinical variable as declared.

    Attributes:
        name: by which tables call it.
        kind: of its values.
        column: of the CSV; of a survival variable, the time until the event or the end of follow-up.
        event: column that is 1 where the event was seen and 0 where it was not; survival only.
        levels: values in their order; the second of a binary variable counts as 1. Empty: as the values say.
    """

    name: str
    kind: Kind
    column: str
    event: str | None = None
    levels: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns in the checked table: its name, and for survival the event's."""
        return (self.name, f"{self.name} event") if self.kind is Kind.SURVIVAL else (self.name,)


def read_variables(declared: Mapping[str, Any] | Path | str | None, clinical: Path | str) -> tuple[Variable, ...]:
    """The variables of a declaration.

    Args:
        declared: the declaration or its YAML file; `None` takes the file beside the clinical table (x.csv: x.yaml).
        clinical: the clinical table.

    Raises:
        FindingsError: the file is missing, or a declaration is not as the module says; names file and variable.
    """
    if isinstance(declared, Mapping):
        where, content = "variables", declared
    else:
        path = Path(clinical).with_suffix(".yaml") if declared is None else Path(declared)
        where, content = str(path), _read_yaml(path)
    if not isinstance(content, Mapping) or not content:
        raise FindingsError(f"{where}: must map names of variables to declarations, such as egfr: {{kind: continuous}}")
    return tuple(_variable(str(name), declaration, where) for name, declaration in content.items())


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = reason_of(error)
        raise FindingsError(
            f"{path}: no declaration of clinical variables there ({reason}); see docs/association.md"
        ) from error


def _variable(name: str, declaration: object, where: str) -> Variable:
    where = f"{where}: variable {name!r}"
    given = dict(declaration) if isinstance(declaration, Mapping) else {}
    kind_text = str(given.pop("kind", declaration))
    if kind_text not in list(Kind):
        raise FindingsError(f"{where}: kind {kind_text!r} must be one of {', '.join(Kind)}")
    kind = Kind(kind_text)
    unknown = sorted(map(str, given.keys() - SETTINGS[kind]))
    if unknown:
        raise FindingsError(f"{where}: {kind} has no {unknown[0]!r}; it takes {', '.join(sorted(SETTINGS[kind]))}")
    if kind is Kind.SURVIVAL:
        if given.keys() != SETTINGS[kind]:
            raise FindingsError(f"{where}: survival needs the names of two columns, `time` and `event`")
        return Variable(name, kind, str(given["time"]), str(given["event"]))
    return Variable(name, kind, str(given.get("column", name)), levels=_levels(given.get("levels", []), kind, where))


def _levels(given: object, kind: Kind, where: str) -> tuple[str, ...]:
    if not isinstance(given, Sequence) or isinstance(given, str) or any(isinstance(g, bool) for g in given):
        # YAML reads a bare no or yes as False or True, which the table does not hold.
        raise FindingsError(f"{where}: levels must be a list of values, quoted, such as ['no', 'yes']")
    levels = tuple(_text(level) for level in given)
    if len(set(levels)) != len(levels) or (kind is Kind.BINARY and levels and len(levels) != 2):
        raise FindingsError(f"{where}: levels {list(given)} must differ, and be two for a binary variable")
    return levels


def _text(value: object) -> str:
    """A value as text that is the same for 1, "1" and "1.0"."""
    text = str(value).strip()
    try:
        return repr(float(text))
    except ValueError:
        return text


def read_clinical(path: Path | str, variables: Sequence[Variable], patient_column: str = "patient") -> pd.DataFrame:
    """The checked table.

    Args:
        path: CSV file with a row a patient.
        variables: what to take of it.
        patient_column: the column of patients' ids.

    Returns:
        Indexed by patient (text); float64 columns `Variable.columns` of each variable; NaN where a cell is empty or
        "NA".

    Raises:
        FindingsError: the file cannot be read, lacks a column, has a patient twice or without id, or a cell that does
            not fit the variable's kind; names file, column and patient.
    """
    try:
        frame = pd.read_csv(path, dtype=str, encoding="utf-8-sig", skipinitialspace=True)
    except (OSError, ValueError) as error:
        raise FindingsError(f"{path}: not a CSV table that can be read ({reason_of(error)})") from error
    needed = {patient_column: "of patients"}
    for variable in variables:
        for column in filter(None, (variable.column, variable.event)):
            needed[column] = f"of variable {variable.name!r}"
    for column, role in needed.items():
        if column not in frame:
            raise FindingsError(f"{path}: has no column {column!r} {role}; it has {', '.join(map(str, frame.columns))}")
    frame.index = _patients(frame[patient_column], path)
    columns = {}
    for variable in variables:
        columns.update(_checked(frame, variable, f"{path}: column"))
    return pd.DataFrame(columns, index=frame.index)


def _patients(column: pd.Series, path: Path | str) -> pd.Index:
    patients = column.str.strip()
    if patients.isna().any():
        raise FindingsError(f"{path}: row {int(np.argmax(patients.isna())) + 2} has no patient in {column.name!r}")
    if patients.duplicated().any():
        twice = patients[patients.duplicated()].iloc[0]
        raise FindingsError(f"{path}: patient {twice!r} has two rows; there must be one a patient")
    return pd.Index(patients, name="patient")


def _checked(frame: pd.DataFrame, variable: Variable, where: str) -> dict[str, pd.Series]:
    """The columns of one variable as numbers."""
    cells = frame[variable.column]
    where = f"{where} {variable.column!r}"
    if variable.kind is Kind.SURVIVAL:
        times = _numbers(cells, where)
        if (times < 0).any():
            raise FindingsError(f"{where}: patient {times.index[times < 0][0]!r} has a negative time")
        events = _coded(frame[str(variable.event)], YES_OR_NO, where.replace(variable.column, str(variable.event)))
        return dict(zip(variable.columns, (times, events), strict=True))
    if variable.kind is Kind.CATEGORICAL and not variable.levels:
        values = sorted(cells.dropna().map(_text).unique())
        return {variable.name: _coded(cells, {value: float(i) for i, value in enumerate(values)}, where)}
    if variable.levels:
        return {variable.name: _coded(cells, {level: float(i) for i, level in enumerate(variable.levels)}, where)}
    if variable.kind is Kind.BINARY:
        return {variable.name: _coded(cells, YES_OR_NO, where)}
    return {variable.name: _numbers(cells, where)}


def _numbers(cells: pd.Series, where: str) -> pd.Series:
    numbers = pd.to_numeric(cells, errors="coerce").astype(float)
    bad = cells.notna() & ~np.isfinite(numbers)
    if bad.any():
        hint = "; correct it, leave it empty, or declare the variable's levels"
        raise FindingsError(f"{where}: patient {cells.index[bad][0]!r} has {cells[bad].iloc[0]!r}, no number{hint}")
    return numbers


def _coded(cells: pd.Series, codes: Mapping[str, float], where: str) -> pd.Series:
    folded = {key.casefold(): code for key, code in codes.items()}
    known = cells.dropna().map(lambda cell: folded.get(_text(cell).casefold(), np.nan))
    bad = known.isna()
    if bad.any():
        allowed = ", ".join(key.removesuffix(".0") for key in codes)
        patient = known.index[bad][0]
        raise FindingsError(f"{where}: patient {patient!r} has {cells[patient]!r}, not one of {allowed}; see `levels`")
    return known.astype(float).reindex(cells.index)
