"""MONAI Label's training task: the submitted labels through the bundle's own programs, with its own Python."""

import csv
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from monailabel.interfaces.tasks.train import TrainTask

from .engine_process import EngineError, bundle_environment
from .labels import labelled_rows
from .request_values import number
from .settings import Settings

logger = logging.getLogger(__name__)

COLUMNS: Final = ("image", "label", "patient", "stain", "mpp", "complete")


class TrainGlomeruli(TrainTask):
    """Trains `glomeruli` on the submitted labels by train.yaml; the server then uses the new weights.

    Args:
        settings: of the server.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__("Trains on the submitted labels (configs/train.yaml)")
        self.settings = settings
        self.folder = settings.work_dir / "training"

    def config(self) -> dict[str, Any]:
        """What a client may set; names as in MONAI Label's other apps where they have one."""
        return {
            "max_epochs": 10,
            "tiles_per_epoch": 400,
            "train_batch_size": 8,
            "val_split": 0.2,
            "pretrained": True,
        }

    def stats(self) -> dict[str, Any]:
        """Of the last training that ended; empty before the first."""
        path = self.folder / "stats.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> dict[str, Any]:
        """Train; a training that was stopped is resumed by the same request on the same labels.

        Raises:
            RequestError: a number makes no sense.
            EngineError: one of the bundle's programs failed; it has said why.
        """
        start = time.monotonic()
        rows = labelled_rows(datastore, self.settings)
        options = self._options({**self.config(), **request})
        run = self.folder / _key(rows, options)
        run.mkdir(parents=True, exist_ok=True)
        datalist = self._datalist(rows, options["val_split"], run)
        self._train(options, datalist, run)
        published = _publish(run / "model.pt", self.settings.trained_checkpoint)
        stats = {
            "labelled_slides": len(rows),
            "seconds": round(time.monotonic() - start, 1),
            "published": published,
            "run": run.name,
            **{name: options[name] for name in ("max_epochs", "tiles_per_epoch", "pretrained")},
        }
        _write_json(stats, self.folder / "stats.json")
        return stats

    def _options(self, request: Mapping[str, Any]) -> dict[str, Any]:
        weights = self.settings.served_checkpoint
        is_pretrained = str(request["pretrained"]).lower() not in ("false", "0")
        return {
            "max_epochs": int(number(request, "max_epochs", 10, 1, 10_000)),
            "tiles_per_epoch": int(number(request, "tiles_per_epoch", 400, 1, 10**7)),
            "batch_size": int(number(request, "train_batch_size", 8, 1, 1024)),
            "val_split": number(request, "val_split", 0.2, 0.01, 0.9),
            "pretrained": is_pretrained,
            "weights": [str(weights), os.stat(weights).st_mtime_ns] if is_pretrained else None,
        }

    def _datalist(self, rows: Sequence[Mapping[str, Any]], val_split: float, run: Path) -> Path:
        table, datalist = run / "labels.csv", run / "datalist.json"
        with open(table, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows({k: json.dumps(v) if k == "complete" else v for k, v in row.items()} for row in rows)
        fractions = [f"{1 - val_split:g}", f"{val_split:g}", "0"]
        program = self.settings.root / "scripts" / "prepare_data.py"
        self._run(str(program), "--table", str(table), "--out", str(datalist), "--fractions", *fractions)
        return datalist

    def _train(self, options: Mapping[str, Any], datalist: Path, run: Path) -> None:
        second_stage = ["configs/finetune.yaml"] if options["pretrained"] else []
        files = ["configs/train.yaml", *map(str, self.settings.config_files), *second_stage]
        overrides = {
            "datalist": datalist,
            "output_dir": run,
            "epochs": options["max_epochs"],
            "tiles_per_epoch": options["tiles_per_epoch"],
            "batch_size": options["batch_size"],
        }
        if options["weights"]:
            overrides["initial_weights"] = options["weights"][0]
        flags = [part for name, value in overrides.items() for part in (f"--{name}", str(value))]
        self._run("-m", "monai.bundle", "run", "--config_file", str(files), *flags)

    def _run(self, *arguments: str) -> None:
        """Run a program of the bundle; its output goes to the task's, which MONAI Label shows."""
        line = [str(self.settings.bundle_python), *arguments]
        logger.info("running %s", " ".join(line))
        sys.stdout.flush()
        root = self.settings.root
        process = subprocess.Popen(
            line,
            cwd=root,
            env=bundle_environment(root),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        said = ""
        with process:
            for text in process.stdout or ():
                print(text, end="", flush=True)
                said = text.strip() if text.startswith("error: ") else said
        if process.returncode:
            raise EngineError(said or f"{arguments[0]} ended with status {process.returncode}; see the log above")


def _key(rows: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> str:
    """Name of a run: other labels, or other options, are another one."""
    times = [os.stat(row["label"]).st_mtime_ns for row in rows]
    return hashlib.sha256(json.dumps([list(rows), times, dict(options)]).encode()).hexdigest()[:12]


def _publish(trained: Path, target: Path) -> bool:
    """Serve the trained weights, keep the ones before; false where training kept none."""
    if not trained.is_file():
        logger.warning("no validation slide has a glomerulus: training chose no weights, the old ones are kept")
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_suffix(".new")
    shutil.copy(trained, new)
    if target.is_file():
        os.replace(target, target.with_name("glomeruli.previous.pt"))
    os.replace(new, target)
    return True


def _write_json(value: Mapping[str, Any], path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value, indent=1), encoding="utf-8")
    os.replace(new, path)
