"""Bad input is one line of error, exit status 1 and no traceback, whatever part of the bundle meets it."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from monai.networks.nets import BasicUNet

from tests.cohort import INFERENCE, ROOT, TINY_NETWORK, TRAIN, command, finish, start, write_cohort

pytestmark = pytest.mark.slow

TINY = {"network_def__features": TINY_NETWORK, "device": "cpu", "progress": False}


def write_svs(path: Path, mpp: float | None) -> Path:
    """A slide as Aperio's scanners write it."""
    pixels = np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), np.uint8)
    properties = "|AppMag = 20" + (f"|MPP = {mpp}" if mpp else "")
    description = f"Aperio Image Library v11.2.1\r\n1024x1024 (256x256) JPEG/RGB Q=30{properties}"
    tifffile.imwrite(
        path, pixels, tile=(256, 256), photometric="rgb", compression="jpeg", description=description, metadata=None
    )
    return path


def commands(folder: Path) -> dict[str, tuple[list[str], str]]:
    """What a user types wrongly, by a name, and a pattern of the line that must come of it."""
    network = BasicUNet(spatial_dims=2, in_channels=3, out_channels=4, features=TINY_NETWORK)
    torch.save(network.state_dict(), folder / "model.pt")
    good = write_svs(folder / "good.svs", 0.5)
    (text := folder / "text.svs").write_text("This is no slide.\n" * 99)
    (truncated := folder / "truncated.svs").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    unscaled = write_svs(folder / "no_mpp.svs", None)

    datalist = write_cohort(folder / "cohort", {"training": [("a", "PAS")], "validation": [("b", "PAS")]})
    annotation = json.loads((folder / "cohort" / "training_0.geojson").read_text())
    features = annotation["features"] if isinstance(annotation, dict) else annotation
    features[0]["properties"]["classification"]["name"] = "Tubulus"
    for split in ("training", "validation"):
        rows = json.loads(datalist.read_text())
        (folder / "cohort" / f"unknown_{split}.geojson").write_text(json.dumps(annotation))
        rows[split][0]["label"] = f"unknown_{split}.geojson"
        (folder / "cohort" / f"unknown_{split}.json").write_text(json.dumps(rows))

    def infer(**options):
        given = {**TINY, "checkpoint": folder / "model.pt", "output_dir": folder / "out", "slide": good, **options}
        return command(INFERENCE, **given)

    def train(**options):
        given = {**TINY, "datalist": datalist, "output_dir": folder / "run", "tiles_per_epoch": 8, **options}
        return command(TRAIN, **given)

    unknown = {split: folder / "cohort" / f"unknown_{split}.json" for split in ("training", "validation")}
    return {
        "missing slide": (infer(slide=folder / "missing.svs"), r"missing\.svs: no such slide"),
        "text renamed": (infer(slide=text), r"text\.svs: "),
        "truncated slide": (infer(slide=truncated), r"truncated\.svs: "),
        "no resolution": (infer(slide=unscaled), r"no_mpp\.svs: .*--mpp"),
        "another network": (infer(network_def__features=[16] * 6), r"model\.pt: weights of another network"),
        "mistyped override": (infer(devcie="cpu"), r"--devcie: no such setting in .*; did you mean --device\?"),
        "unknown class": (train(datalist=unknown["training"]), r"unknown_training\.geojson: unknown class 'Tubulus'"),
        "unknown class met in validation": (
            train(datalist=unknown["validation"], num_workers=1),
            r"unknown_validation\.geojson: unknown class 'Tubulus'",
        ),
        "no datalist": (train(datalist=folder / "none.json"), r"none\.json: "),
    }


NAMES = [
    "missing slide", "text renamed", "truncated slide", "no resolution", "another network",
    "mistyped override", "unknown class", "unknown class met in validation",
    "no datalist",
]  # fmt: skip
ELSEWHERE = {"another network", "unknown class"}
"""Run from another folder than the checkout."""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """(exit status, output, errors, pattern) of every command, two at a time."""
    folder = tmp_path_factory.mktemp("bad input")  # a blank, as users have them
    made = commands(folder)
    assert list(made) == NAMES
    with ThreadPoolExecutor(2) as pool:
        runs = {
            name: pool.submit(lambda n, line: finish(start(line, folder if n in ELSEWHERE else ROOT)), name, line)
            for name, (line, _) in made.items()
        }
        return {name: (*run.result(), made[name][1]) for name, run in runs.items()}


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_one_line_of_error_and_no_traceback(results, name):
    status, output, errors, pattern = results[name]
    assert status == 1, errors
    *before, last = errors.rstrip("\n").splitlines()
    assert re.match(rf"error: .*{pattern}", last), errors
    said = "\n".join([output, *before])
    assert not re.search(r"Traceback|Exception|Error\b|ERROR|Warning|^error", said, re.MULTILINE), said
