"""Fitted classifiers on disk: arrays in safetensors, facts beside them as JSON. No pickle."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bundle.atomic import atomic_path
from bundle.errors import FindingsError, reason_of
from bundle.findings.recognition_calibration import Platt
from bundle.findings.recognition_classifiers import FITTED, Fitted, Vectors

SUFFIX: Final = ".safetensors"


@dataclass(frozen=True)
class LesionClassifier:
    """A classifier of one lesion, ready for use.

    Attributes:
        lesion: its name; "NAME>=2" for a grade.
        fitted: what was learned.
        calibration: of its scores.
        encoder: whose embeddings it takes, `Encoder.describe`.
    """

    lesion: str
    fitted: Fitted
    calibration: Platt
    encoder: Mapping[str, Any]

    def probabilities(self, values: Vectors) -> NDArray[np.float64]:
        """Calibrated probabilities (n,) of embeddings (n, D)."""
        return self.calibration(self.fitted.scores(values))


def write_classifier(classifier: LesionClassifier, path: Path | str) -> None:
    """Write one classifier; `OutputError` when it cannot be."""
    facts = {
        "lesion": classifier.lesion,
        "kind": classifier.fitted.kind,
        "calibration": json.dumps(asdict(classifier.calibration)),
        "encoder": json.dumps(dict(classifier.encoder), sort_keys=True),
    }
    arrays = {name: np.asarray(array, order="C") for name, array in classifier.fitted.arrays().items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(arrays, metadata=facts))


def read_classifier(path: Path | str) -> LesionClassifier:
    """What `write_classifier` wrote; `FindingsError` when the file is missing, damaged or none."""
    try:
        with safe_open(path, "np") as file:
            facts = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        calibration = Platt(**json.loads(facts["calibration"]))
        fitted = FITTED[facts["kind"]].of(arrays)
        return LesionClassifier(facts["lesion"], fitted, calibration, json.loads(facts["encoder"]))
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
        reason = reason_of(error)
        raise FindingsError(f"{path}: no classifier of configs/findings.yaml ({reason}); fit it anew") from error


def read_classifiers(folder: Path | str, encoder: Mapping[str, Any]) -> list[LesionClassifier]:
    """All classifiers of a folder, by name.

    Args:
        folder: of `write_classifier`'s files.
        encoder: whose embeddings they are to be given.

    Raises:
        FindingsError: there is none, one is damaged, or one was fitted to another encoder's embeddings.
    """
    found = [(path, read_classifier(path)) for path in sorted(Path(folder).glob(f"*{SUFFIX}"))]
    if not found:
        raise FindingsError(f"{folder}: holds no classifiers; fit some with --labels")
    for path, classifier in found:
        if dict(classifier.encoder) != dict(encoder):
            raise FindingsError(
                f"{path}: was fitted to embeddings of another encoder ({classifier.encoder.get('encoder')} of other "
                f"weights or settings); choose that one with --encoder, or fit it anew"
            )
    return [classifier for _, classifier in found]
