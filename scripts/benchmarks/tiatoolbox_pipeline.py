"""TIAToolbox's SemanticSegmentor, in its own environment. Run by scripts/benchmark.py."""

import warnings
from pathlib import Path

import torch

# A torchvision without its compiled operators cannot be imported otherwise; nothing here calls them.
_LIBRARY = torch.library.Library("torchvision", "DEF")
for _schema in (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor d, Tensor s, float t) -> Tensor",
):
    try:
        _LIBRARY.define(_schema)
    except RuntimeError:
        break

import numpy as np  # noqa: E402
import zarr  # noqa: E402
from job import Stages, read_job, report  # noqa: E402
from tiatoolbox.models.engine.io_config import IOSegmentorConfig  # noqa: E402
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor  # noqa: E402
from tiatoolbox.models.models_abc import ModelABC  # noqa: E402


class Network(ModelABC):
    """A TorchScript network as TIAToolbox wants it."""

    def __init__(self, path: str, stages: Stages) -> None:
        super().__init__()
        self.network = torch.jit.load(path)
        self.stages = stages
        self.tiles = 0

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Logits."""
        self.tiles += len(tiles)
        with self.stages.timed("model"):
            return self.network(tiles)

    @staticmethod
    def infer_batch(model: torch.nn.Module, batch_data: torch.Tensor, *, device: str) -> np.ndarray:
        """Probabilities (B, H, W, C)."""
        with torch.inference_mode():
            logits = model(batch_data.permute(0, 3, 1, 2).float() / 255)
            return logits.softmax(1).permute(0, 2, 3, 1).numpy()

    @staticmethod
    def postproc(image: np.ndarray) -> np.ndarray:
        """Classes (H, W) of probabilities (H, W, C)."""
        return image.argmax(-1).astype(np.uint8)


def main() -> None:
    """Run the job."""
    warnings.simplefilter("ignore")
    job, stages = read_job(), Stages()
    torch.set_num_threads(job.threads)
    network = Network(job.network, stages)
    mpp = job.mpp * job.tile_level0_px / job.tile_px
    stride = job.tile_px - round(job.overlap_level0_px * job.tile_px / job.tile_level0_px)
    resolution = [{"units": "mpp", "resolution": mpp}]
    config = IOSegmentorConfig(
        input_resolutions=resolution,
        output_resolutions=resolution,
        save_resolution=resolution[0],
        patch_input_shape=(job.tile_px, job.tile_px),
        patch_output_shape=(job.tile_px, job.tile_px),
        stride_shape=(stride, stride),
    )
    with stages.timed("run"):
        segmentor = SemanticSegmentor(
            model=network, batch_size=job.batch_size, num_workers=0, device="cpu", verbose=False
        )
        output = segmentor.run(
            [Path(job.slide)],
            masks=[Path(job.tissue)],
            patch_mode=False,
            ioconfig=config,
            save_dir=Path(job.output_dir) / "zarr",
            output_type="zarr",
            overwrite=True,
            wsireader_kwargs={"mpp": job.mpp},
        )
    classes = zarr.open_group(str(next(iter(output.values()))), mode="r")["predictions"]
    np.save(Path(job.output_dir) / "classes.npy", np.asarray(classes).squeeze().astype(np.uint8))
    report(job, stages, network.tiles)


if __name__ == "__main__":
    main()
