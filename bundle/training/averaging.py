"""The network that is validated and saved: a moving average of the one in training, when asked for."""

import torch
from ignite.engine import Engine
from ignite.handlers import EMAHandler


class AveragedWeights:
    """An exponential moving average of a network's weights (ignite's `EMAHandler`); `UpdateAverage` keeps it up.

    Args:
        network: the network in training.
        enabled: without it nothing is averaged, and `network` below is the network in training itself.
        momentum: weight of an iteration's network in the average.
        warmup: iterations over which the momentum falls to its value from 0.1, so that the first weights are forgotten.
    """

    def __init__(self, network: torch.nn.Module, enabled: bool, momentum: float = 0.002, warmup: int = 200) -> None:
        self.averaging = EMAHandler(network, momentum, max(momentum, 0.1), warmup) if enabled else None
        self.network: torch.nn.Module = self.averaging.ema_model if self.averaging else network


class UpdateAverage:
    """Handler that updates an average after each iteration; does nothing where nothing is averaged."""

    def __init__(self, averaging: AveragedWeights) -> None:
        self.averaging = averaging.averaging

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        if self.averaging:
            self.averaging.attach(engine)
