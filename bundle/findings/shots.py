"""How many labelled glomeruli a lesion needs: AUC by the number of shots, trained on one group and tested on another.

A group is a hospital, a stain, a scanner: whatever a column of the table tells. Shots are drawn many times, from as
many patients as possible; the intervals are over the draws, and over draws and test patients together.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from bundle.errors import ConfigError, FindingsError
from bundle.findings.embedding import Embeddings
from bundle.findings.extras import extra
from bundle.findings.recognition_calibration import draw_patients
from bundle.findings.recognition_classifiers import Classifier, Labels, Vectors
from bundle.findings.recognition_labels import Lesion

logger = logging.getLogger(__name__)

SHOTS: Final = (1, 2, 4, 8, 16, 32)
CURVE_COLUMNS: Final = (
    "shots", "auc", "low", "high", "draws_low", "draws_high", "draws",
    "train_patients", "test", "test_present", "test_patients",
)  # fmt: skip
"""`auc`: mean over draws. `low`, `high`: 95 % over draws and test patients; `draws_low`, `draws_high`: over draws."""


@dataclass(frozen=True)
class Sample:
    """Labelled glomeruli: `values` (n, D), `present` (n,), `patients` (n,)."""

    values: Vectors
    present: Labels
    patients: NDArray[np.str_]


@dataclass(frozen=True)
class Transfer:
    """A test across groups.

    Attributes:
        column: of the table of glomeruli, such as stain or patient.
        pattern: regular expression whose first bracket, in the column's text, is the group; all of the text without
            one.
    """

    column: str
    pattern: str | None = None

    def groups(self, table: pd.DataFrame) -> NDArray[np.str_]:
        """The group of each row, (n,); empty where there is none.

        Raises:
            ConfigError: the pattern is no regular expression, or has no bracket.
        """
        if self.column not in table:
            logger.warning("the crops have no column %r to be grouped by: no curves by it", self.column)
            return np.full(len(table), "", str)
        texts = table[self.column].astype(object).fillna("").astype(str)
        if self.pattern is None:
            return texts.to_numpy(str)
        try:
            return texts.str.extract(self.pattern)[0].fillna("").to_numpy(str)
        except (re.error, ValueError) as error:
            raise ConfigError(f"transfers: pattern {self.pattern!r} has no group in brackets ({error})") from error


def transfer_curves(
    embeddings: Embeddings,
    lesions: Sequence[Lesion],
    transfers: Mapping[str, Transfer],
    classifiers: Mapping[str, Classifier],
    shots: Sequence[int] = SHOTS,
    draws: int = 200,
    seed: int = 0,
    progress: bool = True,
    test_rows: NDArray[np.bool_] | None = None,
) -> pd.DataFrame:
    """N-shot curves of every lesion, transfer, ordered pair of groups, and classifier.

    Args:
        embeddings: of n glomeruli.
        lesions: what is asked.
        transfers: by name.
        classifiers: by name.
        shots: glomeruli with the lesion, and as many without.
        draws: of the shots.
        seed: of the draws.
        progress: whether a bar is shown.
        test_rows: (n,) that may be tested on; all by default.

    Returns:
        Columns lesion, transfer, train, test_group, classifier, and `CURVE_COLUMNS`. A pair of groups in which a
        class is missing is left out.

    Raises:
        ConfigError: see `Transfer.groups`; or scikit-learn is not installed.
    """
    groups = {name: transfer.groups(embeddings.table) for name, transfer in transfers.items()}
    jobs = [
        (lesion, name, pair, sample, kind, classifier)
        for lesion in lesions
        for name in transfers
        for pair, sample in _pairs(embeddings, lesion, groups[name], test_rows)
        for kind, classifier in classifiers.items()
    ]
    curves = []
    for lesion, name, (train, test), (source, target), kind, classifier in tqdm(
        jobs, "shots", unit="curve", disable=not progress
    ):
        curve = shot_curve(source, target, classifier, shots, draws, seed)
        names = {"lesion": lesion.name, "transfer": name, "train": train, "test_group": test, "classifier": kind}
        curves.append(curve.assign(**names)[[*names, *CURVE_COLUMNS]])
    if not curves:
        logger.info("no two groups with and without a lesion: no N-shot curve")
        return pd.DataFrame(columns=["lesion", "transfer", "train", "test_group", "classifier", *CURVE_COLUMNS])
    return pd.concat(curves, ignore_index=True)


def shot_curve(
    train: Sample,
    test: Sample,
    classifier: Classifier,
    shots: Sequence[int] = SHOTS,
    draws: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """AUC on `test` of classifiers fitted to a few glomeruli of `train`.

    All of `train`, without its labels, says how features vary. Numbers of shots that `train` does not hold are left
    out.

    Args:
        train: where shots are drawn.
        test: other patients.
        classifier: fitted anew for each draw.
        shots: glomeruli with the lesion, and as many without.
        draws: of the shots.
        seed: of the draws.

    Returns:
        A row a number of shots: `CURVE_COLUMNS`.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    roc_auc_score = extra("sklearn.metrics", "lesions").roc_auc_score
    rows = []
    for count in shots:
        if count > min(train.present.sum(), (~train.present).sum()):
            continue
        aucs, patients_aucs = [], []
        for draw in range(draws):
            random = np.random.default_rng((seed, count, draw))
            chosen = draw_shots(train, count, random)
            scores = classifier.fit(train.values[chosen], train.present[chosen], train.values).scores(test.values)
            aucs.append(roc_auc_score(test.present, scores))
            again = draw_patients(test.patients, random)
            if 0 < test.present[again].sum() < len(again):
                patients_aucs.append(roc_auc_score(test.present[again], scores[again]))
        rows.append(_row(count, aucs, patients_aucs, train, test))
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


