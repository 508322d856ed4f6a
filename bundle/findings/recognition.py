"""Lesions of glomeruli from few labels: what `configs/findings.yaml` runs.

Crops are embedded once; for each lesion a classifier is cross-validated by patient, fitted and saved, and every
glomerulus gets its probability; N-shot curves tell how many labels another hospital or stain needs. With saved
classifiers and no labels, only the probabilities are written.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bundle.atomic import atomic_path, write_text
from bundle.errors import ConfigError
from bundle.findings.embedding import Embeddings, embed_crops
from bundle.findings.embedding_crops import DESCRIPTORS, Crops
from bundle.findings.encoders import Encoder
from bundle.findings.recognition_calibration import OutOfFold, Platt, out_of_fold
from bundle.findings.recognition_classifiers import Classifier
from bundle.findings.recognition_files import SUFFIX, LesionClassifier, read_classifiers, write_classifier
from bundle.findings.recognition_labels import Lesion, read_lesions
from bundle.findings.recognition_report import grade_rows, lesion_row, report
from bundle.findings.shots import SHOTS, Transfer, transfer_curves
from bundle.findings.shots_report import plot_shots

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recognition:
    """Recognise lesions in crops.

    Attributes:
        crops: of glomeruli.
        encoder: of the crops, frozen.
        output_dir: embeddings.parquet, predictions.csv; with labels also classifiers/, lesions.csv, shots.csv,
            shots.png and findings.md.
        classifiers: by name; all have their N-shot curves.
        chosen: name of the one that is saved and gives the probabilities.
        labels: CSV, see `read_lesions`; `None` for the crops' classes.
        saved: folder of classifiers that are used instead; no labels are read then.
        transfers: tests across groups, by name.
        shots: numbers of labelled glomeruli of each answer.
        draws: of the shots.
        seed: of folds and draws.
        batch_size: crops at once through the encoder.
        progress: whether bars are shown.

    Raises:
        ConfigError: `chosen` is none of `classifiers`.
    """

    crops: Crops
    encoder: Encoder
    output_dir: Path | str
    classifiers: Mapping[str, Classifier]
    chosen: str
    labels: Path | str | None = None
    saved: Path | str | None = None
    transfers: Mapping[str, Transfer] | None = None
    shots: Sequence[int] = SHOTS
    draws: int = 200
    seed: int = 0
    batch_size: int = 32
    progress: bool = True

    def __post_init__(self) -> None:
        if self.chosen not in self.classifiers:
            names = ", ".join(self.classifiers)
            raise ConfigError(f"classifier: {self.chosen!r} is unknown; choose one of {names}")

    def run(self) -> None:
        """Do all of it.

        Raises:
            FindingsError: the labels or a saved classifier are malformed, or are of other crops or another encoder.
            ConfigError: a transfer's pattern has no group, or an optional package is not installed.
            OutputError: an output cannot be written.
            BundleError: a crop cannot be read.
        """
        folder = Path(self.output_dir)
        embeddings = embed_crops(
            self.crops, self.encoder, folder / "embeddings.parquet", self.batch_size, self.progress
        )
        if self.saved is not None:
            classifiers = read_classifiers(self.saved, embeddings.encoder)
            columns = {c.lesion: c.probabilities(embeddings.values) for c in classifiers}
            _write_csv(_predictions(embeddings, columns), folder / "predictions.csv")
            logger.info("probabilities of %d lesions in %s", len(columns), folder / "predictions.csv")
            return
        self._learn(embeddings, read_lesions(self.labels, embeddings.table), folder)

    def _learn(self, embeddings: Embeddings, lesions: Sequence[Lesion], folder: Path) -> None:
        judged = [self._judge(embeddings, lesion, folder / "classifiers") for lesion in lesions]
        columns = {lesion.name: probabilities for lesion, (_, probabilities) in zip(lesions, judged, strict=True)}
        _write_csv(_predictions(embeddings, columns), folder / "predictions.csv")
        patients = embeddings.patients
        rows = [lesion_row(lesion, found, patients) for lesion, (found, _) in zip(lesions, judged, strict=True)]
        scores = pd.DataFrame(rows)
        _write_csv(scores, folder / "lesions.csv")
        curves = transfer_curves(
            embeddings,
            lesions,
            self.transfers or {},
            self.classifiers,
            self.shots,
            self.draws,
            self.seed,
            self.progress,
        )
        _write_csv(curves, folder / "shots.csv")
        if len(curves):
            plot_shots(curves, folder / "shots.png")
        grades = grade_rows(lesions, [found for found, _ in judged])
        write_text(folder / "findings.md", report(embeddings, scores, grades, curves, self.chosen))
        logger.info("%d lesions; tables, classifiers and probabilities in %s", len(lesions), folder)

    def _judge(self, embeddings: Embeddings, lesion: Lesion, folder: Path) -> tuple[OutOfFold | None, np.ndarray]:
        """Cross-validate, fit and save; probabilities of all, those of labelled glomeruli from other folds."""
        known = lesion.known
        values, present = embeddings.values[known], lesion.present[known]
        patients = embeddings.patients[known]
        classifier = self.classifiers[self.chosen]
        found = out_of_fold(values, present, patients, classifier, self.seed)
        if found is None:
            logger.warning("%s: too few patients to cross-validate; its probabilities are uncalibrated", lesion.name)
        calibration = Platt() if found is None else found.calibration
        fitted = LesionClassifier(lesion.name, classifier.fit(values, present), calibration, embeddings.encoder)
        write_classifier(fitted, folder / f"{_file_name(lesion.name)}{SUFFIX}")
        probabilities = fitted.probabilities(embeddings.values)
        if found is not None:
            probabilities[known] = found.probabilities
        return found, probabilities


def _predictions(embeddings: Embeddings, columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    return embeddings.table[list(DESCRIPTORS)].assign(**{f"probability_{n}": p.round(6) for n, p in columns.items()})


def _file_name(lesion: str) -> str:
    """Letters, digits, and what files may have; "mesangial>=2" is mesangial_ge_2."""
    return re.sub(r"[^\w.-]+", "_", lesion.replace(">=", "_ge_"))


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False)
