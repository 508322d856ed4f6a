"""Safety-gated triage: scores at which global sclerosis was never missed, and never alleged, on validation data.

The rule-out threshold has a sensitivity of 100 % on the glomeruli it was found on, the rule-in threshold a precision of
100 %; everything between is for a human. What 100 % of n says is told by the interval of Clopper and Pearson
(Biometrika 1934), and what it is worth on another patient by leaving each patient out in turn.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

RULE_IN: Final = "rule_in"
RULE_OUT: Final = "rule_out"
REVIEW: Final = "review"
DECISIONS: Final = (RULE_OUT, REVIEW, RULE_IN)

Scores = NDArray[np.floating]
Truth = NDArray[np.bool_]


@dataclass(frozen=True)
class Thresholds:
    """Scores that decide; `None` where none is safe.

    Attributes:
        rule_out: at this score or below a glomerulus is not globally sclerotic.
        rule_in: at this score or above it is.
    """

    rule_out: float | None
    rule_in: float | None

    def decide(self, score: float) -> str:
        """`RULE_OUT`, `RULE_IN` or `REVIEW`; a score that is no number is for review."""
        if self.rule_out is not None and score <= self.rule_out:
            return RULE_OUT
        if self.rule_in is not None and score >= self.rule_in:
            return RULE_IN
        return REVIEW


@dataclass(frozen=True)
class Proportion:
    """`successes` of `trials` with the exact 95 % interval; NaN without trials."""

    successes: int
    trials: int

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper and Pearson's."""
        if not self.trials:
            return float("nan"), float("nan")
        found = binomtest(self.successes, self.trials).proportion_ci(0.95, method="exact")
        return float(found.low), float(found.high)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `value`, `low` and `high` are null without trials."""
        low, high = self.interval
        value = self.successes / self.trials if self.trials else None
        ends = {"low": round(low, 4), "high": round(high, 4)} if self.trials else {"low": None, "high": None}
        return asdict(self) | {"value": value, **ends}


def find_thresholds(scores: Scores, sclerotic: Truth) -> Thresholds:
    """The widest safe thresholds, each at a score that was seen on the safe side.

    A score between two that were seen is never decided: where no glomerulus of either kind lies, nothing is known. So
    the two cannot cross, also where the kinds are parted perfectly. Without glomeruli of both kinds none is safe.

    Args:
        scores: (n,) of global sclerosis, higher is more likely.
        sclerotic: (n,) whether the glomerulus is globally sclerotic.
    """
    positive, negative = scores[sclerotic], scores[~sclerotic]
    if not len(positive) or not len(negative):
        return Thresholds(None, None)
    safe_out = negative[negative < positive.min()]
    safe_in = positive[positive > negative.max()]
    return Thresholds(float(safe_out.max()) if len(safe_out) else None, float(safe_in.min()) if len(safe_in) else None)


def decisions(thresholds: Thresholds, scores: Scores) -> NDArray[np.str_]:
    """(n,) what is decided of each score."""
    return np.array([thresholds.decide(float(score)) for score in scores], dtype="<U8")


def claims(decided: NDArray[np.str_], sclerotic: Truth) -> dict[str, Any]:
    """What decisions were worth: sensitivity, rightness of what was ruled out and in, and how much is for review."""
    out, within = decided == RULE_OUT, decided == RULE_IN
    return {
        "sensitivity": Proportion(int((sclerotic & ~out).sum()), int(sclerotic.sum())).as_dict(),
        "ruled_out_not_sclerotic": Proportion(int((out & ~sclerotic).sum()), int(out.sum())).as_dict(),
        "ruled_in_sclerotic": Proportion(int((within & sclerotic).sum()), int(within.sum())).as_dict(),
        "for_review": int((decided == REVIEW).sum()),
        "objects": len(decided),
    }


def held_out(scores: Scores, sclerotic: Truth, patients: Sequence[str]) -> NDArray[np.str_]:
    """(n,) decisions on each patient by thresholds found on all the others."""
    names = np.asarray(patients, str)
    decided = np.full(len(scores), REVIEW, dtype="<U8")
    for name in np.unique(names):
        own = names == name
        decided[own] = decisions(find_thresholds(scores[~own], sclerotic[~own]), scores[own])
    return decided


def abstention_threshold(confidence: Scores, correct: Truth, accuracy: float) -> float | None:
    """The least confidence such that of all objects at least as sure the part `accuracy` is right; `None` if none is.

    Ties go together: a threshold never parts equal confidences.
    """
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    last_of_tie = np.append(np.diff(confidence[order]) != 0, True)[: len(order)]
    good = np.flatnonzero((right >= accuracy) & last_of_tie)
    return float(confidence[order][good[-1]]) if len(good) else None
