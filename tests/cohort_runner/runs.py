"""Cohorts of tiny oracle slides, run by the command or in this process, and what they leave."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from bundle.cohort.runner import Cohort
from tests.cohort import INFERENCE, ROOT, command
from tests.oracle import OracleNetwork, write_oracle

COHORT = ROOT / "configs" / "cohort.yaml"
OUTPUTS = {"mask.tif", "glomeruli.geojson", "overlay.png", "summary.json", "state.json"}
WORKFLOW = """
network_def: {_target_: tests.oracle.OracleNetwork}
device: cpu
preprocessing:
  _target_: Compose
  transforms: [{_target_: tests.cohort_runner.faults.FaultyOpenSlided, keys: image}]
"""


def write_slides(folder: Path, count: int) -> Path:
    """slide0.tif and so on, 800 x 600 um with a few glomeruli each."""
    folder.mkdir(parents=True)
    for i in range(count):
        write_oracle(folder / f"slide{i}.tif", 400, 300, seed=i + 5)
        (folder / f"slide{i}.geojson").unlink()
    return folder


def settings(folder: Path) -> dict[str, Any]:
    """Overrides of configs/cohort.yaml for the oracle network, whose weights and config are made in `folder`."""
    workflow, weights = folder / "workflow.yaml", folder / "oracle.pt"
    if not workflow.exists():
        workflow.write_text(WORKFLOW)
        torch.save(OracleNetwork().state_dict(), weights)
    return {
        "inference": [str(INFERENCE), str(workflow)],
        "inference_overrides": {"checkpoint": str(weights), "num_workers": 1},
    }


def cohort(folder: Path, **overrides: Any) -> Cohort:
    """The runner in this process, with `settings`."""
    return Cohort(**{"bundle_root": ROOT, "progress": False, **settings(folder), **overrides})


def cohort_command(folder: Path, **overrides: Any) -> list[str]:
    """The command, with `settings`."""
    return command(COHORT, **{**settings(folder), **overrides})


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """summary.csv by slide."""
    table = pd.read_csv(out / "summary.csv", keep_default_na=False)
    return {row["slide"]: row for row in table.to_dict("records")}


def contents(out: Path) -> dict[str, str]:
    """Hashes of all outputs of all slides, by path; the moment of their making aside."""
    files = [path for path in sorted(out.glob("*/*")) if path.parent.name != ".cohort" and path.name != "state.json"]
    return {str(path.relative_to(out)): _content(path) for path in files}


def _content(path: Path) -> str:
    content = path.read_bytes()
    if path.name == "summary.json":
        summary = json.loads(content)
        del summary["provenance"]["created"]
        content = json.dumps(summary).encode()
    return hashlib.sha256(content).hexdigest()


def unfinished(out: Path) -> list[Path]:
    """Temporary files, and whatever a run in flight has."""
    hidden = [path for path in out.rglob(".*") if path.name not in (".cohort", ".summary.lock")]
    return hidden + list(out.glob(".cohort/work/*"))
