"""The commands of a study are such as the bundle takes, and mean what the study did."""

import ast

import pytest
import yaml
from monai.bundle import ConfigParser

from bundle.command_line import check_overrides
from bundle.grid import PhysicalTiles, PixelTiles
from bundle.study.plan import Network, Plan, StudyTiles, flat
from tests.cohort import ROOT
from tests.study.hand_made import NETWORKS, PER_NETWORK, TILES, option

CONFIGS = ROOT / "configs"


@pytest.fixture
def settings():
    """configs/study.yaml as it is written."""
    return yaml.safe_load((CONFIGS / "study.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def plan(tmp_path, settings):
    keys = ("overrides", "training", "finetuning", "evaluation")
    given = {key: settings[key] for key in keys}
    return Plan(root=ROOT, cohort=tmp_path, output_dir=tmp_path / "out", tiles=StudyTiles(**TILES), **given)


@pytest.fixture
def cells(plan):
    return {cell.name: cell for cell in plan.cells(Network(**NETWORKS["unet3plus"]))}


def merged(command):
    """The config that a command runs, nothing evaluated."""
    parser = ConfigParser(ConfigParser.load_config_files(ast.literal_eval(option(command, "config_file"))))
    options = command[command.index("--config_file") + 2 :]
    parser.update({name.removeprefix("--"): value for name, value in zip(options[::2], options[1::2], strict=True)})
    return parser


def test_the_cells_of_a_network(cells):
    assert list(cells) == [
        "train/U-Net3+",
        "finetune/U-Net3+",
        "evaluate/U-Net3+/normal/normal",
        "evaluate/U-Net3+/normal/sclerosis",
        "evaluate/U-Net3+/mixed/normal",
        "evaluate/U-Net3+/mixed/sclerosis",
        "evaluate/U-Net3+/normal/normal_physical",
        "evaluate/U-Net3+/normal/sclerosis_physical",
    ]
    assert len(cells) == PER_NETWORK


def test_the_bundle_knows_every_setting_of_every_command(cells, monkeypatch):
    monkeypatch.chdir(ROOT)
    for cell in cells.values():
        check_overrides(cell.command[3:])


def test_training_is_by_the_study_s_protocol(cells, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = merged(cells["train/U-Net3+"].command)
    assert (config["learning_rate"], config["network_def"]["out_channels"]) == (0.0001, 1)
    assert config["loss"]["_target_"] == "bundle.training.BCELovaszLoss"
    assert config["network_def"]["_target_"] == "bundle.networks.UNet3Plus"


def test_fine_tuning_keeps_the_encoder_and_the_last_epoch(cells, settings, monkeypatch):
    monkeypatch.chdir(ROOT)
    command = cells["finetune/U-Net3+"].command
    config = merged(command)
    assert config["frozen_layers"] == "@lower_layers"
    assert config["learning_rate"] == yaml.safe_load((CONFIGS / "finetune.yaml").read_text())["learning_rate"]
    assert config["val_interval"] == "@epochs"
    assert option(command, "epochs") == str(settings["finetuning"]["epochs"])


def test_each_cell_starts_from_the_weights_of_the_one_before(cells, tmp_path):
    normal, mixed = (tmp_path / "out" / "U-Net3+" / stage / "model.pt" for stage in ("normal", "mixed"))
    assert cells["train/U-Net3+"].outputs == (normal,)
    assert cells["finetune/U-Net3+"].outputs == (mixed,)
    assert option(cells["finetune/U-Net3+"].command, "initial_weights") == str(normal)
    assert option(cells["evaluate/U-Net3+/normal/sclerosis"].command, "checkpoint") == str(normal)
    assert option(cells["evaluate/U-Net3+/mixed/sclerosis"].command, "checkpoint") == str(mixed)
    assert mixed in cells["evaluate/U-Net3+/mixed/normal"].inputs


def test_weights_to_start_from_are_an_input_of_training(plan):
    cell = next(plan.cells(Network("U-Net", "configs/networks/basic_unet.yaml", initial_weights="models/model.pt")))
    assert option(cell.command, "initial_weights") == str(ROOT / "models" / "model.pt")
    assert ROOT / "models" / "model.pt" in cell.inputs


def test_without_weights_to_start_from_none_are_named(cells):
    assert "--initial_weights" not in cells["train/U-Net3+"].command


def test_a_tile_in_micrometres_is_the_tile_in_pixels_of_a_training_slide(cells, monkeypatch):
    monkeypatch.chdir(ROOT)
    pixels = PixelTiles(1024, 256, 320)
    tiles = merged(cells["evaluate/U-Net3+/normal/sclerosis_physical"].command)["tiles"]
    assert tiles.pop("_target_") == "bundle.grid.PhysicalTiles"
    physical = PhysicalTiles(**{name: float(value) for name, value in tiles.items()})
    assert (physical.tile_px, physical.overlap_px) == (pixels.tile_px, pixels.overlap_px)
    assert physical.downsample(0.25) == pixels.downsample(0.25) == 3.2
    assert physical.downsample(0.5) == 1.6


def test_the_tiles_of_the_config_are_those_of_the_protocol(settings):
    protocol = yaml.safe_load((CONFIGS / "protocols" / "study.yaml").read_text(encoding="utf-8"))["tiles"]
    assert {**protocol, "_target_": ""} == {"_target_": "", **StudyTiles(**TILES).in_pixels}
    assert {key: settings[key] for key in TILES} == TILES


def test_a_network_s_settings_win_over_those_of_all(plan):
    network = Network("U-Net", "configs/networks/basic_unet.yaml", {"seed": 5})
    assert plan.overrides["seed"] != 5
    assert option(next(plan.cells(network)).command, "seed") == "5"


def test_nested_settings_are_named_as_the_command_line_names_them():
    nested = {"seed": 1, "network_def": {"features": [8, 8], "norm": {"name": "batch"}}}
    assert dict(flat(nested)) == {"seed": 1, "network_def#features": [8, 8], "network_def#norm#name": "batch"}
