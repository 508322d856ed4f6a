"""The least that any system must do on this machine: decode the tissue tiles once; run the network on them.

Each alone, so that their sum of CPU seconds, divided by the cores, is the time that no system on these cores can beat
with this decoder and this backend. Run by scripts/benchmark.py.
"""

import time

import numpy as np
import torch
from job import Stages, read_job, report
from monai.bundle import ConfigParser
from ours import ROOT, overrides


def main() -> None:
    """Run the job."""
    job, stages = read_job(), Stages()
    torch.set_num_threads(job.threads)
    parser = ConfigParser()
    parser.read_config(str(ROOT / "configs/inference.yaml"))
    parser.update(pairs=overrides(job))
    splitter = parser.get_parsed_content("inferer#splitter")
    network = parser.get_parsed_content("network_backend").eval()
    slide = parser.get_parsed_content("dataset")[0]["image"]
    start = time.process_time()
    tiles = sum(1 for _ in splitter(slide))
    stages.seconds["decode"] = time.process_time() - start
    batch = torch.from_numpy(np.random.default_rng(0).random((job.batch_size, 3, job.tile_px, job.tile_px), np.float32))
    with torch.inference_mode():
        network(batch)
        start = time.process_time()
        wall = time.perf_counter()
        batches = 4
        for _ in range(batches):
            network(batch)
    share = tiles / (batches * job.batch_size)
    stages.seconds["model"] = (time.process_time() - start) * share
    stages.seconds["model wall"] = (time.perf_counter() - wall) * share
    report(job, stages, tiles)


if __name__ == "__main__":
    main()
