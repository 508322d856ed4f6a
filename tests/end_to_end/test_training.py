"""Training and evaluation by the commands of the README, on phantom slides of a second's work."""

import csv
import json
import math
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.networks.nets import BasicUNet
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bundle.classes import CLASS_NAMES
from tests.cohort import EVALUATE, TINY_NETWORK, TRAIN, command, finish, start, workflow, write_cohort

EPOCHS = 4
FAST = {"epochs": EPOCHS, "tiles_per_epoch": 32, "batch_size": 4, "learning_rate": 0.005, "warmup_steps": 2}


def training(datalist: Path, output_dir: Path) -> list[str]:
    options = {"datalist": datalist, "output_dir": output_dir, "num_workers": 0, "device": "cpu", "progress": False}
    return command(TRAIN, network_def__features=TINY_NETWORK, **FAST, **options)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """The datalist of three patients for training and validation, and three of two stains to test on."""
    splits = {
        "training": [("a", "PAS"), ("b", "HE")],
        "validation": [("c", "PAS")],
        "test": [("d", "PAS"), ("d", "PAS"), ("e", "HE"), ("f", "PAS")],
    }
    return write_cohort(tmp_path_factory.mktemp("cohort"), splits)


@pytest.fixture(scope="module")
def unbroken(cohort, tmp_path_factory):
    """Folder, standard error of a training that ran through."""
    folder = tmp_path_factory.mktemp("unbroken")
    status, _, errors = finish(start(training(cohort, folder)))
    assert status == 0, errors
    return folder, errors


@pytest.fixture(scope="module")
def resumed(cohort, tmp_path_factory):
    """Folder of a training that was killed in the middle of an epoch and started again, and what it said then."""
    folder = tmp_path_factory.mktemp("killed")
    state = folder / "training_state.pt"
    process = start(training(cohort, folder))
    until = time.monotonic() + 280
    while not state.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    finish(process)
    assert 1 <= torch.load(state)["epoch"] < EPOCHS, "killed too late for this test"
    status, _, errors = finish(start(training(cohort, folder)))
    assert status == 0, errors
    return folder, errors


@pytest.mark.slow
def test_training_writes_model_state_curves_and_tables(unbroken):
    folder, _ = unbroken
    assert {p.name for p in folder.iterdir()} == {"model.pt", "training_state.pt", "tensorboard", "validation"}
    tables = {"summary.md", "per_image.csv", "per_stain.csv", "per_patient.csv"}
    assert {p.name for p in (folder / "validation").iterdir()} == tables


