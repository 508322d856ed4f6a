"""Training in several processes as the model zoo tests it: one a GPU, or two on the CPU where there is none.

In the zoo this file is ci/unit_tests/test_pathology_glomeruli_segmentation_dist.py; `utils` is its helper there.
"""

import json
import os
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

import torch

BUNDLE_ROOT = os.path.abspath(os.environ.get("BUNDLE_ROOT", Path(__file__).parents[2]))
sys.path[:0] = [BUNDLE_ROOT, str(Path(__file__).parent)]

from utils import export_config_and_run_mgpu_cmd  # noqa: E402

from bundle.geometry import Size  # noqa: E402
from bundle.phantom import Phantom, PhantomSpec, write_phantom  # noqa: E402

TRAIN = {
    "bundle_root": BUNDLE_ROOT,
    "network_def#features": [8, 8, 8, 8, 8, 8],
    "progress": False,
    "epochs": 1,
    "tiles_per_epoch": 8,
    "batch_size": 2,
    "warmup_steps": 0,
    "num_workers": 0,
    "training_tiles#tile_um": 256,
    "training_tiles#overlap_um": 64,
}


@unittest.skipUnless(torch.distributed.is_available(), "this torch has no torch.distributed")
class TestPathologyGlomeruliSegmentationMGPU(unittest.TestCase):
    def setUp(self):
        self.dataset_dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dataset_dir)
        rows = {}
        for seed, split in enumerate(("training", "validation")):
            image = Path(self.dataset_dir) / f"{split}.tif"
            spec = PhantomSpec(size=Size(600, 400), mpp=2.0, class_fractions=(1, 1, 1), glomeruli_per_mm2=12, seed=seed)
            write_phantom(Phantom(spec), image)
            label = image.with_suffix(".geojson").name
            rows[split] = [{"image": image.name, "label": label, "patient": split, "stain": "PAS"}]
        (Path(self.dataset_dir) / "datalist.json").write_text(json.dumps(rows))

    def test_train_mgpu_config(self):
        runs = os.path.join(self.dataset_dir, "runs")
        configs = os.path.join(BUNDLE_ROOT, "configs")
        export_config_and_run_mgpu_cmd(
            config_file=[os.path.join(configs, name) for name in ("train.yaml", "multi_gpu_train.yaml")],
            logging_file=os.path.join(configs, "logging.conf"),
            meta_file=os.path.join(configs, "metadata.json"),
            override_dict={**TRAIN, "dataset_dir": self.dataset_dir, "output_dir": runs},
            output_path=os.path.join(self.dataset_dir, "train_override.json"),
            ngpu=torch.cuda.device_count() or 2,
        )
        state = torch.load(os.path.join(runs, "training_state.pt"), weights_only=True)
        assert state["epoch"] == 1


if __name__ == "__main__":
    unittest.main()
