"""Temperatures fitted to made-up logits whose true temperature is known."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from bundle.errors import DatalistError
from bundle.evaluation.calibration import Sample, fit_temperature, reliability


def overconfident(temperature: float, n: int = 20000, pixels: int = 1) -> Sample:
    """Labels drawn from softmax(logits / temperature), the same logits in all of an object's pixels."""
    random = np.random.default_rng(7)
    logits = random.normal(0, 3, (n, 4))
    chances = softmax(logits / temperature, axis=1)
    labels = (random.random((n, 1)) > chances.cumsum(axis=1)).sum(axis=1).clip(0, 3)
    return Sample(np.repeat(logits[:, None], pixels, axis=1), labels)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_of_the_labels_is_found(temperature):
    assert fit_temperature(overconfident(temperature)) == pytest.approx(temperature, rel=0.05)
    assert fit_temperature(overconfident(temperature, 4000, 3)) == pytest.approx(temperature, rel=0.1)


def test_it_is_what_gradient_descent_on_torch_s_cross_entropy_finds():
    sample = overconfident(1.7, 3000)
    logits, labels = torch.tensor(sample.logits[:, 0]), torch.tensor(sample.labels)
    log_temperature = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=50)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(logits / log_temperature.exp(), labels)
        value.backward()
        return value

    optimizer.step(loss)
    assert fit_temperature(sample) == pytest.approx(float(log_temperature.detach().exp()), rel=1e-3)


def test_nll_is_torch_s_cross_entropy():
    sample = overconfident(1.0, 500)
    expected = torch.nn.functional.cross_entropy(torch.tensor(sample.logits[:, 0] / 2), torch.tensor(sample.labels))
    assert sample.nll(2.0) == pytest.approx(float(expected))


def test_an_object_s_probability_is_the_mean_over_its_pixels():
    sample = Sample(np.array([[[0.0, 0.0], [100.0, 0.0]]]), np.array([0]))
    np.testing.assert_allclose(sample.probabilities(), [[0.75, 0.25]])
    assert sample.nll() == pytest.approx(-np.log(0.75))


def test_the_calibration_error_falls_and_the_accuracy_stays():
    sample = overconfident(2.5)
    before, after = reliability(sample, 1.0), reliability(sample, fit_temperature(sample))
    assert before["accuracy"] == after["accuracy"]
    assert before["ece"] > 0.1
    assert after["ece"] < 0.02
    assert after["nll"] < before["nll"]
    assert after["mean_confidence"] == pytest.approx(after["accuracy"], abs=0.02)


def test_nothing_to_fit_to_is_an_error():
    with pytest.raises(DatalistError, match="nothing to fit"):
        fit_temperature(Sample(np.zeros((0, 1, 4)), np.zeros(0, int)))
