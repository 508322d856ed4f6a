"""SegGPT trained in context by its command, and then used by the command of inference: on phantom slides."""

import json

import pytest
import tifffile
from transformers import SegGptForImageSegmentation

from bundle.classes import CLASS_NAMES
from bundle.prompts import read_prompt_set
from tests.cohort import INFERENCE, ROOT, TRAIN, command, finish, start, write_cohort

CONFIGS = ROOT / "configs"
TINY = {
    "seggpt_config__hidden_size": 32,
    "seggpt_config__num_hidden_layers": 3,
    "seggpt_config__num_attention_heads": 2,
    "seggpt_config__merge_index": 0,
    "seggpt_config__intermediate_hidden_state_indices": [1, 2],
    "seggpt_config__decoder_hidden_size": 4,
    "in_context_network__matching_layers": [1, 2],
}
FAST = {"epochs": 2, "val_interval": 1, "tiles_per_epoch": 4, "batch_size": 2, "queries": 2, "warmup_steps": 2}
QUIET = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    splits = {"training": [("a", "PAS"), ("b", "HE")], "validation": [("c", "PAS")]}
    return write_cohort(tmp_path_factory.mktemp("cohort"), splits)


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory):
    """Folder and messages of a training."""
    folder = tmp_path_factory.mktemp("run")
    options = {"datalist": cohort, "output_dir": folder, **TINY, **FAST, **QUIET}
    status, _, errors = finish(start(command(TRAIN, CONFIGS / "train_seggpt.yaml", **options)))
    assert status == 0, errors
    return folder, errors


@pytest.mark.slow
def test_training_leaves_a_network_that_transformers_reads_and_its_prompts(trained):
    folder, errors = trained
    assert "epoch 2/2: mean training loss" in errors
    assert "Warning" not in errors
    assert {p.name for p in folder.iterdir()} == {
        "model.pt",
        "seggpt",
        "training_state.pt",
        "tensorboard",
        "validation",
    }
    _, report = SegGptForImageSegmentation.from_pretrained(folder / "seggpt", output_loading_info=True)
    assert not any(report.values())
    assert read_prompt_set(folder / "seggpt" / "prompts.yaml", 64, 7.0).class_counts == dict.fromkeys(CLASS_NAMES, 2)


@pytest.mark.slow
def test_the_trained_network_segments_a_slide_after_its_prompts(trained, cohort, tmp_path):
    folder, _ = trained
    slide = cohort.parent / "validation_2.tif"
    options = {
        "slide": slide,
        "output_dir": tmp_path,
        "seggpt_dir": folder / "seggpt",
        **QUIET,
    }
    networks = [CONFIGS / "networks" / name for name in ("seggpt.yaml", "seggpt_small.yaml")]
    status, _, errors = finish(start(command(INFERENCE, *networks, **options)))
    assert status == 0, errors
    assert tifffile.imread(tmp_path / "mask.tif").shape == tifffile.imread(slide).shape[:2]
    assert json.loads((tmp_path / "summary.json").read_text())["glomeruli"] >= 0
