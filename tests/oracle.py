"""A network that knows: it reads the colours of an oracle phantom (`PhantomSpec(oracle=True)`), one per class.

Whatever inference loses on such a slide was lost by tiling, scaling, blending or stitching.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

from bundle.geometry import Size
from bundle.phantom import ORACLE_GLASS_RGB, ORACLE_RGB, Phantom, PhantomSpec, write_phantom

ROOT = Path(__file__).resolve().parents[1]
ORACLE = {"_target_": "tests.oracle.OracleNetwork"}
"""Override of `network_def` in any config."""


class OracleNetwork(torch.nn.Module):
    """(B, 3, H, W) RGB in 0..1 -> (B, 4, H, W) logits: the nearest of the oracle's colours wins."""

    def __init__(self, sharpness: float = 100.0) -> None:
        super().__init__()
        self.sharpness = sharpness
        colours = [ORACLE_RGB[label] for label in sorted(ORACLE_RGB)]
        self.register_buffer("rgb", torch.tensor([*colours, ORACLE_GLASS_RGB]) / 255)

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        likeness = -((tiles[:, None] - self.rgb[None, :, :, None, None]) ** 2).sum(2) * self.sharpness
        background = torch.maximum(likeness[:, :1], likeness[:, 4:])
        return torch.cat([background, likeness[:, 1:4]], dim=1)


def write_oracle(path: Path, width: int, height: int, **spec: Any) -> Phantom:
    """Write an oracle phantom slide of `width` x `height` level-0 pixels and return it: its `truth` is exact."""
    phantom = Phantom(PhantomSpec(Size(width, height), oracle=True, **{"mpp": 2.0, "glomeruli_per_mm2": 6.0, **spec}))
    write_phantom(phantom, path)
    return phantom


def run_config(names: str | Sequence[str], overrides: Mapping[str, Any]) -> ConfigWorkflow:
    """Run `configs/NAME`, or several that override each other, in this process with the oracle for its network."""
    files = [str(ROOT / "configs" / name) for name in ([names] if isinstance(names, str) else names)]
    # MONAI's logging.conf would silence the loggers of the tests that come after.
    given = {"network_def": ORACLE, "checkpoint": None, "device": "cpu", "progress": False, **overrides}
    workflow = ConfigWorkflow(files, logging_file=False, workflow_type="inference", **given)
    workflow.initialize()
    workflow.run()
    return workflow