def draw_shots(sample: Sample, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Rows of `count` glomeruli with the lesion and `count` without, each from as many patients as possible.

    Raises:
        FindingsError: the sample does not hold as many.
    """
    chosen: list[int] = []
    for answer in (True, False):
        rows = random.permutation(np.flatnonzero(sample.present == answer))
        if len(rows) < count:
            raise FindingsError(f"{count} shots of {len(rows)} glomeruli; ask for fewer shots")
        _, patients = np.unique(sample.patients[rows], return_inverse=True)
        # A patient's first glomerulus comes before any patient's second, patients in random order.
        turn = random.permutation(len(rows))[patients]
        chosen += rows[np.lexsort((turn, _places_among_equals(patients)))][:count].tolist()
    return np.array(chosen)


def _places_among_equals(values: NDArray[np.intp]) -> NDArray[np.intp]:
    """How many equal values come before each: (a, b, a, a) gives (0, 0, 1, 2)."""
    order = np.argsort(values, kind="stable")
    _, starts, counts = np.unique(values[order], return_index=True, return_counts=True)
    places = np.empty_like(order)
    places[order] = np.arange(len(values)) - np.repeat(starts, counts)
    return places


def _pairs(
    embeddings: Embeddings, lesion: Lesion, groups: NDArray[np.str_], test_rows: NDArray[np.bool_] | None
) -> Iterator[tuple[tuple[str, str], tuple[Sample, Sample]]]:
    """Names and samples of (training, test) groups that both have both answers."""
    patients = embeddings.patients
    testable = np.ones(len(groups), bool) if test_rows is None else test_rows
    for pair in permutations(sorted(set(groups[groups != ""])), 2):
        masks = [lesion.known & (groups == pair[0]), lesion.known & (groups == pair[1]) & testable]
        samples = [Sample(embeddings.values[m], lesion.present[m], patients[m]) for m in masks]
        if all(0 < sample.present.sum() < len(sample.present) for sample in samples):
            yield pair, (samples[0], samples[1])


def _row(
    count: int, aucs: Sequence[float], patients_aucs: Sequence[float], train: Sample, test: Sample
) -> dict[str, float]:
    low, high = np.percentile(patients_aucs, [2.5, 97.5])
    draws_low, draws_high = np.percentile(aucs, [2.5, 97.5])
    return {
        "shots": count,
        "auc": float(np.mean(aucs)),
        "low": float(low),
        "high": float(high),
        "draws_low": float(draws_low),
        "draws_high": float(draws_high),
        "draws": len(aucs),
        "train_patients": len(set(train.patients)),
        "test": len(test.present),
        "test_present": int(test.present.sum()),
        "test_patients": len(set(test.patients)),
    }
