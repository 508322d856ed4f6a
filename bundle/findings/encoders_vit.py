"""Frozen vision transformers as encoders: timm state dicts (UNI-, Virchow-, GPFM-like) and Hugging Face folders.

Nothing is downloaded: weights are local files, read without running code.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bundle.errors import ConfigError, WeightsError, reason_of
from bundle.findings.encoders import Images, Masks, resized
from bundle.findings.vit import ViTSizes, read_vit
from bundle.hashing import file_sha256

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
POOLINGS: Final = ("class", "mean", "class_mean")
"""The class token, the mean over patches, or both one after the other."""
_KINDS: Final = ("dinov2", "dinov2_with_registers", "vit")


class _TokenEncoder:
    """What encoders of whole crops share; the mask does not matter to them."""

    tokens: "_Tokens"
    facts: dict[str, Any]

    def __call__(self, images: Images, masks: Masks) -> NDArray[np.float32]:
        """See `Encoder`."""
        return self.tokens(images)

    def describe(self) -> dict[str, Any]:
        """See `Encoder`."""
        return dict(self.facts)


class ViTEncoder(_TokenEncoder):
    """A vision transformer with timm's names, from a local file.

    Args:
        weights: .safetensors, or a torch file of tensors alone.
        pooling: one of `POOLINGS`.
        mean: of RGB in 0..1, as the encoder was trained.
        std: likewise.
        prefix: of the names in the file, see `read_vit`.
        device: where it runs.
        sizes: of `ViTSizes`.

    Raises:
        WeightsError: see `read_vit`; or no file is given.
        ConfigError: unknown pooling, or sizes that no transformer has.
    """

    def __init__(
        self,
        weights: Path | str | None,
        pooling: str = "class",
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        prefix: str = "",
        device: torch.device | str = "cpu",
        **sizes: Any,
    ) -> None:
        if weights is None:
            raise WeightsError("this encoder has no weights: give the local file with --vit_weights FILE")
        try:
            shape = ViTSizes(**sizes)
        except TypeError as error:
            raise ConfigError(f"encoder: {error}; sizes are {', '.join(ViTSizes.__dataclass_fields__)}") from error
        model = read_vit(weights, shape, prefix)
        self.tokens = _Tokens(model, shape.image_px, model.prefix, pooling, mean, std, device)
        self.facts = {
            "encoder": "ViT",
            "weights_sha256": file_sha256(Path(weights)),
            "pooling": pooling,
            "mean": list(mean),
            "std": list(std),
        }


class HuggingFaceEncoder(_TokenEncoder):
    """A transformer of transformers' `Dinov2Model`, `Dinov2WithRegistersModel` or `ViTModel`, from a local folder.

    Args:
        folder: config.json and model.safetensors, as `save_pretrained` writes them.
        pooling: one of `POOLINGS`.
        mean: of RGB in 0..1, as the encoder was trained.
        std: likewise.
        device: where it runs.

    Raises:
        WeightsError: a file is missing, damaged or of another model.
        ConfigError: transformers is not installed, or the pooling is unknown.
    """

    def __init__(
        self,
        folder: Path | str | None,
        pooling: str = "class",
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        device: torch.device | str = "cpu",
    ) -> None:
        if folder is None:
            raise WeightsError("this encoder has no weights: give the local folder with --vit_weights FOLDER")
        folder = Path(folder)
        config = _read_config(folder)
        model = _read_model(folder)
        prefix = 1 + int(config.get("num_register_tokens", 0))
        self.tokens = _Tokens(model, int(model.config.image_size), prefix, pooling, mean, std, device)
        self.facts = {
            "encoder": config["model_type"],
            "weights_sha256": file_sha256(folder / "model.safetensors"),
            "pooling": pooling,
            "mean": list(mean),
            "std": list(std),
        }


class _Tokens:
    """Images to pooled tokens: resize, normalise, run, pool."""

    def __init__(
        self,
        model: nn.Module,
        image_px: int,
        prefix: int,
        pooling: str,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | str,
    ) -> None:
        if pooling not in POOLINGS:
            raise ConfigError(f"pooling: {pooling!r} is unknown; choose one of {', '.join(POOLINGS)}")
        self.model = model.to(device).eval()
        self.image_px = image_px
        self.prefix = prefix
        self.pooling = pooling
        self.mean = torch.tensor(mean).view(3, 1, 1)
        self.std = torch.tensor(std).view(3, 1, 1)
        self.device = device

    @torch.inference_mode()
    def __call__(self, images: Images) -> NDArray[np.float32]:
        pixels = (resized(images, self.image_px) / 255 - self.mean) / self.std
        given = self.model(pixels.to(self.device))
        tokens = getattr(given, "last_hidden_state", given)
        parts = {"class": tokens[:, 0], "mean": tokens[:, self.prefix :].mean(1)}
        chosen = [parts[name] for name in self.pooling.split("_")]
        return torch.cat(chosen, 1).float().cpu().numpy()


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    for file in (path, folder / "model.safetensors"):
        if not file.is_file():
            raise WeightsError(f"{file}: no such file; a Hugging Face folder holds config.json and model.safetensors")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: cannot be read ({error})") from error
    if not isinstance(config, dict) or config.get("model_type") not in _KINDS:
        raise WeightsError(
            f"{path}: its model_type is none of {', '.join(_KINDS)}; a timm state dict has a declared encoder instead"
        )
    return config


def _read_model(folder: Path) -> Any:
    try:
        # Here, not above: transformers takes seconds to import and is an extra.
        from transformers import AutoModel
    except ImportError as error:
        raise ConfigError("this encoder needs transformers; install it with `pip install -e '.[seggpt]'`") from error
    try:
        model, report = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(f"{folder}: cannot be loaded ({reason_of(error)})") from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise WeightsError(f"{folder}: {len(missing)} tensors are missing from model.safetensors (first: {missing[0]})")
    return model
