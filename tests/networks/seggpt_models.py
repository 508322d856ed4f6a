"""Tiny SegGPTs with random weights, and prompts for them."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from transformers import SegGptConfig, SegGptForImageSegmentation
from transformers.models.seggpt.modeling_seggpt import SegGptAttention

from bundle.networks.seggpt.colours import PALETTES, normalise, paint
from bundle.prompts import PromptSet

SIDE = 32


def tiny_model(seed: int = 0, **changes: object) -> SegGptForImageSegmentation:
    """A SegGPT of side 32 whose every weight matters, tokens and relative positions too."""
    values = {
        "image_size": [2 * SIDE, SIDE],
        "patch_size": 8,
        "pretrain_image_size": 48,
        "hidden_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "merge_index": 1,
        "intermediate_hidden_state_indices": [1, 3],
        "decoder_hidden_size": 8,
    }
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = SegGptForImageSegmentation(SegGptConfig(**{**values, **changes})).eval()
        for name, parameter in model.named_parameters():
            strength = 0.5 if "rel_pos" in name or "token" in name else 0.15
            parameter.add_(strength * torch.randn(parameter.shape))
    return model


def random_prompts(count: int, seed: int = 0, side: int = SIDE) -> PromptSet:
    generator = np.random.default_rng(seed)
    labels = np.kron(generator.integers(0, 4, (count, 4, 4)), np.ones((1, side // 4, side // 4)))
    return PromptSet(generator.integers(0, 256, (count, 3, side, side), dtype=np.uint8), labels.astype(np.uint8))


def normalised(prompts: PromptSet) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and painted masks (K, 3, side, side) as `SegGPT.predict_masks` takes them."""
    painted = paint(torch.tensor(prompts.labels), torch.tensor(PALETTES["seggpt"], dtype=torch.float32))
    return normalise(torch.tensor(prompts.images) / 255), normalise(painted)


def random_tiles(count: int, seed: int = 1, side: int = SIDE) -> torch.Tensor:
    """RGB in 0..1 with 8 bits, as tiles of slides have."""
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed)) / 255


@contextmanager
def blind_prompts() -> Iterator[None]:
    """transformers' own forward, but that the upper half's attention to the lower half is masked out."""
    original = SegGptAttention.add_decomposed_rel_pos

    def masked(self: SegGptAttention, scores: torch.Tensor, *args: object) -> torch.Tensor:
        scores = original(self, scores, *args).clone()
        half = scores.shape[-1] // 2
        scores[:, :half, half:] = -torch.inf
        return scores

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegGptAttention, "add_decomposed_rel_pos", masked)
        yield
