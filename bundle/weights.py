"""Read weights without running code: safetensors, or torch files with `weights_only=True`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from bundle.errors import WeightsError


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """The dictionary that a .pt or .safetensors file holds, on the CPU.

    Raises:
        WeightsError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weight file; train with configs/train.yaml or give --checkpoint")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged pickle raises depends on the bytes: KeyError, EOFError, ...
        raise _unsafe(path, type(error).__name__) from error
    if not isinstance(state, dict):
        raise _unsafe(path, f"a {type(state).__name__}")
    return state


def load_weights(network: torch.nn.Module, path: Path | str) -> None:
    """Load a plain state dict, or the network of a training state, into `network`; every key and shape must match.

    Raises:
        WeightsError: see `read_checkpoint`; or the weights are of another network.
    """
    state: Mapping[str, Any] = read_checkpoint(path)
    state = state.get("network", state)
    if not isinstance(state, Mapping):
        raise _unsafe(Path(path), f"a {type(state).__name__} for the network")
    expected = network.state_dict()
    keys = sorted(expected.keys() | state.keys(), key=str)  # a foreign file may have numbers for names
    wrong = [
        key
        for key in keys
        if key not in expected or key not in state or expected[key].shape != getattr(state[key], "shape", None)
    ]
    if wrong:
        raise WeightsError(
            f"{path}: weights of another network: {len(wrong)} of {len(keys)} tensors differ (first: {wrong[0]}); "
            f"choose the config of the network that was trained"
        )
    network.load_state_dict(dict(state))


def _unsafe(path: Path, reason: str) -> WeightsError:
    return WeightsError(f"{path}: damaged, or more than tensors and plain values ({reason}); save a plain state dict")
