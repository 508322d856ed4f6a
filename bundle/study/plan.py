"""The cells of the study: which command trains, fine-tunes or evaluates which network on what, and where to."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bundle.study.published import LEVELS

NORMAL: Final = "normal"
MIXED: Final = "mixed"
SCLEROSIS: Final = "sclerosis"
PHYSICAL: Final = "_physical"
"""Ends the name of an evaluation with tiles in micrometres."""

TRAIN: Final = "configs/train.yaml"
FINETUNE: Final = "configs/finetune.yaml"
EVALUATE: Final = "configs/evaluate.yaml"
PIXELS: Final = "configs/protocols/study.yaml"
MICROMETRES: Final = "configs/protocols/physical.yaml"

Overrides = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One command of the study.

    Attributes:
        name: such as "evaluate/U-Net/normal/sclerosis".
        folder: what the command writes to; log and record are there too.
        command: run in the bundle's root.
        inputs: files that the result depends on: config files, datalist, weights.
        outputs: files that it leaves.
        state: files by which a killed command goes on.
    """

    name: str
    folder: Path
    command: tuple[str, ...]
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    state: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Network:
    """A network of the study.

    Attributes:
        name: in tables and of its folder.
        config: its config file, relative to the bundle's root.
        overrides: settings for all of its commands, nested as the config is.
        initial_weights: where its training starts, a file relative to the bundle's root; `None` for random weights.
    """

    name: str
    config: str
    overrides: Overrides = field(default_factory=dict)
    initial_weights: str | None = None


@dataclass(frozen=True)
class StudyTiles:
    """The study's tiles in pixels, and the same in micrometres as the training slides show them.

    Attributes:
        tile_level0_px: side on the slide, level-0 pixels.
        overlap_level0_px: overlap of neighbours, level-0 pixels.
        tile_px: side that the network sees, pixels.
        training_mpp: µm per level-0 pixel of the training slides.
    """

    tile_level0_px: int
    overlap_level0_px: int
    tile_px: int
    training_mpp: float

    @property
    def in_pixels(self) -> dict[str, int]:
        """Arguments of `bundle.grid.PixelTiles`."""
        names = ("tile_level0_px", "overlap_level0_px", "tile_px")
        return {name: getattr(self, name) for name in names}

    @property
    def in_micrometres(self) -> dict[str, float]:
        """Arguments of `bundle.grid.PhysicalTiles`: on a slide of `training_mpp` they are the tiles in pixels."""
        return {
            "tile_um": self.tile_level0_px * self.training_mpp,
            "overlap_um": self.overlap_level0_px * self.training_mpp,
            "mpp": self.tile_level0_px * self.training_mpp / self.tile_px,
        }


@dataclass(frozen=True)
class Plan:
    """Makes the cells of a network.

    Attributes:
        root: folder of the bundle; commands run there.
        cohort: folder of normal.json, mixed.json and sclerosis.json.
        output_dir: folder of the results.
        tiles: the study's tiles.
        overrides: for every command; nested as the config is.
        training: further overrides for training on normal glomeruli.
        finetuning: further overrides for fine-tuning.
        evaluation: further overrides for evaluation.
    """

    root: Path
    cohort: Path
    output_dir: Path
    tiles: StudyTiles
    overrides: Overrides
    training: Overrides
    finetuning: Overrides
    evaluation: Overrides

    def cells(self, network: Network) -> Iterator[Cell]:
        """The network's cells, each after those that it needs."""
        yield self._train(network)
        yield self._finetune(network)
        for stage in (NORMAL, MIXED):
            for test_set in (NORMAL, SCLEROSIS):
                yield self._evaluate(network, stage, test_set)
        for test_set in (NORMAL, SCLEROSIS):
            yield self._evaluate(network, NORMAL, test_set, physical=True)

    def _train(self, network: Network) -> Cell:
        weights = None if network.initial_weights is None else self.root / network.initial_weights
        files = (TRAIN, network.config, PIXELS)
        return self._training(f"train/{network.name}", network, NORMAL, files, self.training, weights)

    def _finetune(self, network: Network) -> Cell:
        # finetune.yaml comes last: its learning rate and epochs are meant, not the protocol's. Its only validation is
        # that of the last epoch, which is therefore the one kept: validation slides show normal glomeruli only.
        overrides = {**self.finetuning, "val_interval": "@epochs"}
        files = (TRAIN, network.config, PIXELS, FINETUNE)
        weights = self._weights(network, NORMAL)
        return self._training(f"finetune/{network.name}", network, MIXED, files, overrides, weights)

    def _training(
        self,
        name: str,
        network: Network,
        stage: str,
        files: Sequence[str],
        overrides: Overrides,
        weights: Path | None,
    ) -> Cell:
        folder, datalist = self.output_dir / network.name / stage, self.cohort / f"{stage}.json"
        given = {"tiles": self.tiles.in_pixels, **overrides, "datalist": datalist, "output_dir": folder}
        if weights is not None:
            given["initial_weights"] = weights
        return Cell(
            name=name,
            folder=folder,
            command=self._command(files, network, given),
            inputs=self._inputs(files, datalist, weights),
            outputs=(folder / "model.pt",),
            state=(folder / "training_state.pt",),
        )

    def _evaluate(self, network: Network, stage: str, test_set: str, *, physical: bool = False) -> Cell:
        files = (TRAIN, network.config, PIXELS, EVALUATE, *([MICROMETRES] if physical else []))
        suffix = PHYSICAL if physical else ""
        folder = self.output_dir / network.name / stage / f"on_{test_set}{suffix}"
        datalist, weights = self.cohort / f"{test_set}.json", self._weights(network, stage)
        given = {
            "tiles": self.tiles.in_micrometres if physical else self.tiles.in_pixels,
            **self.evaluation,
            "datalist": datalist,
            "split": "test",
            "checkpoint": weights,
            "output_dir": folder,
        }
        return Cell(
            name=f"evaluate/{network.name}/{stage}/{test_set}{suffix}",
            folder=folder,
            command=self._command(files, network, given),
            inputs=self._inputs(files, datalist, weights),
            outputs=tuple(folder / level / f"per_{by}.csv" for level in LEVELS for by in ("image", "stain")),
        )

    def _command(self, files: Sequence[str], network: Network, given: Overrides) -> tuple[str, ...]:
        settings = dict(flat({"progress": False, **self.overrides})) | dict(flat(network.overrides)) | dict(flat(given))
        flags = [part for id, value in settings.items() for part in (f"--{id}", str(value))]
        names = json.dumps(files)  # double quotes, as a shell's command then needs single ones only
        return (sys.executable, "-m", "monai.bundle", "run", "--config_file", names, *flags)

    def _inputs(self, files: Sequence[str], datalist: Path, weights: Path | None) -> tuple[Path, ...]:
        return (*(self.root / file for file in files), datalist, *([weights] if weights is not None else []))

    def _weights(self, network: Network, stage: str) -> Path:
        return self.output_dir / network.name / stage / "model.pt"


def flat(overrides: Overrides, above: str = "") -> Iterator[tuple[str, Any]]:
    """Nested overrides as the command line names them: {"tiles": {"tile_px": 96}} is ("tiles#tile_px", 96)."""
    for key, value in overrides.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{key}#")
        else:
            yield f"{above}{key}", value
