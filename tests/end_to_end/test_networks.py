"""Every network, under either protocol, trains, segments a slide and leaves Python, by adding its config file."""

import json
from pathlib import Path

import pytest
import tifffile
import torch
from monai.bundle import ConfigParser

from bundle.weights import load_weights
from tests.cohort import INFERENCE, ROOT, TRAIN, command, finish, start, write_cohort

pytestmark = pytest.mark.slow

CONFIGS = ROOT / "configs"
VARIANTS = {
    "unet3plus": ([CONFIGS / "networks" / "unet3plus.yaml"], {"network_def__features": [4, 8, 16, 16, 16]}),
    "swin_unetr": ([CONFIGS / "networks" / "swin_unetr.yaml"], {"network_def__feature_size": 12}),
    "unet3plus of the study": (
        [CONFIGS / "networks" / "unet3plus.yaml", CONFIGS / "protocols" / "study.yaml"],
        {"network_def__features": [4, 8, 16, 16, 16]},
    ),
}


def run(line: list[str]) -> str:
    status, _, errors = finish(start(line))
    assert status == 0, errors
    return errors


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    splits = {"training": [("a", "PAS")], "validation": [("b", "PAS")]}
    return write_cohort(tmp_path_factory.mktemp("networks"), splits)


@pytest.fixture(scope="module", params=VARIANTS)
def trained(request, cohort, tmp_path_factory):
    """Config files, overrides and weights of a network trained for one epoch."""
    files, overrides = VARIANTS[request.param]
    folder = tmp_path_factory.mktemp("run")
    options = {"datalist": cohort, "output_dir": folder, "device": "cpu", "progress": False, "num_workers": 0}
    errors = run(command(TRAIN, *files, **overrides, **options, epochs=1, tiles_per_epoch=8, batch_size=2))
    assert "epoch 1/1: mean training loss" in errors
    return files, overrides, folder / "model.pt"


def test_a_trained_network_segments_a_slide(trained, cohort, tmp_path):
    files, overrides, weights = trained
    slide = cohort.parent / "validation_1.tif"
    options = {"slide": slide, "output_dir": tmp_path, "checkpoint": weights, "device": "cpu", "progress": False}
    run(command(INFERENCE, *files, **overrides, **options))
    assert tifffile.imread(tmp_path / "mask.tif").shape == tifffile.imread(slide).shape[:2]
    assert json.loads((tmp_path / "summary.json").read_text())["glomeruli"] >= 0


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:__array_wrap__")  # MONAI's SwinUNETR, traced
def test_a_trained_network_leaves_python_with_the_same_bits(trained, tmp_path):
    files, overrides, weights = trained
    parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in (INFERENCE, *files)]))
    parser.update({name.replace("__", "#"): value for name, value in overrides.items()})
    network = parser.get_parsed_content("network_def").eval()
    load_weights(network, weights)
    tile = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    is_swin = "SwinUNETR" in type(network).__name__
    exported = torch.jit.trace(network, tile) if is_swin else torch.jit.script(network)
    exported.save(str(tmp_path / "network.ts"))
    with torch.inference_mode():
        assert torch.equal(torch.jit.load(str(tmp_path / "network.ts"))(tile), network(tile))
