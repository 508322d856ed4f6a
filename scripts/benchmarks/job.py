"""What a benchmark's child process is given, and what it gives back; needs nothing but the standard library."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """One run of one system over one slide.

    Attributes:
        slide: a tiled pyramid.
        tissue: PNG of the tissue mask that all systems are given, 255 on tissue.
        network: TorchScript file of the network, (B, 3, S, S) in 0..1 to (B, 4, S, S) logits.
        checkpoint: the same weights as a state dict.
        output_dir: of this run.
        mpp: um per level-0 px.
        tile_level0_px: side of a tile, level-0 px.
        overlap_level0_px: overlap of neighbours, level-0 px.
        tile_px: side of a tile for the network.
        batch_size: tiles a forward pass.
        threads: of torch.
        overrides: of configs/inference.yaml, for ours alone.
    """

    slide: str
    tissue: str
    network: str
    checkpoint: str
    output_dir: str
    mpp: float
    tile_level0_px: int
    overlap_level0_px: int
    tile_px: int
    batch_size: int
    threads: int
    overrides: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write as JSON for `read_job`."""
        path.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")


def read_job() -> Job:
    """The job whose file is the only argument of this process."""
    return Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))


class Stages:
    """Seconds of wall time by stage; stages that run at once add up to more than the whole."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of the block to `stage`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def wrap(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, its time added to `stage`."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.timed(stage):
                return function(*args, **kwargs)

        return timed


def report(job: Job, stages: Stages, tiles: int) -> None:
    """Leave the figures where the parent looks for them."""
    result = {"tiles": tiles, "seconds": {name: round(value, 3) for name, value in stages.seconds.items()}}
    (Path(job.output_dir) / "result.json").write_text(json.dumps(result), encoding="utf-8")
