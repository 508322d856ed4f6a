"""Whether a probability means what it says, and the temperature that makes it: of pixels and of whole glomeruli.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. No network and no slide occur here, only logits.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from bundle.errors import DatalistError
from bundle.findings.recognition_calibration import calibration_error

TEMPERATURES: Final = (0.05, 20.0)
"""Between these the temperature is looked for."""
LEAST: Final = 1e-7
"""Probabilities below are taken for this: one wrong object of probability 0 would make any mean infinite."""


@dataclass(frozen=True)
class Sample:
    """Logits with the truth beside them.

    Attributes:
        logits: (n, pixels, C): n objects of some pixels each, or n pixels with `pixels` = 1.
        labels: (n,) true class, 0 (background) to C - 1.
    """

    logits: NDArray[np.floating]
    labels: NDArray[np.integer]

    def probabilities(self, temperature: float = 1.0) -> NDArray[np.float64]:
        """(n, C): the mean over an object's pixels of softmax(logits / temperature)."""
        return softmax(self.logits.astype(np.float64) / temperature, axis=2).mean(axis=1)

    def nll(self, temperature: float = 1.0) -> float:
        """Mean negative log-likelihood of the true classes, nats."""
        true = self.probabilities(temperature)[np.arange(len(self.labels)), self.labels]
        return float(-np.log(np.maximum(true, LEAST)).mean())

    def confidence(self, temperature: float = 1.0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(n,) greatest probability, and whether its class is the true one."""
        probabilities = self.probabilities(temperature)
        return probabilities.max(axis=1), probabilities.argmax(axis=1) == self.labels


def fit_temperature(sample: Sample) -> float:
    """The temperature of least negative log-likelihood, by bounded minimisation of its logarithm.

    Raises:
        DatalistError: the sample is empty.
    """
    if not len(sample.labels):
        raise DatalistError("calibration: nothing to fit the temperature to; the split needs annotated slides")
    found = minimize_scalar(
        lambda log: sample.nll(float(np.exp(log))),
        bounds=np.log(TEMPERATURES),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(found.x))


def reliability(sample: Sample, temperature: float) -> dict[str, Any]:
    """How good the probabilities are: number, accuracy, mean confidence, NLL, expected calibration error (10 bins)."""
    confidence, correct = sample.confidence(temperature)
    return {
        "n": len(correct),
        "temperature": round(temperature, 4),
        "accuracy": round(float(correct.mean()), 5),
        "mean_confidence": round(float(confidence.mean()), 5),
        "nll": round(sample.nll(temperature), 5),
        "ece": round(calibration_error(confidence, correct), 5),
    }
