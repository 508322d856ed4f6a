"""All pairs: the right test for each, one correction for all, and a reason for what is not tested."""

import numpy as np
import pandas as pd
import pytest

from bundle.findings.association_pairs import Cohort, Limits, associate, associate_glomeruli, threshold
from bundle.findings.clinical import Kind, Variable

pytest.importorskip("statsmodels")

N = 30
INDEX = pd.Index([f"P{i}" for i in range(N)], name="patient")
EGFR, SEX, DIAGNOSIS = (
    Variable(name, kind, name)
    for name, kind in (("egfr", Kind.CONTINUOUS), ("sex", Kind.BINARY), ("diagnosis", Kind.CATEGORICAL))
)
STAGE, FAILURE = Variable("stage", Kind.ORDINAL, "stage"), Variable("failure", Kind.SURVIVAL, "months", "failed")
AGE = Variable("age", Kind.CONTINUOUS, "age")


@pytest.fixture
def random():
    return np.random.default_rng(2)


@pytest.fixture
def clinical(random):
    return pd.DataFrame(
        {
            "egfr": random.normal(size=N),
            "stage": random.integers(0, 4, N) * 1.0,
            "sex": np.arange(N) % 2 * 1.0,
            "diagnosis": np.arange(N) % 3 * 1.0,
            "failure": random.exponential(size=N),
            "failure event": np.arange(N) % 2 * 1.0,
            "age": random.normal(size=N),
        },
        index=INDEX,
    )


@pytest.fixture
def features(random):
    return pd.DataFrame(random.normal(size=(N, 3)), index=INDEX, columns=["a", "b", "c"])


def test_each_kind_of_variable_gets_its_test(features, clinical):
    table = associate(features, Cohort(clinical, [EGFR, STAGE, SEX, DIAGNOSIS, FAILURE]), Limits())
    assert len(table) == 15
    assert table.groupby("variable")["test"].unique().map(list).to_dict() == {
        "egfr": ["Spearman"],
        "stage": ["Spearman"],
        "sex": ["Mann-Whitney"],
        "diagnosis": ["Kruskal-Wallis"],
        "failure": ["Cox"],
    }
    assert table.loc[table["variable"] == "diagnosis", "sizes"].tolist() == ["10/10/10"] * 3
    assert table.loc[table["variable"] == "failure", "sizes"].tolist() == ["15 events"] * 3
    assert ((table["low"] <= table["effect"]) & (table["effect"] <= table["high"])).all()


def test_q_is_benjamini_and_hochberg_s_over_all_pairs_tested(features, clinical):
    from statsmodels.stats.multitest import multipletests

    features["constant"] = 1.0
    table = associate(features, Cohort(clinical, [EGFR, SEX, FAILURE]), Limits())
    tested = table[table["p"].notna()]
    assert len(tested) == 9
    np.testing.assert_allclose(tested["q"], multipletests(tested["p"], method="fdr_bh")[1])
    assert table.loc[table["feature"] == "constant", "q"].isna().all()


def test_missing_values_are_counted_and_not_guessed(features, clinical):
    features.loc["P0", "a"] = np.nan
    clinical.loc[["P1", "P2"], "egfr"] = np.nan
    clinical.loc["P3", "age"] = np.nan
    without, held = (
        associate(features, Cohort(clinical, [EGFR], covariates), Limits()).set_index("feature")
        for covariates in ([], [AGE])
    )
    assert without["missing"].to_dict() == {"a": 3, "b": 2, "c": 2}
    assert held["missing"].to_dict() == {"a": 4, "b": 3, "c": 3}
    assert (held["patients"] + held["missing"] == N).all()


@pytest.mark.parametrize(
    ("change", "variable", "reason"),
    [
        ({"egfr": [1.0] * 8 + [np.nan] * 22}, EGFR, "8 patients with both; at least 10 needed"),
        ({"egfr": 5.0}, EGFR, "the variable is constant"),
        ({"sex": [1.0, 1.0] + [0.0] * 28}, SEX, "a group of 2; at least 3 needed"),
        ({"failure event": [1.0] * 4 + [0.0] * 26}, FAILURE, "4 events; at least 5 needed"),
    ],
)
def test_what_says_nothing_is_set_apart_with_the_reason(features, clinical, change, variable, reason):
    table = associate(features, Cohort(clinical.assign(**change), [variable]), Limits())
    assert table["reason"].tolist() == [reason] * 3
    assert table[["p", "q", "effect"]].isna().all(axis=None)


def test_a_constant_feature_is_set_apart_at_either_level(features, clinical):
    cohort = Cohort(clinical, [EGFR])
    by_patient = associate(features.assign(flat=2.0)[["flat"]], cohort, Limits())
    glomeruli = pd.DataFrame({"patient": np.repeat(INDEX, 3), "flat": 0.1})
    by_glomerulus = associate_glomeruli(glomeruli, cohort, Limits())
    assert by_patient["reason"].tolist() == by_glomerulus["reason"].tolist() == ["the feature is constant"]


def test_what_age_explains_is_gone_when_age_is_held_constant(random, clinical):
    clinical["egfr"] = 3 * clinical["age"] + random.normal(size=N)
    clinical["failure"] = np.exp(-clinical["age"])
    features = pd.DataFrame({"size": 3 * clinical["age"] + random.normal(size=N)})
    raw, held = (associate(features, Cohort(clinical, [EGFR, FAILURE], c), Limits()) for c in ([], [AGE]))
    assert raw["p"][0] < 1e-6
    assert held["p"][0] > 0.01
    assert held["test"].tolist()[0] == "partial Spearman"


def test_a_categorical_covariate_is_held_constant_by_its_groups(random, clinical):
    shift = np.array([0.0, 8.0, -8.0])[clinical["diagnosis"].astype(int)]  # no trend over the codes
    clinical["egfr"] = shift + random.normal(size=N)
    features = pd.DataFrame({"size": shift + random.normal(size=N)}, index=INDEX)
    raw, held = (associate(features, Cohort(clinical, [EGFR], c), Limits())["p"][0] for c in ([], [DIAGNOSIS]))
    assert raw < 1e-6
    assert held > 0.01


def test_glomeruli_are_nested_in_patients(random, clinical):
    patients = random.normal(size=N) * 2
    glomeruli = pd.DataFrame(
        {"patient": np.repeat(INDEX, 8), "size": np.repeat(patients, 8) + random.normal(size=8 * N)}
    )
    cohort = Cohort(clinical.assign(egfr=patients), [EGFR, SEX, DIAGNOSIS, FAILURE])
    table = associate_glomeruli(glomeruli, cohort, Limits()).set_index("variable")
    assert table.loc["egfr", "p"] < 1e-6
    assert table.loc[["sex", "diagnosis"], "p"].min() > 0.001
    assert table.loc["egfr", ["test", "measure", "direction"]].tolist() == ["mixed model", "SD per SD", 1]
    assert table.loc["failure", "reason"] == "survival is tested on patients; set level to patient"


def test_the_threshold_is_the_largest_p_that_is_found():
    table = pd.DataFrame({"p": [0.001, 0.02, 0.5, np.nan], "q": [0.003, 0.03, 0.5, np.nan]})
    assert threshold(table, 0.05) == 0.02
    assert threshold(table, 0.001) is None
