"""Read weights without running code: safetensors, or torch files with `weights_only=True`."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
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
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path}: not a safe weight file ({reason}); save a plain state dict") from error


def load_weights(network: torch.nn.Module, path: Path | str | None) -> torch.nn.Module:
    """Load a plain state dict into `network`, every key and shape matching, and return `network`.

    Raises:
        WeightsError: see `read_checkpoint`; or the weights are of another network.
    """
    if path is None:
        return network
    state: Mapping[str, Any] = read_checkpoint(path)
    state = state.get("network", state)
    expected = network.state_dict()
    wrong = [
        key
        for key in sorted(expected.keys() | state.keys())
        if key not in expected or key not in state or expected[key].shape != getattr(state[key], "shape", None)
    ]
    if wrong:
        raise WeightsError(
            f"{path}: weights of another network: {len(wrong)} of {len(expected)} tensors differ (first: {wrong[0]}); "
            f"choose the config of the network that was trained"
        )
    network.load_state_dict(dict(state))
    return network
