"""SegGPT's architecture and weights from a local folder in Hugging Face layout; nothing is downloaded."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bundle.errors import ConfigError, WeightsError, reason_of
from bundle.weights import load_weights

if TYPE_CHECKING:
    from transformers import SegGptForImageSegmentation

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
PUBLISHED = "BAAI/seggpt-vit-large"
"""The published weights on the Hugging Face Hub, 370.7 M parameters, already in this layout."""


def read_seggpt(folder: Path | str) -> "SegGptForImageSegmentation":
    """transformers' SegGPT as config.json and model.safetensors in `folder` describe it, on the CPU, in float32.

    Raises:
        WeightsError: a file is missing or damaged, the config is of another model, or a tensor is missing, left over or
            of another shape.
        ConfigError: transformers is not installed.
    """
    folder = Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise WeightsError(
                f"{folder / name}: no such file; get the published weights with `hf download {PUBLISHED} {CONFIG_FILE} "
                f"{WEIGHTS_FILE} --local-dir FOLDER` and give --seggpt_dir FOLDER"
            )
    path = folder / CONFIG_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.get("model_type") != "seggpt":
            raise WeightsError("not of SegGPT: its model_type is not 'seggpt'")
        # On the meta device, for drawing 370.7 M random numbers that are then overwritten takes longer than reading.
        with torch.device("meta"):
            model = build_seggpt(values)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not a config of SegGPT, no JSON ({error}); take it from {PUBLISHED}") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; take it from {PUBLISHED}") from error
    model = model.to_empty(device="cpu").eval()
    load_weights(model, folder / WEIGHTS_FILE)
    return model


def build_seggpt(config: Mapping[str, Any]) -> "SegGptForImageSegmentation":
    """The model of a config, with random weights of torch's generator.

    Args:
        config: arguments of transformers' `SegGptConfig`.

    Raises:
        WeightsError: `config` is not one of SegGPT.
        ConfigError: transformers is not installed.
    """
    try:
        # Here, not above: transformers takes seconds to import and is an extra that the other networks do without.
        from huggingface_hub.errors import StrictDataclassError
        from transformers import SegGptConfig, SegGptForImageSegmentation
    except ImportError as error:
        raise ConfigError("SegGPT needs transformers; install it with `pip install -e '.[seggpt]'`") from error
    try:
        return SegGptForImageSegmentation(SegGptConfig.from_dict(dict(config)))
    except (ArithmeticError, LookupError, RuntimeError, StrictDataclassError, TypeError, ValueError) as error:
        raise WeightsError(f"not a config of SegGPT ({reason_of(error)})") from error
