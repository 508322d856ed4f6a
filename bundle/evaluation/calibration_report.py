"""What a calibration found, from logits to the locked file, the table and the picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bundle import __version__
from bundle.atomic import atomic_path
from bundle.classes import GLOBAL
from bundle.evaluation.calibration import Sample, fit_temperature, reliability
from bundle.evaluation.calibration_lock import Lock, write_lock
from bundle.evaluation.calibration_plot import reliability_diagram
from bundle.evaluation.triage import abstention_threshold, claims, decisions, find_thresholds, held_out
from bundle.hashing import file_sha256

LOCK: Final = "calibration.json"
ROW: Final = ["slide", "patient", "stain", "predicted", "true"]


@dataclass(frozen=True)
class Found:
    """The glomeruli that a network found on the slides of a split.

    Attributes:
        rows: one a glomerulus: slide, patient, stain, predicted and true class index (0 where none is there).
        logits: (n, pixels, C) of each.
        missed: globally sclerotic glomeruli that were not found at all.
    """

    rows: pd.DataFrame
    logits: NDArray[np.float32]
    missed: int

    @property
    def sample(self) -> Sample:
        """The logits with the true classes."""
        return Sample(self.logits, self.rows["true"].to_numpy())

    @property
    def sclerotic(self) -> NDArray[np.bool_]:
        """Which are globally sclerotic in truth."""
        return self.rows["true"].to_numpy() == GLOBAL.index


@dataclass(frozen=True)
class Used:
    """What a calibration is of: file of the weights, datalist and its split, settings of the inference."""

    weights: Path
    datalist: Path
    split: str
    settings: Mapping[str, Any]


def write_calibration(
    pixels: Sample, temperature: float, found: Found, used: Used, accuracy: float, folder: Path | str
) -> None:
    """Find temperature of objects and thresholds; write calibration.json, glomeruli.csv and reliability.png.

    Args:
        pixels: of all slides.
        temperature: fitted to them.
        found: at least one glomerulus.
        used: what the thresholds are locked to.
        accuracy: asked of the glomeruli that are not abstained from, 0 to 1.
        folder: of the files.

    Raises:
        OutputError: they cannot be written.
    """
    folder = Path(folder)
    sample = found.sample
    of_objects = round(fit_temperature(sample), 4)
    probabilities = sample.probabilities(of_objects)
    predicted = found.rows["predicted"].to_numpy()
    confidence, scores = probabilities[np.arange(len(predicted)), predicted], probabilities[:, GLOBAL.index]
    correct = predicted == sample.labels
    thresholds = find_thresholds(scores, found.sclerotic)
    decided = decisions(thresholds, scores)
    left_out = held_out(scores, found.sclerotic, found.rows["patient"].tolist())
    least = abstention_threshold(confidence, correct, accuracy)
    report = {
        "bundle": __version__,
        "datalist": {"file": used.datalist.name, "sha256": file_sha256(used.datalist), "split": used.split},
        "pixels": {"before": reliability(pixels, 1.0), "after": reliability(pixels, temperature)},
        "glomeruli": {"before": reliability(sample, 1.0), "after": reliability(sample, of_objects)},
        "abstention": _abstention(confidence, correct, least) | {"asked_accuracy": accuracy},
        "globally_sclerotic_never_found": found.missed,
        "claims": claims(decided, found.sclerotic),
        "claims_on_patients_left_out": claims(left_out, found.sclerotic),
    }
    lock = Lock(str(file_sha256(used.weights)), used.settings, of_objects, least, thresholds)
    write_lock(folder / LOCK, lock, report)
    table = found.rows.assign(confidence=confidence, score=scores, triage=decided, triage_left_out=left_out)
    with atomic_path(folder / "glomeruli.csv") as temporary:
        table.to_csv(temporary, index=False)
    fits = {"pixels": (pixels, temperature), "glomeruli": (sample, of_objects)}
    reliability_diagram(fits, folder / "reliability.png")


def _abstention(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], least: float | None
) -> dict[str, float | None]:
    sure = confidence >= (np.inf if least is None else least)
    return {
        "accuracy_of_all": round(float(correct.mean()), 4),
        "accuracy_of_the_sure": round(float(correct[sure].mean()), 4) if sure.any() else None,
        "abstained": int((~sure).sum()),
    }
