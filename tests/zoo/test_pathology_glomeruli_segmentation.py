"""The bundle's unit tests as the model zoo runs them: every config on generated data, in the style of its others.

In the zoo this file is ci/unit_tests/test_pathology_glomeruli_segmentation.py; `utils` is its helper there.
    BUNDLE_ROOT=models/pathology_glomeruli_segmentation python -m unittest test_pathology_glomeruli_segmentation
"""

import json
import os
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

from monai.bundle import ConfigWorkflow
from monai.data import get_track_meta, set_track_meta
from monai.utils import set_determinism

BUNDLE_ROOT = os.path.abspath(os.environ.get("BUNDLE_ROOT", Path(__file__).parents[2]))
sys.path[:0] = [BUNDLE_ROOT, str(Path(__file__).parent)]

from utils import check_workflow  # noqa: E402

from bundle.geometry import Size  # noqa: E402
from bundle.phantom import Phantom, PhantomSpec, write_phantom  # noqa: E402

SMALL = {"network_def#features": [8, 8, 8, 8, 8, 8], "progress": False}
TRAIN = {
    **SMALL,
    "epochs": 1,
    "tiles_per_epoch": 8,
    "batch_size": 4,
    "warmup_steps": 0,
    "num_workers": 0,
    "training_tiles#tile_um": 256,
    "training_tiles#overlap_um": 64,
}
INFER = {**SMALL, "handlers": [], "num_workers": 1, "backend": "torch"}  # loads no weights: the network is a small one


class TestPathologyGlomeruliSegmentation(unittest.TestCase):
    def setUp(self):
        self.dataset_dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dataset_dir)
        self.addCleanup(set_track_meta, get_track_meta())
        self.addCleanup(set_determinism, None)
        rows = {}
        for seed, split in enumerate(("training", "validation", "test")):
            image = Path(self.dataset_dir) / f"{split}.tif"
            spec = PhantomSpec(size=Size(600, 400), mpp=2.0, class_fractions=(1, 1, 1), glomeruli_per_mm2=12, seed=seed)
            write_phantom(Phantom(spec), image)
            label = image.with_suffix(".geojson").name
            rows[split] = [{"image": image.name, "label": label, "patient": split, "stain": "PAS"}]
        self.datalist = Path(self.dataset_dir) / "datalist.json"
        self.datalist.write_text(json.dumps(rows))

    def workflow(self, kind, *names, **override):
        return ConfigWorkflow(
            workflow_type=kind,
            config_file=[os.path.join(BUNDLE_ROOT, "configs", name) for name in names],
            # The bundle's logging.conf would silence the tests that come after in this process.
            logging_file=False,
            meta_file=os.path.join(BUNDLE_ROOT, "configs/metadata.json"),
            bundle_root=BUNDLE_ROOT,
            **override,
        )

    def test_train_eval_config(self):
        runs = os.path.join(self.dataset_dir, "runs")
        train = {**TRAIN, "dataset_dir": self.dataset_dir}
        check_workflow(self.workflow("train", "train.yaml", output_dir=runs, **train), check_properties=True)
        assert os.path.exists(os.path.join(runs, "model.pt"))

        override = {**train, "checkpoint": os.path.join(runs, "model.pt"), "split": "test"}
        evaluation = os.path.join(self.dataset_dir, "evaluation")
        # It overrides train.yaml, so the workflow is "train" rather than "eval".
        validator = self.workflow("train", "train.yaml", "evaluate.yaml", output_dir=evaluation, **override)
        check_workflow(validator, check_properties=True)
        assert list(Path(evaluation).rglob("*.csv"))

    def test_infer_config(self):
        output = os.path.join(self.dataset_dir, "output")
        slide = os.path.join(self.dataset_dir, "test.tif")
        override = {**INFER, "output_dir": output, "dataset_dir": slide}
        inferrer = self.workflow("infer", "inference.yaml", **override)
        check_workflow(inferrer, check_properties=True)
        assert list(Path(output).rglob("mask.tif"))


if __name__ == "__main__":
    unittest.main()
