"""The tables of scripts/simulate_association.py: what was found of what was planted.

`pairs` has a row a pair of feature and variable in a cohort: run, scenario (planted, null or confounded), feature,
variable, test, measure, low, high, p, q; and, but for `planted`, the column planted. Figures are percent of cohorts.
"""

import math

import pandas as pd
from scipy import stats

from bundle.findings.association_simulation import ALPHA, PLANTED, VARIABLES, stated

FDR = 0.05
LOCATIONS = ("mean", "q90")
"""What a shift of all of a patient's glomeruli changes: with the planted variable such a pair is no null."""


def planted(pairs: pd.DataFrame) -> pd.Series:
    """Whether a pair is no null: a location of the feature that its variable depends on."""
    names = {f"{feature}_{statistic}": variable for variable, feature in PLANTED.items() for statistic in LOCATIONS}
    return (pairs["feature"].map(names) == pairs["variable"]) & (pairs["scenario"] == "planted")


def of_effect(pairs: pd.DataFrame, variable: str) -> pd.DataFrame:
    """The planted pairs of a variable with the mean of its feature, one a cohort."""
    feature = f"{PLANTED[variable]}_mean"
    return pairs[pairs["planted"] & (pairs["variable"] == variable) & (pairs["feature"] == feature)]


def share(found: pd.Series) -> str:
    """Percentage of cohorts and its exact 95 % interval (Clopper and Pearson)."""
    interval = stats.binomtest(int(found.sum()), len(found)).proportion_ci()
    return f"{100 * found.mean():.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def mean_share(shares: pd.Series) -> str:
    """Mean percentage over cohorts and its 95 % interval, by the normal distribution."""
    half = 1.96 * shares.std() / math.sqrt(len(shares))
    return f"{100 * shares.mean():.1f} [{100 * max(0, shares.mean() - half):.1f}, {100 * (shares.mean() + half):.1f}]"


def power(pairs: pd.DataFrame) -> pd.DataFrame:
    """Per planted variable: stated and found power, and the intervals' coverage."""
    rows = []
    theory = stated()
    for variable, feature in PLANTED.items():
        found = of_effect(pairs, variable)
        truth = theory.loc[variable, "truth"]
        covered = (found["low"] <= truth) & (truth <= found["high"])
        rows.append(
            {
                "variable": f"{variable} ({VARIABLES[list(PLANTED).index(variable)].kind})",
                "feature": f"{feature}_mean",
                "test": found["test"].iloc[0],
                "true effect": "" if math.isnan(truth) else f"{found['measure'].iloc[0]} {truth:.2f}",
                "stated": f"{100 * theory.loc[variable, 'power']:.1f}",
                "found": share(found["p"] < ALPHA),
                "in all pairs": share(found["q"] <= FDR),
                "covered": "" if math.isnan(truth) else share(covered),
            }
        )
    return pd.DataFrame(rows)


def discoveries(pairs: pd.DataFrame) -> pd.DataFrame:
    """False-discovery rate of the null and of the planted cohorts."""
    found = pairs.assign(found=pairs["q"] <= FDR)
    null = found[found["scenario"] == "null"].groupby("run")["found"].any()
    of_planted = found[found["scenario"] == "planted"]
    false = of_planted[of_planted["found"]].groupby("run")["planted"].agg(lambda planted: 1 - planted.mean())
    false = false.reindex(null.index, fill_value=0.0)
    rows = [("null", share(null)), ("planted", mean_share(false))]
    return pd.DataFrame(rows, columns=["cohorts", f"false-discovery rate, allowed {100 * FDR:.0f} %"])


def calibration(pairs: pd.DataFrame) -> pd.DataFrame:
    """Per test the share of null pairs with p < `ALPHA`."""
    null = pairs[(pairs["scenario"] == "null") & pairs["p"].notna()]
    by_run = (null["p"] < ALPHA).groupby([null["test"], null["run"]]).mean()
    rows = [(test, mean_share(shares)) for test, shares in by_run.groupby(level="test")]
    return pd.DataFrame(rows, columns=["test", f"false positives, allowed {100 * ALPHA:.0f} %"])


def compare(pairs: pd.DataFrame, names: dict[str, str], scenarios: tuple[str, ...]) -> pd.DataFrame:
    """Share of cohorts with p < `ALPHA` by test and scenario."""
    rows = []
    for test, name in names.items():
        of_test = pairs[pairs["test"] == test]
        by_scenario = {scenario: of_test.loc[of_test["scenario"] == scenario, "p"] < ALPHA for scenario in scenarios}
        rows.append({"test": name} | {scenario: share(found) for scenario, found in by_scenario.items()})
    return pd.DataFrame(rows)
