"""From glomeruli to patients."""

import numpy as np
import pandas as pd
import pytest

from bundle.errors import ConfigError, FindingsError
from bundle.findings.aggregation import Selection, measured, patient_features, read_entities, select

GLOMERULI = pd.DataFrame(
    {
        "entity_id": list("abcdef"),
        "patient": ["1", "1", "1", "2", "3", None],
        "stain": ["PAS", "PAS", "HE", "PAS", "HE", "PAS"],
        "class": ["normal", "global_sclerosis", "normal", "segmental_sclerosis", None, "normal"],
        "area": [10.0, 40.0, 30.0, np.nan, 7.0, 1.0],
        "row": range(6),
    }
)
STATISTICS = ("mean", "sd", "median", "q25")


def features(**selection):
    chosen = Selection(**{"exclude": ["row"], **selection})
    return patient_features(select(GLOMERULI.fillna({"patient": ""}), chosen, "E"), chosen, STATISTICS, "E")


def test_a_patient_s_features_are_what_pencil_and_paper_give():
    one = features().loc["1"]
    assert one["glomeruli"] == 3
    assert one["percent_global_sclerosis"] == pytest.approx(100 / 3)
    assert one["percent_segmental_sclerosis"] == 0
    assert one["area_mean"] == pytest.approx(80 / 3)
    assert one["area_sd"] == pytest.approx(np.sqrt((50**2 + 40**2 + 10**2) / 9 / 2))
    assert (one["area_median"], one["area_q25"]) == (30, 20)


def test_what_a_patient_lacks_is_missing_and_not_zero():
    table = features()
    assert table.loc["2", ["area_mean", "area_sd"]].isna().all()  # its area was not measured
    assert np.isnan(table.loc["3", "area_sd"])  # one glomerulus alone
    assert np.isnan(table.loc["3", "percent_global_sclerosis"])  # its class is not known


def test_statistics_of_a_feature_stand_side_by_side():
    assert list(features())[3:] == [f"area_{statistic}" for statistic in STATISTICS]


def test_one_stain_and_one_class_can_be_chosen():
    table = features(stain="PAS", of_class="normal")
    assert list(table.index) == ["1", "2"]
    assert table.loc["1", "area_mean"] == 10  # the normal one
    assert table.loc["1", "percent_global_sclerosis"] == 50  # of all in PAS


def test_patients_with_few_glomeruli_are_left_out():
    assert list(features(min_glomeruli=2).index) == ["1"]


def test_a_constant_is_the_same_in_patients_with_different_numbers_of_glomeruli():
    patients = np.repeat(["a", "b", "c"], [3, 7, 11])
    table = pd.DataFrame({"entity_id": range(21), "patient": patients, "level": 0.1})
    found = patient_features(table, Selection(features=["level"]), ("mean", "sd"), "E")
    assert found["level_mean"].nunique() == found["level_sd"].nunique() == 1


def test_an_infinite_measurement_counts_as_none():
    table = GLOMERULI.assign(area=[np.inf, 2, 3, 4, 5, 6])
    assert measured(table, Selection(features=["area"]), "E")["area"].isna().sum() == 1


@pytest.mark.parametrize(
    ("selection", "error", "message"),
    [
        ({"stain": "PAMS"}, FindingsError, "E: no glomerulus of stain 'PAMS'"),
        ({"min_glomeruli": 9}, FindingsError, "E: no patient has 9 glomeruli"),
        ({"features": ["size"]}, FindingsError, "E: 'size' is no numeric column; those are area, row"),
        ({"of_class": "sclerotic"}, ConfigError, "of_class 'sclerotic': must be one of normal"),
    ],
)
def test_a_selection_that_leaves_nothing_is_named(selection, error, message):
    with pytest.raises(error, match=message):
        features(**selection)


def test_a_class_cannot_be_chosen_in_a_table_without_classes():
    with pytest.raises(FindingsError, match="E: has no column 'class' to select 'normal' by"):
        measured(GLOMERULI.drop(columns="class"), Selection(of_class="normal"), "E")


def test_an_unknown_statistic_is_refused():
    with pytest.raises(ConfigError, match="'average' must be one of mean, sd, median or a quantile"):
        patient_features(GLOMERULI, Selection(), ["average"], "E")


def test_tables_are_read_from_csv_parquet_and_crop_stores_alike(tmp_path):
    pytest.importorskip("pyarrow")
    GLOMERULI.to_csv(tmp_path / "e.csv", index=False)
    GLOMERULI.to_parquet(tmp_path / "entities.parquet")
    csv, parquet, store = (
        read_entities(path) for path in (tmp_path / "e.csv", tmp_path / "entities.parquet", tmp_path)
    )
    pd.testing.assert_frame_equal(parquet, store)
    assert csv["patient"].tolist() == parquet["patient"].tolist() == ["1", "1", "1", "2", "3", ""]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("entity_id,area\na,1\n", "has no column 'patient'; it has entity_id, area"),
        ("entity_id,patient\n", "has no row"),
        ("entity_id,patient\na,1\na,2\n", "glomerulus 'a' has two rows"),
        ("", "no table of glomeruli"),
    ],
)
def test_a_table_that_is_none_is_named(tmp_path, table, message):
    path = tmp_path / "e.csv"
    path.write_text(table)
    with pytest.raises(FindingsError, match=rf"e\.csv: .*{message}"):
        read_entities(path)
