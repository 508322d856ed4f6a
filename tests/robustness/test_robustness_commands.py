"""Calibrate, triage and the robustness protocol, by the commands, with a network that reads an oracle phantom."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from bundle.errors import ConfigError, WeightsError
from bundle.evaluation.calibration_lock import Lock, read_lock, write_lock
from bundle.evaluation.triage import Thresholds
from tests.cohort import EVALUATE, INFERENCE, ROOT, TRAIN, command, finish, start, write_cohort
from tests.oracle import ORACLE, OracleNetwork

CALIBRATE, ROBUSTNESS = ROOT / "configs" / "calibrate.yaml", ROOT / "configs" / "robustness.yaml"
OPTIONS = {"network_def": ORACLE, "device": "cpu", "backend": "torch", "progress": False}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("oracles")
    splits = {"validation": [("a", "PAS"), ("b", "HE")]}
    path = write_cohort(folder, splits, oracle=True)
    Image.new("RGB", (400, 300), (240, 240, 240)).save(folder / "glass.png")
    (folder / "glass.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    datalist = json.loads(path.read_text())
    glass = {"image": "glass.png", "label": "glass.geojson", "patient": "c", "stain": "HE", "mpp": 2.0}
    datalist["validation"].append(glass)
    path.write_text(json.dumps(datalist))
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(OracleNetwork().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def calibrated(cohort, weights, tmp_path_factory) -> Path:
    """Folder of the calibration."""
    folder = tmp_path_factory.mktemp("calibration")
    line = command(
        TRAIN, EVALUATE, CALIBRATE, datalist=cohort, checkpoint=weights, output_dir=folder, **OPTIONS,
        calibration_pixels=2000,
    )  # fmt: skip
    status, _, errors = finish(start(line))
    assert status == 0, errors
    assert "--triage" in errors
    return folder


@pytest.mark.slow
def test_a_calibration_is_locked_to_weights_datalist_and_settings(calibrated, cohort, weights):
    found = json.loads((calibrated / "calibration.json").read_text())
    assert found["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert found["datalist"]["sha256"] == hashlib.sha256(cohort.read_bytes()).hexdigest()
    assert found["settings"]["test_time_augmentation"] is False
    assert found["settings"]["tiles"].startswith("PhysicalTiles(tile_um=1024")
    assert found["pixels"]["after"]["nll"] <= found["pixels"]["before"]["nll"]
    assert (calibrated / "reliability.png").stat().st_size > 1000


@pytest.mark.slow
def test_what_it_claims_is_what_its_table_says(calibrated):
    found = json.loads((calibrated / "calibration.json").read_text())
    table = pd.read_csv(calibrated / "glomeruli.csv")
    claims = found["claims"]
    assert claims["objects"] == len(table) > 10
    n = int((table["true"] == 3).sum())
    expected = {"successes": n, "trials": n, "value": 1.0, "low": 0.025 ** (1 / n), "high": 1.0}
    assert claims["sensitivity"] == pytest.approx(expected, abs=1e-4)
    assert claims["ruled_in_sclerotic"]["successes"] == (table["triage"] == "rule_in").sum() > 0


@pytest.mark.slow
def test_inference_with_the_calibration_tells_of_each_glomerulus(calibrated, cohort, weights, tmp_path):
    temperature = json.loads((calibrated / "calibration.json").read_text())["settings"]["temperature"]
    slide = cohort.parent / "validation_0.tif"
    line = command(
        INFERENCE, slide=slide, checkpoint=weights, output_dir=tmp_path, **OPTIONS,
        temperature=temperature, triage=calibrated / "calibration.json",
    )  # fmt: skip
    status, _, errors = finish(start(line))
    assert status == 0, errors
    features = json.loads((tmp_path / "glomeruli.geojson").read_text())["features"]
    table = pd.read_csv(calibrated / "glomeruli.csv").query("slide == 'validation_0'")
    scores = sorted(f["properties"]["measurements"]["Global sclerosis"] for f in features)
    np.testing.assert_allclose(scores, sorted(table["score"]), atol=1e-3)
    found = [f["properties"]["triage"] for f in features]
    for feature in features:
        name, triage = feature["properties"]["classification"]["name"], feature["properties"]["triage"]
        assert triage != ("rule_out" if name == "global_sclerosis" else "rule_in")
        assert feature["properties"]["metadata"]["triage"] == triage
    counts = json.loads((tmp_path / "summary.json").read_text())["triage"]
    assert {name: counts[name] for name in ("rule_in", "rule_out", "review")} == {
        name: found.count(name) for name in ("rule_in", "rule_out", "review")
    }
    assert counts["rule_in"] > 0


@pytest.mark.slow
def test_the_robustness_command_shows_what_a_colour_reader_cannot_bear(cohort, weights, tmp_path):
    turned = {"_target_": "bundle.robustness.HueShift", "turn": 1 / 3}  # red is green then, and green blue
    jpeg = {"_target_": "bundle.robustness.Jpeg", "quality": 20}
    line = command(
        TRAIN, EVALUATE, ROBUSTNESS, datalist=cohort, checkpoint=weights, output_dir=tmp_path, **OPTIONS,
        model_name="oracle", perturbations={"turned": turned, "jpeg_20": jpeg},
    )  # fmt: skip
    status, _, errors = finish(start(line))
    assert status == 0, errors
    frame = pd.read_csv(tmp_path / "robustness.csv").query("stain == 'ALL' and `class` == 'global_sclerosis'")
    dice, f1 = (frame[frame["measure"] == m].set_index("perturbation")["mean"] for m in ("dice", "pooled_f1"))
    assert list(dice.index) == list(f1.index) == ["unperturbed", "turned", "jpeg_20"]
    assert min(dice["unperturbed"], dice["jpeg_20"], f1["unperturbed"]) > 0.9
    assert max(dice["turned"], f1["turned"]) < 0.1
    own = pd.read_csv(tmp_path / "images" / "jpeg_20.csv")
    assert own["dice_global_sclerosis"].mean() == pytest.approx(dice["jpeg_20"])
    table = pd.read_csv(tmp_path / "range.csv").query("stain == 'ALL' and `class` == 'global_sclerosis'")
    assert table.set_index("measure").loc["dice", "min_at"] == "turned"
    assert (tmp_path / "robustness.png").stat().st_size > 1000


def lock(weights: Path, **settings: object) -> Lock:
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return Lock(digest, settings, 1.5, 0.7, Thresholds(0.1, 0.9))


def test_a_lock_is_read_as_it_was_written(weights, tmp_path):
    write_lock(tmp_path / "calibration.json", lock(weights, temperature=1.2), {"claims": {"n": 3}})
    assert read_lock(tmp_path / "calibration.json") == lock(weights, temperature=1.2)


def test_an_edited_lock_is_refused(weights, tmp_path):
    path = tmp_path / "calibration.json"
    write_lock(path, lock(weights), {})
    content = json.loads(path.read_text())
    content["thresholds"]["rule_in"] = 0.2
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="changed since it was locked"):
        read_lock(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seal": 1, "format": 1}'])
def test_another_file_is_no_lock(tmp_path, text):
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(ConfigError, match=r"configs/calibrate\.yaml makes it"):
        read_lock(tmp_path / "calibration.json")


@pytest.mark.parametrize(
    ("changed", "kind", "message"),
    [
        ({"checkpoint": "other"}, WeightsError, "locked to other weights"),
        ({"temperature": 2.0}, ConfigError, "locked to temperature 1.2, not 2.0"),
        ({"test_time_augmentation": True}, ConfigError, "locked to test_time_augmentation False, not True"),
        ({"model_mpp": 2.0}, ConfigError, "locked to tiles"),
    ],
)
def test_inference_refuses_thresholds_of_other_weights_or_settings(cohort, weights, tmp_path, changed, kind, message):
    tiles = "PhysicalTiles(tile_um=1024, overlap_um=256, mpp=4.0)"
    settings = {"tiles": tiles, "test_time_augmentation": False, "stain_normalisation": "none", "temperature": 1.2}
    path = tmp_path / "calibration.json"
    write_lock(path, lock(weights, **settings), {})
    torch.save({"rgb": torch.zeros(5, 3)}, tmp_path / "other")
    given = {"temperature": 1.2, "checkpoint": str(weights), **changed}
    if given["checkpoint"] == "other":
        given["checkpoint"] = str(tmp_path / "other")
    slide = str(cohort.parent / "validation_0.tif")
    workflow = ConfigWorkflow(
        str(INFERENCE), logging_file=False, workflow_type="inference", slide=slide, output_dir=str(tmp_path),
        triage=str(path), **OPTIONS, **given,
    )  # fmt: skip
    workflow.initialize()
    with pytest.raises(RuntimeError) as raised:
        workflow.run()
    cause = raised.value
    while not isinstance(cause, kind):
        cause = cause.__cause__ or cause.__context__
    assert message in str(cause)
