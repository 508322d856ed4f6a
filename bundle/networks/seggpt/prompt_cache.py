"""Keeps what prompts were encoded to, until prompts, weights, device or number format change."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import nn

from bundle.networks.seggpt.cached import PromptMemory


@dataclass(frozen=True)
class _Entry:
    images: torch.Tensor
    masks: torch.Tensor
    memory: PromptMemory

    def is_of(self, images: torch.Tensor, masks: torch.Tensor) -> bool:
        # By content: an identity would miss prompts that were changed in place, and the encoding costs a thousandfold.
        return torch.equal(self.images, images) and torch.equal(self.masks, masks)


class PromptCache:
    """The encodings of the last prompts, of one state of the network.

    Args:
        capacity: encodings kept; of the published network each holds 0.15 GB a prompt in float32.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._state: Hashable = None
        self._entries: list[_Entry] = []

    def memory(
        self, state: Hashable, images: torch.Tensor, masks: torch.Tensor, encode: Callable[[], PromptMemory]
    ) -> PromptMemory:
        """The memory of these prompts under this state of the network, by `encode` where it is not kept."""
        if state != self._state:
            self.clear()
            self._state = state
        for entry in self._entries:
            if entry.is_of(images, masks):
                return entry.memory
        # Room is made before the next is encoded: both at once may not fit.
        del self._entries[: len(self._entries) - self.capacity + 1]
        entry = _Entry(images.clone(), masks.clone(), encode())
        self._entries.append(entry)
        return entry.memory

    def clear(self) -> None:
        """Keep nothing."""
        self._entries.clear()
        self._state = None


def network_state(network: nn.Module) -> Hashable:
    """Changes whenever an operation of torch has changed, moved or replaced a parameter.

    A change through `.data`, which torch does not count, goes unseen.
    """
    parameters = tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in network.parameters())
    first = next(network.parameters())
    kind = first.device.type
    precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else first.dtype
    return parameters, first.device, precision
