"""This bundle: configs/inference.yaml, with all its outputs. Run by scripts/benchmark.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from job import Job, Stages, read_job, report
from monai.bundle import ConfigWorkflow

from bundle.stream import ClassMap

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run the job."""
    job, stages = read_job(), Stages()
    torch.set_num_threads(job.threads)
    workflow = ConfigWorkflow(
        str(ROOT / "configs/inference.yaml"), logging_file=False, workflow_type="inference", **overrides(job)
    )
    workflow.initialize()
    inferer = workflow.parser.get_parsed_content("inferer")
    network = workflow.parser.get_parsed_content("network_backend")
    evaluator = workflow.parser.get_parsed_content("evaluator")
    network.forward = stages.wrap("model", network.forward)
    splitter = inferer.splitter
    reads: list[object] = []
    splitter._read = stages.wrap("decode and resize", _counted(splitter._read, reads))
    evaluator.inferer = _keep_classes(inferer, stages, Path(job.output_dir))
    outputs = workflow.parser.get_parsed_content("postprocessing")
    outputs.transforms = tuple(stages.wrap("outputs", transform) for transform in outputs.transforms)
    with stages.timed("run"):
        workflow.run()
    report(job, stages, len(reads))


def overrides(job: Job) -> dict[str, Any]:
    """Of configs/inference.yaml."""
    tiles = {
        "_target_": "bundle.grid.PixelTiles",
        "tile_level0_px": job.tile_level0_px,
        "overlap_level0_px": job.overlap_level0_px,
        "tile_px": job.tile_px,
    }
    return {
        "bundle_root": str(ROOT),
        "slide": job.slide,
        "output_dir": job.output_dir,
        "checkpoint": job.checkpoint,
        "tiles": tiles,
        "batch_size": job.batch_size,
        "device": "cpu",
        "progress": False,
        **job.overrides,
    }


def _counted(read: Callable[..., object], reads: list[object]) -> Callable[..., object]:
    def counted(*args: object) -> object:
        reads.append(args)
        return read(*args)

    return counted


def _keep_classes(inferer: Callable[..., ClassMap], stages: Stages, folder: Path) -> Callable[..., ClassMap]:
    def keep(*args: object, **kwargs: object) -> ClassMap:
        with stages.timed("inference"):
            prediction = inferer(*args, **kwargs)
        # Before small objects are dropped, which the other systems do not do.
        np.save(folder / "classes.npy", prediction.classes)
        return prediction

    return keep


if __name__ == "__main__":
    main()
