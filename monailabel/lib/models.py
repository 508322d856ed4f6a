"""The models that are served: which configs, with which settings, each stands for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .settings import Settings

INFERENCE: Final = "configs/inference.yaml"
SEGGPT: Final = "configs/networks/seggpt.yaml"


@dataclass(frozen=True)
class Model:
    """A model of the server.

    Attributes:
        name: in requests.
        description: for clients.
        config_files: of the bundle's inference.
        overrides: of them, by id.
        margin_um: what it sees around a region; a request may say another.
        few_shot: whether it goes by the submitted labels, as prompts.
    """

    name: str
    description: str
    config_files: tuple[str, ...]
    overrides: Mapping[str, Any]
    margin_um: float
    few_shot: bool = False


def model_of(name: str, settings: Settings) -> Model:
    """The model called `name`, with the weights that are there now."""
    if name == "seggpt":
        files: tuple[str | Path, ...] = (INFERENCE, SEGGPT, *settings.seggpt_config_files)
        return Model(
            name,
            "SegGPT: finds what the labels submitted so far show",
            _paths(files, settings.root),
            {"seggpt_dir": str(settings.seggpt_dir), "checkpoint": str(settings.seggpt_dir / "model.safetensors")},
            margin_um=112,  # its tiles' overlap: a tile takes seconds to a minute
            few_shot=True,
        )
    return Model(
        name,
        "Normal, segmentally and globally sclerotic glomeruli",
        _paths((INFERENCE, *settings.config_files), settings.root),
        {"checkpoint": str(settings.served_checkpoint)},
        margin_um=512,
    )


def _paths(files: tuple[str | Path, ...], root: Path) -> tuple[str, ...]:
    return tuple(str(root / file) for file in files)
