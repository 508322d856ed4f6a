"""Every feature against every clinical variable: choose the test, set apart what cannot be tested, correct for many."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from bundle.findings.association_models import cox, mixed_groups, mixed_slope
from bundle.findings.clinical import Kind, Variable
from bundle.findings.tests_of_pairs import (
    Floats,
    NotTestableError,
    PairTest,
    indicators,
    no_covariates,
    rank_correlation,
    several_groups,
    two_groups,
)

COLUMNS: Final = (
    *("feature", "variable", "kind", "test", "measure", "effect", "low", "high", "direction", "p", "q"),
    *("patients", "missing", "sizes", "reason"),
)
"""Of the table of pairs, see `associate`."""


@dataclass(frozen=True)
class Limits:
    """Below these a pair is set apart, as its p would say nothing.

    Attributes:
        min_patients: with feature, variable and covariates known.
        min_group: patients of each group of a binary or categorical variable.
        min_events: events of a survival variable.
    """

    min_patients: int = 10
    min_group: int = 3
    min_events: int = 5


@dataclass(frozen=True)
class Cohort:
    """What is known of the patients.

    Attributes:
        clinical: the checked table of `bundle.findings.clinical`, indexed by patient.
        variables: those to be tested.
        covariates: those to be held constant.
    """

    clinical: pd.DataFrame
    variables: Sequence[Variable]
    covariates: Sequence[Variable] = ()


@dataclass(frozen=True)
class _Rows:
    """The complete patients of a pair: feature and variable, and the covariates as `design` makes them."""

    values: pd.DataFrame
    variable: Variable
    covariates: Sequence[Variable]

    def column(self, name: str) -> Floats:
        return self.values[name].to_numpy(float)

    def design(self, *, ranked: bool) -> Floats:
        """Covariates as columns that vary, shape (n, k): groups as indicators, others as they are or as ranks."""
        columns = [no_covariates(len(self.values))]
        for covariate in self.covariates:
            values = self.column(covariate.name)
            is_group = covariate.kind in (Kind.CATEGORICAL, Kind.BINARY)
            columns.append(indicators(values) if is_group else (stats.rankdata(values) if ranked else values)[:, None])
        design = np.column_stack(columns)
        return design[:, np.ptp(design, axis=0) > 0]


FEATURE: Final = "\0feature"
"""Column of the feature beside clinical columns; no CSV column has this name."""


def associate(features: pd.DataFrame, cohort: Cohort, limits: Limits, *, progress: bool = False) -> pd.DataFrame:
    """Test features of patients.

    Args:
        features: indexed by patient, a column a feature.
        cohort: its clinical table may have other patients; those without features count as missing.
        limits: what is set apart.
        progress: show a bar.

    Returns:
        One row a pair, `COLUMNS`; what was not tested has a `reason`, and NaN for the rest. `patients` were tested,
        `missing` lack feature, variable or covariate; `sizes` are patients by group, or the number of events. `q` is
        Benjamini and Hochberg's (J. R. Stat. Soc. B 1995, 57:289), over all pairs tested.

    Raises:
        ConfigError: a survival variable without statsmodels.
    """

    def test(rows: _Rows, name: str) -> PairTest:
        return _patient_test(rows)

    def known(name: str) -> pd.Series:
        return features[name].reindex(cohort.clinical.index)

    return _table(list(features), known, test, cohort, limits, progress)


def associate_glomeruli(
    glomeruli: pd.DataFrame, cohort: Cohort, limits: Limits, *, progress: bool = False
) -> pd.DataFrame:
    """Test features of glomeruli with mixed models, each glomerulus nested in its patient.

    Args:
        glomeruli: `patient` and a column a feature, one row a glomerulus.
        cohort: see `associate`.
        limits: see `associate`.
        progress: show a bar.

    Returns:
        See `associate`; survival variables are set apart, as a patient's time is no measurement of a glomerulus.

    Raises:
        ConfigError: statsmodels is not installed.
    """
    names = [str(name) for name in glomeruli if name != "patient"]
    by_patient = glomeruli.groupby("patient")

    def known(name: str) -> pd.Series:
        return by_patient[name].mean().reindex(cohort.clinical.index)

    def test(rows: _Rows, name: str) -> PairTest:
        return _glomerulus_test(rows, glomeruli[["patient", name]].dropna())

    return _table(names, known, test, cohort, limits, progress)


def _table(
    names: Sequence[str],
    known: Callable[[str], pd.Series],
    test: Callable[[_Rows, str], PairTest],
    cohort: Cohort,
    limits: Limits,
    progress: bool,
) -> pd.DataFrame:
    pairs = [(name, variable) for variable in cohort.variables for name in names]
    records = []
    for name, variable in tqdm(pairs, desc="pairs", disable=not progress):
        rows = _complete(known(name), variable, cohort)
        reason = _reason(rows, limits)
        record = {"feature": name, "variable": variable.name, "kind": str(variable.kind), "reason": reason}
        counts = {"patients": len(rows.values), "missing": len(cohort.clinical) - len(rows.values)}
        record |= counts | {"sizes": _sizes(rows)}
        if not reason:
            try:
                record |= vars(test(rows, name))
            except NotTestableError as error:
                record["reason"] = str(error)
        records.append(record)
    table = pd.DataFrame(records, columns=list(COLUMNS))
    return table.astype({c: float for c in ("effect", "low", "high", "direction", "p")}).assign(q=_q(table["p"]))


def _complete(feature: pd.Series, variable: Variable, cohort: Cohort) -> _Rows:
    columns = list(dict.fromkeys(c for v in (variable, *cohort.covariates) for c in v.columns))
    values = cohort.clinical[columns].assign(**{FEATURE: feature}).dropna()
    return _Rows(values, variable, cohort.covariates)


def _reason(rows: _Rows, limits: Limits) -> str:
    """Why the pair is set apart before any test; empty where it is not."""
    n, variable = len(rows.values), rows.variable
    if n < limits.min_patients:
        return f"{n} patients with both; at least {limits.min_patients} needed"
    values = rows.column(variable.name)
    if np.ptp(values) == 0:
        return "the variable is constant"
    if variable.kind in (Kind.BINARY, Kind.CATEGORICAL):
        smallest = int(np.unique(values, return_counts=True)[1].min())
        if smallest < limits.min_group:
            return f"a group of {smallest}; at least {limits.min_group} needed"
    if variable.kind is Kind.SURVIVAL:
        events = int(rows.column(variable.columns[1]).sum())
        if events < limits.min_events:
            return f"{events} events; at least {limits.min_events} needed"
    return ""


def _sizes(rows: _Rows) -> str:
    """Patients by group, as "34/26", or "21 events"."""
    variable = rows.variable
    if variable.kind is Kind.SURVIVAL:
        return f"{int(rows.column(variable.columns[1]).sum())} events"
    if variable.kind in (Kind.BINARY, Kind.CATEGORICAL):
        return "/".join(str(count) for count in np.unique(rows.column(variable.name), return_counts=True)[1])
    return ""


def _patient_test(rows: _Rows) -> PairTest:
    feature, kind = rows.column(FEATURE), rows.variable.kind
    _check_varies(feature)
    if kind is Kind.SURVIVAL:
        time, event = (rows.column(name) for name in rows.variable.columns)
        return cox(feature, time, event, rows.design(ranked=False))
    tests = {Kind.BINARY: two_groups, Kind.CATEGORICAL: several_groups}
    return tests.get(kind, rank_correlation)(feature, rows.column(rows.variable.name), rows.design(ranked=True))


def _glomerulus_test(rows: _Rows, glomeruli: pd.DataFrame) -> PairTest:
    variable = rows.variable
    if variable.kind is Kind.SURVIVAL:
        raise NotTestableError("survival is tested on patients; set level to patient")
    code = pd.Series(np.arange(len(rows.values)), index=rows.values.index)
    kept = glomeruli[glomeruli["patient"].isin(code.index)]
    patient = code.loc[kept["patient"]].to_numpy()
    values = kept.drop(columns="patient").to_numpy(float)[:, 0]
    _check_varies(values)
    of_patient, covariates = rows.column(variable.name), rows.design(ranked=False)
    if variable.kind is Kind.CATEGORICAL:
        return mixed_groups(values, patient, indicators(of_patient), covariates)
    return mixed_slope(values, patient, of_patient, covariates, binary=variable.kind is Kind.BINARY)


def _check_varies(feature: Floats) -> None:
    if np.ptp(feature) == 0:
        raise NotTestableError("the feature is constant")


def _q(p: pd.Series) -> pd.Series:
    """Benjamini and Hochberg's q of the p that are known."""
    q = pd.Series(np.nan, index=p.index)
    tested = p.notna()
    if tested.any():
        q[tested] = stats.false_discovery_control(p[tested].to_numpy(float), method="bh")
    return q


def threshold(table: pd.DataFrame, fdr: float) -> float | None:
    """The largest p with q at or below `fdr`; `None` where there is none."""
    found = table.loc[table["q"] <= fdr, "p"]
    return float(found.max()) if len(found) else None


def set_apart(table: pd.DataFrame) -> Iterator[tuple[str, int]]:
    """Each reason and how many pairs it set apart, the commonest first."""
    counts = table.loc[table["reason"] != "", "reason"].value_counts()
    yield from ((str(reason), int(count)) for reason, count in counts.items())
