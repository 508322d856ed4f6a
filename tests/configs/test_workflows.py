"""The configs as MONAI's tools see them: the zoo and MONAI Label ask for these ids."""

import json
import logging

import pytest
from monai.bundle.properties import MetaProperties

from tests.cohort import INFERENCE, ROOT, TRAIN, workflow, write_cohort


@pytest.fixture(scope="module")
def datalist(tmp_path_factory):
    splits = {"training": [("a", "PAS")], "validation": [("b", "HE")]}
    return write_cohort(tmp_path_factory.mktemp("cohort"), splits)


@pytest.fixture
def metadata(tmp_path):
    """Metadata for `check_properties`, which asks for it too: the bundle's own where it has some."""
    own = ROOT / "configs" / "metadata.json"
    if own.exists():
        return str(own)
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(dict.fromkeys(MetaProperties, "1")))
    return str(path)


def test_training_has_the_properties_that_monai_asks_for(datalist, metadata, tmp_path, caplog):
    with (
        caplog.at_level(logging.WARNING),
        workflow(TRAIN, datalist=str(datalist), output_dir=str(tmp_path), meta_file=metadata) as train,
    ):
        assert train.check_properties() == []
        assert train.max_epochs == 30
        assert len(train.train_dataset_data) == len(train.val_dataset_data) == 1
        assert "wrong ID" not in caplog.text


def test_inference_has_the_properties_that_monai_asks_for(datalist, metadata, tmp_path, caplog):
    slide = str(next(datalist.parent.glob("*.tif")))
    with (
        caplog.at_level(logging.WARNING),
        workflow(
            INFERENCE, kind="inference", slide=slide, output_dir=str(tmp_path), meta_file=metadata, checkpoint=None
        ) as inference,
    ):
        assert inference.check_properties() == []
        assert inference.dataset_dir == slide
        assert "wrong ID" not in caplog.text


@pytest.mark.parametrize(
    "id",
    [
        "bundle_root", "device", "dataset_dir", "dataset", "evaluator", "network_def", "inferer", "output_dir",
        "preprocessing", "postprocessing",
    ],
)  # fmt: skip
def test_inference_has_the_ids_that_the_zoo_and_monai_label_ask_for(id):
    with workflow(INFERENCE, kind="inference") as inference:
        assert id in inference.parser


@pytest.mark.parametrize(
    "id",
    [
        "bundle_root", "device", "dataset_dir", "network_def", "val_interval", "train#trainer#max_epochs",
        "train#dataset", "train#dataset#data", "train#inferer", "train#handlers", "train#preprocessing",
        "validate#evaluator", "validate#handlers", "validate#dataset", "validate#dataset#data", "validate#inferer",
        "validate#preprocessing", "validate#postprocessing", "validate#key_metric",
    ],
)  # fmt: skip
def test_training_has_the_ids_that_the_zoo_and_monai_label_ask_for(id):
    with workflow(TRAIN) as train:
        assert id in train.parser