@pytest.mark.slow
def test_the_loss_falls(unbroken):
    losses = [float(found) for found in re.findall(r"mean training loss ([\d.]+)", unbroken[1])]
    assert len(losses) == EPOCHS
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
def test_tensorboard_shows_loss_and_validation(unbroken):
    curves = {}
    for file in (unbroken[0] / "tensorboard").iterdir():
        events = EventAccumulator(str(file)).Reload()
        curves |= {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    iterations = FAST["epochs"] * FAST["tiles_per_epoch"] // FAST["batch_size"]
    assert len(curves["train_loss"]) == iterations
    assert len(curves["epoch_loss"]) == len(curves["val_dice"]) == EPOCHS
    assert curves["epoch_loss"][0] == pytest.approx(np.mean(curves["train_loss"][: iterations // EPOCHS]), rel=1e-4)
    assert {f"val_dice_{name}" for name in CLASS_NAMES} <= curves.keys()


@pytest.mark.slow
def test_training_says_nothing_alarming(unbroken):
    errors = unbroken[1]
    assert "Warning" not in errors
    assert "Traceback" not in errors
    assert all(" INFO " in line or "INFO" in line for line in errors.splitlines() if re.match(r"\d{4}-", line))


@pytest.mark.slow
def test_the_best_model_is_a_plain_state_dict_of_the_network(unbroken):
    network = BasicUNet(spatial_dims=2, in_channels=3, out_channels=4, features=TINY_NETWORK)
    network.load_state_dict(torch.load(unbroken[0] / "model.pt", weights_only=True))


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_like_an_unbroken_one(unbroken, resumed):
    assert "resumed" in resumed[1]
    expected, found = (torch.load(folder / "training_state.pt") for folder, _ in (unbroken, resumed))
    assert expected["epoch"] == found["epoch"] == EPOCHS
    assert expected["iteration"] == found["iteration"]
    assert expected["best_model"] == found["best_model"]
    assert all(torch.equal(value, found["network"][key]) for key, value in expected["network"].items())
    assert expected["lr_scheduler"] == found["lr_scheduler"]
    assert (unbroken[0] / "model.pt").read_bytes() == (resumed[0] / "model.pt").read_bytes()
    table = Path("validation") / "per_image.csv"
    assert (unbroken[0] / table).read_text() == (resumed[0] / table).read_text()


@pytest.mark.slow
def test_a_finished_training_is_left_as_it_is(cohort, unbroken, tmp_path):
    folder = shutil.copytree(unbroken[0], tmp_path / "copy")
    # The config's other settings do not matter: there is nothing left to train.
    options = {"datalist": str(cohort), "output_dir": str(folder), "num_workers": 0}
    with workflow(TRAIN, **FAST, **options) as again:
        again.run()
    assert (folder / "training_state.pt").read_bytes() == (unbroken[0] / "training_state.pt").read_bytes()


def keep(engine, kept) -> None:
    output = engine.state.output
    kept.append(tuple(np.asarray(output[key]).copy() for key in ("pred", "label")))


@pytest.fixture(scope="module")
def evaluation(cohort, tmp_path_factory):
    """Folder of an evaluation of random weights, and the (prediction, truth) of all its slides and crops."""
    folder = tmp_path_factory.mktemp("evaluation")
    torch.manual_seed(0)
    network = BasicUNet(spatial_dims=2, in_channels=3, out_channels=4, features=TINY_NETWORK)
    torch.save(network.state_dict(), folder / "model.pt")
    options = {"datalist": str(cohort), "split": "test", "output_dir": str(folder)}
    rasters: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"validate": [], "crops": []}
    with workflow(TRAIN, EVALUATE, checkpoint=str(folder / "model.pt"), **options) as evaluate:
        for name, kept in rasters.items():
            engine = evaluate.parser.get_parsed_content(f"{name}#evaluator")
            engine.add_event_handler(Events.ITERATION_COMPLETED, keep, kept)
        evaluate.run()
    return folder, rasters


def dice(prediction, truth) -> float:
    return 2 * np.sum(prediction & truth) / (np.sum(prediction) + np.sum(truth)) if truth.any() else math.nan


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number(cell: str) -> float:
    return float(cell) if cell else math.nan


@pytest.mark.parametrize(("table", "rasters"), [("slides", "validate"), ("crops", "crops")])
def test_the_tables_hold_the_dice_of_the_rasters(evaluation, table, rasters):
    folder, found = evaluation[0] / table, evaluation[1][rasters]
    rows = read(folder / "per_image.csv")
    assert len(rows) == len(found) > 3
    assert any((prediction > 0).any() for prediction, _ in found)
    for row, (prediction, truth) in zip(rows, found, strict=True):
        assert number(row["dice_glomerulus"]) == pytest.approx(dice(prediction > 0, truth > 0), nan_ok=True)
        for i, name in enumerate(CLASS_NAMES, 1):
            assert number(row[f"dice_{name}"]) == pytest.approx(dice(prediction == i, truth == i), nan_ok=True)
            assert int(row[f"false_positive_px_{name}"]) == np.sum((prediction == i) & (truth == 0))


@pytest.mark.parametrize("table", ["slides", "crops"])
@pytest.mark.parametrize(("by", "groups"), [("stain", ["HE", "PAS"]), ("patient", ["d", "e", "f"])])
def test_the_summaries_hold_mean_and_deviation_of_the_images(evaluation, table, by, groups):
    folder = evaluation[0] / table
    images, summary = read(folder / "per_image.csv"), read(folder / f"per_{by}.csv")
    assert list(dict.fromkeys(row[by] for row in summary)) == [*groups, "ALL"]
    for row in (row for row in summary if row["measure"] in ("dice", "stratified_dice")):
        column = f"{row['measure']}_{row['class']}"
        values = np.array([number(image[column]) for image in images if row[by] in (image[by], "ALL")])
        values = values[~np.isnan(values)]
        assert int(row["n"]) == len(values)
        mean = values.mean() if len(values) else math.nan
        deviation = values.std(ddof=1) if len(values) > 1 else math.nan
        assert number(row["mean"]) == pytest.approx(mean, nan_ok=True)
        assert number(row["std"]) == pytest.approx(deviation, nan_ok=True, abs=1e-9)


def test_a_class_that_a_crop_lacks_is_no_number_and_never_0(evaluation):
    rows = read(evaluation[0] / "crops" / "per_image.csv")
    lacking = 0
    for row, (_, truth) in zip(rows, evaluation[1]["crops"], strict=True):
        for i, name in enumerate(CLASS_NAMES, 1):
            if not (truth == i).any():
                assert row[f"dice_{name}"] == ""
                lacking += 1
    assert lacking > 0


def test_every_annotated_glomerulus_is_a_crop_that_holds_it(evaluation):
    rows = read(evaluation[0] / "crops" / "per_image.csv")
    for row, (_, truth) in zip(rows, evaluation[1]["crops"], strict=True):
        index = CLASS_NAMES.index(row["crop"].split()[1]) + 1
        assert (truth == index).any()
    assert {row["patient"] for row in rows} == {"d", "e", "f"}


def test_the_paper_table_is_written(evaluation):
    text = (evaluation[0] / "slides" / "summary.md").read_text(encoding="utf-8")
    assert text.startswith("# Whole slides\n")
    measures = ("dice", "stratified_dice", "f1", "panoptic_quality", "count_error", "pooled_f1", "global_percent_error")
    assert all(f"## {measure} per {by}\n" in text for measure in measures for by in ("stain", "patient"))


def test_counted_glomeruli_are_those_of_the_annotation(evaluation, cohort):
    items = json.loads(cohort.read_text())["test"]
    rows = {row["slide"]: row for row in read(evaluation[0] / "slides" / "per_image.csv")}
    for item in items:
        features = json.loads((cohort.parent / item["label"]).read_text())["features"]
        row = rows[Path(item["image"]).stem]
        assert number(row["true_positives_glomerulus"]) + number(row["false_negatives_glomerulus"]) == len(features)
        names = [feature["properties"]["classification"]["name"] for feature in features]
        assert number(row["true_global_percent"]) == pytest.approx(100 * names.count("global_sclerosis") / len(names))


def test_a_crop_is_stratified_by_the_class_of_its_own_glomerulus(evaluation):
    rows = read(evaluation[0] / "crops" / "per_image.csv")
    for row in rows:
        own = row["crop"].split()[1]
        assert row[f"stratified_dice_{own}"] == row["stratified_dice_glomerulus"] != ""
        assert {row[f"stratified_dice_{name}"] for name in CLASS_NAMES if name != own} == {""}
    assert {row["hd95_um_glomerulus"] != "" for row in rows} >= {True}


@pytest.mark.slow
def test_the_evaluation_command_runs_with_its_progress_bars(cohort, unbroken, tmp_path):
    options = {"datalist": cohort, "output_dir": tmp_path, "checkpoint": unbroken[0] / "model.pt", "device": "cpu"}
    line = command(TRAIN, EVALUATE, network_def__features=TINY_NETWORK, **options)
    status, _, errors = finish(start(line, cwd=tmp_path))
    assert status == 0, errors
    assert "Warning" not in errors
    assert "crops" in errors
    # The same slides, the same network: what training said at its best epoch.
    (row,) = read(tmp_path / "slides" / "per_image.csv")
    assert row["patient"] == "c"
