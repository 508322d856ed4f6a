"""Keep layers as they are while others train: the second stage of two-stage training."""

from collections.abc import Sequence

from ignite.engine import Engine, Events
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bundle.errors import ConfigError


class FreezeLayers:
    """Handler that freezes the layers named so when training starts: their weights and their running statistics.

    Args:
        network: the network in training.
        layers: names of modules, as `network.named_modules` has them; all that is in them is frozen too.

    Raises:
        ConfigError: the network has no such layer.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        modules = dict(network.named_modules())
        for layer in layers:
            if layer not in modules:
                names = ", ".join(name for name, _ in network.named_children())
                raise ConfigError(f"frozen_layers: {type(network).__name__} has no layer {layer!r}; it has {names}")
        self.frozen = [modules[layer] for layer in layers]

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self.freeze)

    def freeze(self) -> None:
        """Freeze the layers."""
        for layer in self.frozen:
            layer.requires_grad_(False)
            for module in layer.modules():
                # MONAI's trainer puts the whole network into training mode before each iteration.
                if isinstance(module, _BatchNorm):
                    module.momentum = 0.0
