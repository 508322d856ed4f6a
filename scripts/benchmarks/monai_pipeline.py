"""MONAI's own whole-slide parts: WSISlidingWindowSplitter, PatchInferer, AvgMerger. Run by scripts/benchmark.py."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from job import Job, Stages, read_job, report
from monai.inferers import AvgMerger, PatchInferer, WSISlidingWindowSplitter
from openslide import OpenSlide
from PIL import Image
from torch.nn import functional

from bundle.geometry import Size
from bundle.outputs.pyramid import write_pyramid


def main() -> None:
    """Run the job."""
    job, stages = read_job(), Stages()
    torch.set_num_threads(job.threads)
    network = torch.jit.load(job.network)
    count = [0]
    with stages.timed("run"), torch.inference_mode():
        splitter = WSISlidingWindowSplitter(
            patch_size=(job.tile_level0_px, job.tile_level0_px),
            overlap=job.overlap_level0_px / job.tile_level0_px,
            filter_fn=_on_tissue(job),
            reader=_reader(),
            level=0,  # type: ignore[arg-type]  # of its reader
        )
        inferer = PatchInferer(
            splitter,
            merger_cls=AvgMerger,
            batch_size=job.batch_size,
            preprocessing=lambda patches: _preprocess(patches, job, count),
            postprocessing=lambda logits: logits.softmax(1),
        )
        probabilities = inferer(job.slide, stages.wrap("model", network))  # type: ignore[arg-type]  # a path
        with stages.timed("outputs"):
            classes = probabilities[0].argmax(0).to(torch.uint8).numpy()
            np.save(Path(job.output_dir) / "classes.npy", classes)
            write_pyramid(
                Path(job.output_dir) / "mask.tif",
                Size(classes.shape[1], classes.shape[0]),
                lambda x, y, width, height: classes[y : y + height, x : x + width],
                mpp=None,
                channels=1,
            )
    report(job, stages, count[0])


def _preprocess(patches: torch.Tensor, job: Job, count: list[int]) -> torch.Tensor:
    count[0] += len(patches)
    size = (job.tile_px, job.tile_px)
    return functional.interpolate(patches.float() / 255, size, mode="bilinear", antialias=True)


def _on_tissue(job: Job) -> Callable[[torch.Tensor, Sequence[int]], bool]:
    """MONAI asks after decoding: (patch, (row, column) in level-0 px)."""
    mask = np.asarray(Image.open(job.tissue)) > 0
    scale = mask.shape[0] / OpenSlide(job.slide).dimensions[1]
    side = max(1, round(job.tile_level0_px * scale))

    def keep(_: torch.Tensor, location: Sequence[int]) -> bool:
        top, left = (max(0, int(value * scale)) for value in location)
        return bool(mask[top : top + side, left : left + side].any())

    return keep


def _reader() -> str:
    return "cuCIM" if find_spec("cucim") else "OpenSlide"


if __name__ == "__main__":
    main()
