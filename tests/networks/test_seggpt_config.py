"""configs/networks/seggpt.yaml segments and evaluates slides from a folder of weights and a file of prompts."""

import json
from pathlib import Path

import pandas as pd
import pytest
import tifffile
import yaml
from monai.bundle import ConfigWorkflow
from monai.data import get_track_meta, set_track_meta
from monai.utils import set_determinism

from bundle.data.annotations import read_annotation
from bundle.hashing import file_sha256
from tests.cohort import EVALUATE, INFERENCE, ROOT, TRAIN, command, finish, start, write_cohort
from tests.networks.seggpt_models import tiny_model

pytestmark = pytest.mark.slow

SEGGPT = ROOT / "configs" / "networks" / "seggpt.yaml"
OPTIONS = {"device": "cpu", "progress": False, "model_mpp": 14.0, "prompt_px": 32}
"""448 um in 32 px."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A cohort, tiny weights, and a prompt of each class."""
    folder = tmp_path_factory.mktemp("seggpt")
    write_cohort(folder, {"training": [("a", "PAS")], "test": [("b", "PAS")]})
    tiny_model().save_pretrained(folder / "weights")
    glomeruli = read_annotation(folder / "training_0.geojson").glomeruli
    names = {1: "normal", 2: "segmental_sclerosis", 3: "global_sclerosis"}
    first = {g.label: number for number, g in reversed(list(enumerate(glomeruli, start=1)))}
    source = {"image": "training_0.tif", "label": "training_0.geojson"}
    prompts = [{"class": names[label], "glomerulus": number, **source} for label, number in sorted(first.items())]
    assert len(prompts) == 3
    (folder / "prompts.yaml").write_text(yaml.safe_dump({"prompts": prompts}))
    return folder


def run(*files: Path, **overrides: object) -> None:
    tracks_metadata = get_track_meta()
    try:
        workflow = ConfigWorkflow([str(file) for file in files], logging_file=False, **OPTIONS, **overrides)
        workflow.initialize()
        workflow.run()
    finally:
        set_track_meta(tracks_metadata)
        set_determinism(None)


def test_a_slide_is_segmented_by_prompts(folder, tmp_path):
    weights = {"seggpt_dir": str(folder / "weights"), "prompt_set": str(folder / "prompts.yaml")}
    slide = folder / "test_1.tif"
    run(INFERENCE, SEGGPT, slide=str(slide), output_dir=str(tmp_path), **weights)
    assert tifffile.imread(tmp_path / "mask.tif").shape == tifffile.imread(slide).shape[:2]
    provenance = json.loads((tmp_path / "summary.json").read_text())["provenance"]
    assert provenance["weights"]["sha256"] == file_sha256(folder / "weights" / "model.safetensors")


def test_slides_and_crops_are_evaluated_with_cached_prompts(folder, tmp_path):
    weights = {"seggpt_dir": str(folder / "weights"), "prompt_set": str(folder / "prompts.yaml")}
    options = {"datalist": str(folder / "datalist.json"), "split": "test", "output_dir": str(tmp_path)}
    run(TRAIN, EVALUATE, SEGGPT, **weights, **options, **{"network_def#prompt_attention": "cached"})
    assert len(pd.read_csv(tmp_path / "slides" / "per_image.csv")) == 1
    assert len(pd.read_csv(tmp_path / "crops" / "per_image.csv")) > 3


def test_without_weights_a_command_says_in_one_line_how_to_get_them(folder, tmp_path):
    options = {
        "slide": folder / "test_1.tif",
        "seggpt_dir": tmp_path / "nothing",
        "output_dir": tmp_path / "output",
        **OPTIONS,
    }
    status, _, errors = finish(start(command(INFERENCE, SEGGPT, **options)))
    assert status == 1
    assert "Traceback" not in errors
    assert "error: " in errors
    assert "hf download BAAI/seggpt-vit-large" in errors.splitlines()[-1]
