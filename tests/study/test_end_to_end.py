"""The study by the command of its config, on a cohort of phantoms of a few seconds' work."""

import json
import re
import time
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from bundle.geometry import Size
from tests.cohort import ROOT, TINY_NETWORK, command, finish, start, write_cohort
from tests.study.hand_made import write_datalists

pytestmark = pytest.mark.slow

STUDY = ROOT / "configs" / "study.yaml"
COMMAND = re.compile(r"^  (.* -m monai\.bundle run .*)$", re.M)
NORMAL, SCLEROSIS = (1, 0, 0), (0, 1, 1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """Normal slides of 2 um/px, sclerotic ones of 4 um/px, and two regions of a mixed one."""
    folder = tmp_path_factory.mktemp("cohort")
    normal = {
        "training": [("a", "HE")],
        "validation": [("b", "PAS")],
        "test": [("c", "HE"), ("d", "PAS")],
    }
    at_20x = {"size": Size(400, 300), "mpp": 4.0}
    lists = {
        "normal": write_cohort(folder / "normal", normal, class_fractions=NORMAL),
        "mixed": write_cohort(folder / "mixed", {"training": [("m", "HE")]}, class_fractions=(1, 1, 1), **at_20x),
        "sclerosis": write_cohort(
            folder / "sclerosis", {"test": [("s", "HE"), ("t", "PAS")]}, class_fractions=SCLEROSIS, **at_20x
        ),
    }
    rows = {name: json.loads(path.read_text()) for name, path in lists.items()}
    for name, splits in rows.items():
        for item in (item for items in splits.values() for item in items):
            item |= {key: f"{name}/{item[key]}" for key in ("image", "label")}
    (slide,) = rows["mixed"]["training"]
    rows["mixed"] = {
        "training": [{**slide, "region": region} for region in ([0, 0, 200, 300], [200, 0, 200, 300])],
        "validation": rows["normal"]["validation"],
    }
    for name, splits in rows.items():
        (folder / f"{name}.json").write_text(json.dumps(splits))
    return folder


def line(cohort: Path, output_dir: Path) -> list[str]:
    """The command of a study of one tiny network, one epoch a training."""
    tiny = {"network_def": {"features": TINY_NETWORK}}
    quick = {"epochs": 1, "tiles_per_epoch": 8, "val_interval": 1}
    return command(
        STUDY,
        cohort=cohort,
        output_dir=output_dir,
        only="['U-Net']",
        networks__unet__overrides=tiny,
        tile_level0_px=256,
        overlap_level0_px=64,
        tile_px=96,
        training_mpp=2.0,
        overrides={"device": "cpu", "num_workers": 0, "batch_size": 2},
        training=quick,
        finetuning=quick,
    )


@pytest.fixture(scope="module")
def studied(cohort, tmp_path_factory):
    """Folder and printed commands of a study that has ended."""
    folder = tmp_path_factory.mktemp("study")
    process = start(line(cohort, folder))
    output, errors = process.communicate(timeout=1200)  # eight commands
    assert process.returncode == 0, errors + "".join(log.read_text() for log in folder.rglob("log.txt"))
    return folder, output


def test_it_writes_the_tables_and_the_picture(studied):
    folder, _ = studied
    written = {path.name for path in folder.iterdir() if path.is_file()}
    tables = {f"table{number}.csv" for number in (3, 4, 5, 6)}
    further = {"checks.csv", "confounder.csv", "detection.csv", "paired_tests.csv", "cells.csv"}
    assert written == {"study.md", "boxplots.png"} | tables | further
    with Image.open(folder / "boxplots.png") as picture:
        picture.verify()


def test_its_tables_hold_what_the_evaluations_found(studied):
    folder, _ = studied
    for number, level, images, where, label in [
        (3, "slides", "whole slides", "normal/on_normal", "normal"),
        (4, "slides", "whole slides", "normal/on_sclerosis", "segmental_sclerosis"),
        (5, "crops", "crops", "normal/on_sclerosis", "global_sclerosis"),
        (6, "crops", "crops", "mixed/on_sclerosis", "global_sclerosis"),
    ]:
        dice = pd.read_csv(folder / "U-Net" / where / level / "per_image.csv")[f"stratified_dice_{label}"].dropna()
        table = pd.read_csv(folder / f"table{number}.csv")
        row = table[(table["images"] == images) & (table["stain"] == "ALL")].iloc[0]
        assert row["U-Net images"] == len(dice) > 0
        assert row["U-Net mean"] == pytest.approx(dice.mean())
        assert f"{dice.mean():.3f}" in (folder / "study.md").read_text(encoding="utf-8")


def test_the_scale_of_the_tiles_makes_a_difference_on_sclerotic_slides_only(studied):
    folder, _ = studied
    scores = {
        name: pd.read_csv(folder / "U-Net" / "normal" / name / "crops" / "per_image.csv")["dice_glomerulus"]
        for name in ("on_normal", "on_normal_physical", "on_sclerosis", "on_sclerosis_physical")
    }
    assert scores["on_normal"].equals(scores["on_normal_physical"])
    assert not scores["on_sclerosis"].equals(scores["on_sclerosis_physical"])


def test_its_commands_can_be_repeated(studied):
    folder, output = studied
    cells = pd.read_csv(folder / "cells.csv").set_index("cell")
    done = cells[cells["seconds"].notna()]
    assert len(done) == 8
    assert all("/U-Net" in name for name in done.index)
    assert COMMAND.findall(output) == list(done["command"])


def test_a_second_start_runs_nothing(studied, cohort):
    folder, _ = studied
    begin = time.time()
    status, output, errors = finish(start(line(cohort, folder)))
    assert status == 0, errors
    assert COMMAND.findall(output) == []
    assert errors.count("done before") == 8
    assert all(path.stat().st_mtime < begin for path in folder.rglob("model.pt"))


def test_a_cell_that_fails_is_named_in_one_line_with_its_log(tmp_path):
    without_slides = write_datalists(tmp_path / "cohort")
    status, _, errors = finish(start(line(without_slides, tmp_path / "out")))
    assert status == 1
    assert "Traceback" not in errors
    log = tmp_path / "out" / "U-Net" / "normal" / "log.txt"
    assert errors.splitlines()[-1] == (
        f"error: train/U-Net: failed with exit status 1; see {log} (7 more cells failed or need it); "
        "start the study again to run what is missing"
    )
    assert re.search(r"^error: .*p\.tif does not exist", log.read_text(), re.M)
