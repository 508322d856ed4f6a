"""In-context training of SegGPT: network, loss and best weights, for MONAI's SupervisedTrainer."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Engine
from safetensors.torch import save
from torch import nn
from torch.nn import functional

from bundle.atomic import atomic_path, write_text
from bundle.errors import ConfigError, WeightsError
from bundle.handlers import BestModel
from bundle.networks.seggpt import SegGPT, read_seggpt
from bundle.networks.seggpt.colours import normalise
from bundle.networks.seggpt.weights import CONFIG_FILE, WEIGHTS_FILE, build_seggpt
from bundle.prompts import PromptEntry, choose_prompts, prompt_candidates, write_prompt_set
from bundle.training.matching import AttentionScores, Looked, MatchingLoss

if TYPE_CHECKING:
    from transformers import SegGptForImageSegmentation

PROMPTS_FILE = "prompts.yaml"


def make_seggpt(config: Mapping[str, Any], folder: Path | str | None = None) -> "SegGptForImageSegmentation":
    """transformers' SegGPT to be trained: with random weights of torch's generator, or with those of a folder.

    Args:
        config: arguments of transformers' `SegGptConfig`; not used with `folder`.
        folder: weights to go on from, see `read_seggpt`.

    Raises:
        ConfigError: `config` is not one of SegGPT, or transformers is not installed.
        WeightsError: see `read_seggpt`.
    """
    if folder is not None:
        return read_seggpt(folder)
    try:
        return build_seggpt(config)
    except WeightsError as error:
        raise ConfigError(f"seggpt_config: {error}; see configs/train_seggpt.yaml") from error


def draw_prompts(data: Sequence[Mapping[str, Any]], count: int, seed: int = 0) -> list[PromptEntry]:
    """Prompts for validation: glomeruli of `data` drawn evenly within each class, all classes alike.

    Raises:
        PromptError: there are not as many.
        BundleError: an image or annotation cannot be read.
    """
    pool = prompt_candidates(data)
    return [pool[i] for i in choose_prompts(pool, count, method="random", seed=seed)]


class InContextNetwork(nn.Module):
    """SegGPT as it is trained: it paints the masks of queries after their prompts.

    The query's mask is hidden wholly, as in inference. The original also trains with parts of it shown (random patches
    masked); with `prompt_attention` "cached" no part can be: a prompt is encoded before any query is known, and with
    it the query's mask, which is mask tokens alone (`PromptMemory.mask_query`).

    Args:
        network: shares its weights.
        matching_layers: layers whose attention `PaintedMaskLoss` shows where to look, see `bundle.training.matching`.

    Attributes:
        looked: where they looked in the last forward pass; `None` without such layers.

    Raises:
        ConfigError: see `AttentionScores`.
    """

    def __init__(self, network: SegGPT, matching_layers: Sequence[int] = ()) -> None:
        super().__init__()
        self.network = network
        self.attention = AttentionScores(network, matching_layers)
        self.looked: Looked | None = None

    def forward(self, image: torch.Tensor, prompt_images: torch.Tensor, prompt_masks: torch.Tensor) -> torch.Tensor:
        """The queries' painted masks (P, Q, 3, S, S), colours as `normalise` has them.

        Args:
            image: P sets of Q queries (P, Q, 3, S, S), RGB in 0..1, as are the others.
            prompt_images: of each set (P, K, 3, S, S).
            prompt_masks: painted, of the same shape.

        Raises:
            ConfigError: S is not the side that the network takes.
        """
        side = self.network.side_px
        if tuple(image.shape[-2:]) != (side, side):
            raise ConfigError(
                f"training tiles of {image.shape[-1]} px, but SegGPT takes {side} px: make --training_tiles#tile_um "
                f"{side} times --model_mpp, or change the image_size of seggpt_config"
            )
        queries = normalise(image.flatten(0, 1))
        with self.attention.read(prompts=prompt_images.shape[1]) as scores:
            painted = self.network.predict_masks(queries, normalise(prompt_images), normalise(prompt_masks))
        self.looked = Looked(scores, prompt_masks.repeat_interleave(image.shape[1], dim=0)) if scores else None
        return painted.unflatten(0, image.shape[:2])


class PaintedMaskLoss(nn.Module):
    """Smooth L1 between painted masks in normalised colours, the weighted mean over pixels: Wang et al. 2023.

    Args:
        beta: where it turns from a square to a line, normalised colour; the original's is 0.01.
        matching: weight of the `MatchingLoss` of the network's `matching_layers`.
        network: that paints, to know where it looked.

    Raises:
        ConfigError: there is a `matching`, but no `network`.
    """

    def __init__(self, beta: float = 0.01, matching: float = 0.0, network: InContextNetwork | None = None) -> None:
        super().__init__()
        if matching and network is None:
            raise ConfigError("loss: matching needs the network in training, to know where it looked")
        self.beta = beta
        self.matching = matching
        self.matching_loss = MatchingLoss()
        self._network = [network]  # in a list: its parameters are not the loss's

    def forward(self, painted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Scalar loss.

        Args:
            painted: (P, Q, 3, S, S), normalised colours.
            target: (P, Q, 4, S, S): RGB in 0..1, and the weight of each pixel.
        """
        painted, target = painted.flatten(0, 1).float(), target.flatten(0, 1)
        colours, weight = target[:, :3], target[:, 3]
        losses = functional.smooth_l1_loss(painted, normalise(colours), beta=self.beta, reduction="none")
        total = weight.sum()
        loss = (losses.mean(1) * weight).sum() / total if total > 0 else painted.sum() * 0
        (network,) = self._network
        if self.matching and network is not None and network.looked is not None:
            loss = loss + self.matching * self.matching_loss(network.looked, target)
        return loss


class BestSegGPT(BestModel):
    """`BestModel` that also keeps the best network as a folder for `--seggpt_dir`, and its prompts.

    The folder is in Hugging Face layout, config.json and model.safetensors, and holds prompts.yaml for `--prompt_set`.

    Args:
        network: the network that is saved.
        path: file of the plain state dict, as other networks have it.
        metric: name in the evaluator's `state.metrics`.
        folder: of the weights in Hugging Face layout.
        prompts: those of validation.
    """

    def __init__(
        self, network: SegGPT, path: Path | str, metric: str, folder: Path | str, prompts: Sequence[PromptEntry]
    ) -> None:
        super().__init__(network, path, metric)
        self.seggpt = network
        self.folder = Path(folder)
        self.prompts = prompts

    def __call__(self, engine: Engine) -> None:
        """Save as `BestModel` does.

        Raises:
            OutputError: a file cannot be written.
        """
        before = self.state_dict()
        super().__call__(engine)
        if self.state_dict() != before:
            write_seggpt(self.seggpt, self.folder)
            provenance = {"method": "random", "metric": self.metric, "best": self.best}
            write_prompt_set(self.prompts, self.folder / PROMPTS_FILE, provenance)


def write_seggpt(network: SegGPT, folder: Path | str) -> None:
    """Write config.json and model.safetensors as transformers' `save_pretrained` would, each whole or not at all.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    config = {**network.model.config.to_dict(), "architectures": ["SegGptForImageSegmentation"]}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_text(folder / CONFIG_FILE, json.dumps(config, indent=2, sort_keys=True) + "\n")
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        # Not by `save_file`, whose file none but its owner may read.
        temporary.write_bytes(save(state, metadata={"format": "pt"}))
