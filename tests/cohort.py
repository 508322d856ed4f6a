"""Small phantom cohorts, and the bundle's commands as a user types them."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from monai.bundle import ConfigWorkflow
from monai.data import get_track_meta, set_track_meta
from monai.utils import set_determinism

from bundle.geometry import Size
from bundle.phantom import Phantom, PhantomSpec, Stain, write_phantom
from tests.command_server import Command

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / "configs" / "train.yaml"
EVALUATE = ROOT / "configs" / "evaluate.yaml"
INFERENCE = ROOT / "configs" / "inference.yaml"

TINY_NETWORK = [8, 8, 8, 8, 8, 8]
"""Features of a BasicUNet that runs in no time."""

Slides = Sequence[tuple[str, Stain]]
"""(patient, stain) of each slide."""


def write_cohort(folder: Path, splits: Mapping[str, Slides], **spec: object) -> Path:
    """Write a phantom slide, 1.6 x 1.2 mm with about a dozen glomeruli of all classes, for each entry of `splits`.

    Args:
        folder: where to.
        splits: slides by split.
        spec: changes to the slides' `PhantomSpec`.

    Returns:
        The datalist.
    """
    defaults = {"size": Size(800, 600), "mpp": 2.0, "class_fractions": (1, 1, 1), "glomeruli_per_mm2": 12}
    rows: dict[str, list[dict[str, str]]] = {split: [] for split in splits}
    seed = 0
    for split, slides in splits.items():
        for patient, stain in slides:
            image = folder / f"{split}_{seed}.tif"
            write_phantom(Phantom(PhantomSpec(**{**defaults, "stain": stain, "seed": seed, **spec})), image)
            label = image.with_suffix(".geojson").name
            rows[split].append({"image": image.name, "label": label, "patient": patient, "stain": stain})
            seed += 1
    datalist = folder / "datalist.json"
    datalist.write_text(json.dumps(rows))
    return datalist


def command(*config_files: Path, **overrides: object) -> list[str]:
    """`python -m monai.bundle run` with its arguments; `__` in an override's name is `#`."""
    files = str([str(file) for file in config_files]) if len(config_files) > 1 else str(config_files[0])
    line = [sys.executable, "-m", "monai.bundle", "run", "--config_file", files]
    for name, value in overrides.items():
        line += [f"--{name.replace('__', '#')}", str(value)]
    return line


def start(line: Sequence[str], cwd: Path = ROOT) -> Command:
    """Start a command of Python's on one thread: sums in a fixed order, and no fight for cores."""
    return Command(line, cwd, {**os.environ, "OMP_NUM_THREADS": "1"})


def finish(process: Command) -> tuple[int | None, str, str]:
    """Wait for a command; give its exit status, output and errors."""
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


@contextmanager
def workflow(*config_files: Path, kind: str = "train", **overrides: object) -> Iterator[ConfigWorkflow]:
    """The same in this process: an initialized workflow; MONAI's global settings are put back afterwards."""
    settings = {"device": "cpu", "progress": False, "network_def__features": TINY_NETWORK, **overrides}
    tracks_metadata = get_track_meta()
    try:
        # MONAI's logging.conf would silence the loggers of the tests that come after.
        made = ConfigWorkflow(
            [str(file) for file in config_files],
            logging_file=False,
            workflow_type=kind,
            **{name.replace("__", "#"): value for name, value in settings.items()},
        )
        made.initialize()
        yield made
    finally:
        set_track_meta(tracks_metadata)
        set_determinism(None)
