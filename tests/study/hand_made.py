"""Evaluation folders and cohorts written by hand, and a runner that runs nothing."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from bundle.classes import CLASS_NAMES
from bundle.study import Study
from tests.cohort import ROOT

NETWORKS = {
    "unet": {"name": "U-Net", "config": "configs/networks/basic_unet.yaml"},
    "unet3plus": {
        "name": "U-Net3+",
        "config": "configs/networks/unet3plus.yaml",
        "overrides": {"network_def": {"skip_channels": 8}},
    },
}
TILES = {"tile_level0_px": 1024, "overlap_level0_px": 256, "tile_px": 320, "training_mpp": 0.25}
PER_NETWORK = 8
"""Cells of a network: trained, fine-tuned, four evaluations, two with tiles in micrometres."""

MEASURED = ("hd95_um_glomerulus", *(f"stratified_dice_{name}" for name in CLASS_NAMES))
SUMMARY = ("stain", "measure", "class", "mean", "std", "n", "patients", "low", "high")


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def write_summary(folder: Path, *rows: Sequence[object]) -> None:
    """per_stain.csv in `folder`; rows are short: what follows n is 2 patients and no interval."""
    write_rows(folder / "per_stain.csv", SUMMARY, [(*row, 2, "", "")[:9] for row in rows])


def write_images(folder: Path, measures: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """per_image.csv in `folder`; a row is slide, crop, patient, stain and the measures; other measures are empty."""
    others = [column for column in MEASURED if column not in measures]
    header = ["slide", "crop", "patient", "stain", *measures, *others]
    write_rows(folder / "per_image.csv", header, [[*row, *[""] * len(others)] for row in rows])


def write_evaluation(folder: Path, means: dict[str, float], level: str = "slides") -> None:
    """An evaluation of two HE slides, or of a crop of each class on both, with these mean Dice by class."""
    rows = [(stain, "stratified_dice", c, mean, 0.1, 2) for c, mean in means.items() for stain in ("HE", "ALL")]
    write_summary(folder / level, *rows)
    crops = [f"{i} {c}" for i, c in enumerate(means, 1)] if level == "crops" else [""]
    images = [[slide, crop, slide, "HE", 10.0, *means.values()] for slide in "ab" for crop in crops]
    write_images(folder / level, ["hd95_um_glomerulus", *(f"stratified_dice_{c}" for c in means)], images)


def write_datalists(cohort: Path, training: str = "p", tested: str = "t") -> Path:
    """normal.json, mixed.json and sclerosis.json; no slide is there."""
    cohort.mkdir(exist_ok=True)

    def item(patient: str) -> dict[str, str]:
        return {"image": f"{patient}.tif", "patient": patient, "stain": "HE"}

    lists = {
        "normal": {"training": [item(training)], "validation": [item("v")], "test": [item("t2")]},
        "mixed": {"training": [item("m")], "validation": [item("v")]},
        "sclerosis": {"test": [item(tested)]},
    }
    for name, content in lists.items():
        (cohort / f"{name}.json").write_text(json.dumps(content))
    return cohort


def option(command: Sequence[str], name: str) -> str:
    """The value of an option of a command."""
    return command[list(command).index(f"--{name}") + 1]


class Pretence:
    """A runner that writes what a command would leave, and remembers the commands that it was given."""

    def __init__(self) -> None:
        self.commands: list[Sequence[str]] = []
        self.fails: set[str] = set()
        self.leaves_nothing: set[str] = set()
        self.weights = b"weights"
        self.found_states: list[str] = []

    def __call__(self, command: Sequence[str], folder: Path, log: Path) -> int:
        self.commands.append(command)
        output = Path(option(command, "output_dir"))
        name = "/".join(output.parts[-2:])
        with open(log, "a") as file:
            file.write("here is the reason\n")
        if (output / "training_state.pt").exists():
            self.found_states.append(name)
        if name in self.fails:
            return 3
        if name in self.leaves_nothing:
            return 0
        if "evaluate.yaml" in option(command, "config_file"):
            for level in ("slides", "crops"):
                write_evaluation(output, {"normal": 0.9, "segmental_sclerosis": 0.7, "global_sclerosis": 0.1}, level)
        else:
            (output / "model.pt").write_bytes(self.weights + name.encode())
            (output / "training_state.pt").write_bytes(b"state")
        return 0

    @property
    def folders(self) -> list[str]:
        """Where the commands wrote to: the last two parts of each folder."""
        return ["/".join(Path(option(command, "output_dir")).parts[-2:]) for command in self.commands]

    def forget(self) -> None:
        self.commands, self.found_states = [], []


def study(folder: Path, runner: Pretence, **changes: object) -> Study:
    """A study in `folder` of a cohort that is there."""
    settings = {"bundle_root": ROOT, "cohort": folder / "cohort", "output_dir": folder / "out", "runner": runner}
    return Study(**{**settings, "networks": NETWORKS, "tiles": TILES, **changes})
