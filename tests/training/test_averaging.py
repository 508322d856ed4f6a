"""Averaged weights and bfloat16: what is saved, and that the default changes nothing."""

import pytest
import torch
from ignite.engine import Engine

from bundle.training import AutocastInferer, AveragedWeights, UpdateAverage


def train(network, steps, **options):
    """A trainer that adds 1 to every weight an iteration."""

    def step(engine, batch):
        with torch.no_grad():
            network.weight += 1

    trainer = Engine(step)
    averaged = AveragedWeights(network, **options)
    UpdateAverage(averaged).attach(trainer)
    trainer.run([0] * steps, max_epochs=1)
    return averaged


def linear():
    network = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(network.weight)
    return network


def test_without_averaging_the_network_itself_is_saved():
    network = linear()
    assert train(network, 3, enabled=False).network is network


def test_the_average_follows_the_recursion():
    network, momentum = linear(), 0.25
    averaged = train(network, 4, enabled=True, momentum=momentum, warmup=1)
    expected = 0.0
    for value in range(1, 5):
        expected += momentum * (value - expected)
    assert averaged.network is not network
    assert averaged.network.weight.item() == pytest.approx(expected)
    assert network.weight.item() == 4


def test_the_first_weights_are_soon_forgotten():
    averaged = train(linear(), 400, enabled=True, momentum=0.01, warmup=100)
    assert averaged.network.weight.item() > 250


def test_bfloat16_gives_float32_logits_near_the_exact_ones():
    torch.manual_seed(0)
    network, inputs = torch.nn.Conv2d(3, 8, 3), torch.rand(2, 3, 16, 16)
    exact, rounded = AutocastInferer(False)(inputs, network), AutocastInferer()(inputs, network)
    assert torch.equal(exact, network(inputs))
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.02, rtol=0.02)
