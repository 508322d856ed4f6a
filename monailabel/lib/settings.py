"""What the server is started with: the pairs of `--conf NAME VALUE`, checked."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MODELS: Final = ("glomeruli", "seggpt")
WORK: Final = "glomeruli"
NAMES: Final = (
    "models",
    "bundle_python",
    "config_files",
    "checkpoint",
    "seggpt_dir",
    "seggpt_config_files",
    "mpp",
    "patient_regex",
    "stain",
)
OF_OTHER_APPS: Final = ("server_mode", "zoo_source", "zoo_repo", "sam2", "skip_trainers")
"""Settings of MONAI Label's own apps, which people are used to give; they mean nothing here."""


class SettingsError(Exception):
    """A `--conf` pair that means nothing; the message says what it could be."""


@dataclass(frozen=True)
class Settings:
    """Settings of the server.

    Attributes:
        root: the bundle.
        app_dir: this app.
        studies: folder of the slides; all that the server makes is in its folder `WORK`.
        models: which of `MODELS` are served.
        bundle_python: interpreter of the bundle's own environment.
        config_files: of a network or protocol, added to inference.yaml and train.yaml.
        checkpoint: weights of `glomeruli`, until training here has made others.
        seggpt_dir: folder of SegGPT's weights.
        seggpt_config_files: added to configs/networks/seggpt.yaml.
        mpp: um per level-0 px of slides that do not say it.
        patient_regex: finds the patient in a slide's file name, for training's split.
        stain: of all slides, where their info in the datastore has none.
    """

    root: Path
    app_dir: Path
    studies: Path
    models: tuple[str, ...]
    bundle_python: Path
    config_files: tuple[Path, ...]
    checkpoint: Path
    seggpt_dir: Path
    seggpt_config_files: tuple[Path, ...]
    mpp: float | None
    patient_regex: str | None
    stain: str

    @property
    def work_dir(self) -> Path:
        """Where predictions, trained weights, prompts and the engine's log are kept."""
        return self.studies / WORK

    @property
    def trained_checkpoint(self) -> Path:
        """Weights that training on these studies has made; they are served once they exist."""
        return self.work_dir / "models" / "glomeruli.pt"

    @property
    def served_checkpoint(self) -> Path:
        """The weights that `glomeruli` uses now."""
        return self.trained_checkpoint if self.trained_checkpoint.is_file() else self.checkpoint


def read_settings(app_dir: Path | str, studies: Path | str, conf: Mapping[str, str]) -> Settings:
    """The settings of an app folder inside a bundle, for a folder of slides.

    Raises:
        SettingsError: an unknown name or model, no number, a file that does not exist, or a remote datastore.
    """
    unknown = sorted(set(conf) - {*NAMES, *OF_OTHER_APPS})
    if unknown:
        raise SettingsError(f"--conf {unknown[0]}: no such setting; known are {', '.join(NAMES)}")
    if str(studies).startswith(("http://", "https://")):
        raise SettingsError(f"--studies {studies}: give a folder on this machine, not a remote datastore")
    app_dir = Path(app_dir).resolve()
    root = app_dir.parent
    return Settings(
        root=root,
        app_dir=app_dir,
        studies=Path(studies).resolve(),
        models=_models(conf.get("models", ",".join(MODELS))),
        bundle_python=Path(conf.get("bundle_python") or default_python(root)).absolute(),
        config_files=_files("config_files", conf.get("config_files", ""), root),
        checkpoint=_file("checkpoint", conf.get("checkpoint", "models/model.pt"), root),
        seggpt_dir=root / conf.get("seggpt_dir", "models/seggpt"),
        seggpt_config_files=_files("seggpt_config_files", conf.get("seggpt_config_files", ""), root),
        mpp=_positive(conf["mpp"]) if conf.get("mpp") else None,
        patient_regex=conf.get("patient_regex"),
        stain=conf.get("stain", "unknown"),
    )


def default_python(root: Path) -> Path:
    """The interpreter that scripts/install.sh makes."""
    return root / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _models(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names or ("",):
        if name not in MODELS:
            raise SettingsError(f"--conf models: no model {name!r}; choose of {', '.join(MODELS)}, with commas")
    return names


def _files(name: str, text: str, root: Path) -> tuple[Path, ...]:
    return tuple(_file(name, part.strip(), root) for part in text.split(",") if part.strip())


def _file(name: str, text: str, root: Path) -> Path:
    path = root / text
    if not path.is_file():
        raise SettingsError(f"--conf {name}: {path} does not exist")
    return path


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise SettingsError(f"--conf mpp: {text!r} is no number of micrometres per pixel")
    return value
