"""configs/association.yaml as a user runs it."""

import logging

import pandas as pd
import pytest
from PIL import Image

from bundle.errors import ConfigError, FindingsError
from bundle.findings.association import Association
from tests.cohort import ROOT, command, finish, start
from tests.findings_association.association_files import write_files

pytest.importorskip("statsmodels")

CONFIG = ROOT / "configs" / "association.yaml"


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path)


def associate(files, out, **settings):
    chosen = {"statistics": ["mean"], "progress": False, **settings}
    return Association(entities=files.entities, clinical=files.clinical, output_dir=out, **chosen).run()


def test_the_command_writes_tables_and_plots_and_finds_what_was_planted(files, tmp_path):
    out = tmp_path / "out"
    line = command(CONFIG, entities=files.entities, clinical=files.clinical, output_dir=out, statistics="['mean','sd']")
    code, _, errors = finish(start(line))
    assert code == 0, errors
    table = pd.read_csv(out / "associations.csv", keep_default_na=False, na_values=[""])
    found = table[table["q"] <= 0.05]
    assert ("od_mean_mean", "diabetes") in set(zip(found["feature"], found["variable"], strict=True))
    features = pd.read_csv(out / "features.csv", index_col="patient")
    glomeruli = pd.read_csv(files.entities)
    assert features.loc["P07", "area_um2_mean"] == pytest.approx(
        glomeruli.loc[glomeruli["patient"] == "P07", "area_um2"].mean()
    )
    report = (out / "associations.md").read_text()
    assert "1200 glomeruli of 60 patients" in report
    assert "| od_mean_mean" in report
    assert "the feature is constant" in report  # all patients have 20 glomeruli
    for name in ("heatmap.png", "volcano.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 200


def test_an_error_is_one_line(files, tmp_path):
    files.clinical.write_text(files.clinical.read_text().replace("P", "patient "))
    line = command(CONFIG, entities=files.entities, clinical=files.clinical, output_dir=tmp_path / "out")
    code, _, errors = finish(start(line))
    assert code == 1
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith(f"error: {files.clinical}: none of its patients (such as 'patient 00')")


def test_fewer_patients_than_features_are_warned_of(files, tmp_path, caplog):
    clinical = pd.read_csv(files.clinical, dtype=str).head(12)
    clinical.to_csv(files.clinical, index=False)
    with caplog.at_level(logging.WARNING):
        associate(files, tmp_path / "out", statistics=["mean", "sd", "q90"])
    assert "12 patients are fewer than 20 features" in caplog.text
    assert "48 patients have glomeruli only and 0 clinical data only" in caplog.text
    assert "**Warning:** 12 patients are fewer" in (tmp_path / "out" / "associations.md").read_text()


def test_covariates_are_held_constant_and_not_tested(files, tmp_path):
    table = associate(files, tmp_path / "out", covariates="stage")
    assert "stage" not in set(table["variable"])
    assert "stage held constant" in (tmp_path / "out" / "associations.md").read_text()


def test_glomeruli_can_be_the_unit(files, tmp_path):
    table = associate(files, tmp_path / "out", level="glomerulus", selection={"features": ["od_mean"]})
    diabetes = table.set_index("variable").loc["diabetes"]
    assert (diabetes["test"], diabetes["patients"], diabetes["sizes"]) == ("mixed model", 60, "30/30")
    assert diabetes["p"] < 0.01


def test_the_same_tables_give_the_same_result(files, tmp_path):
    first, second = (associate(files, tmp_path / name) for name in ("a", "b"))
    pd.testing.assert_frame_equal(first, second)
    assert (tmp_path / "a" / "associations.md").read_text() == (tmp_path / "b" / "associations.md").read_text()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"covariates": ["weight"]}, ConfigError, "covariates: no variable 'weight'; declared are egfr, stage"),
        ({"covariates": ["failure"]}, ConfigError, "'failure' is a survival time"),
        ({"level": "slide"}, ConfigError, "level 'slide': must be one of patient, glomerulus"),
        ({"fdr": 5}, ConfigError, "fdr 5: must be between 0 and 1"),
        ({"patient_column": "id"}, FindingsError, "has no column 'id' of patients"),
        ({"variables": {"age": {"kind": "continuous"}}}, FindingsError, "has no column 'age' of variable 'age'"),
    ],
)
def test_settings_that_cannot_be_meant_are_named(files, tmp_path, settings, error, message):
    with pytest.raises(error, match=message):
        associate(files, tmp_path / "out", **settings)


def test_the_tables_must_be_named(tmp_path):
    with pytest.raises(ConfigError, match="give --entities"):
        Association(entities=None, clinical="c.csv", output_dir=tmp_path)
