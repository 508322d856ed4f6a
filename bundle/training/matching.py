"""Shows attention where to look: query tokens find the prompt tokens that are painted alike.

A SegGPT that learns from painted masks alone must find by chance that its prompts say what a colour means; a small one
trained for hours on a few cores does not. Where colours come from is known, though: from the prompt's patches of the
same class. So attention itself gets a loss, the cross-entropy of supervised contrastive learning (Khosla et al. 2020,
"Supervised Contrastive Learning", equation 2) over the patches of the prompts. It asks for colours alone, no class:
where one class is to be painted, the others match background. Nothing of it remains in the weights' layout.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bundle.errors import ConfigError
from bundle.networks.seggpt import SegGPT

NEAR = 0.5 / 255
"""Colours at this distance are one."""
NEVER = -1e4


@dataclass(frozen=True)
class Looked:
    """Where attention looked in one forward pass.

    Attributes:
        scores: how much each query token looks at each prompt token and each of its own tile, before softmax and
            without position, of each matching layer (B, heads, tokens, K tokens + tokens).
        prompt_masks: painted masks of each query's prompts (B, K, 3, S, S), 0..1.
    """

    scores: Sequence[torch.Tensor]
    prompt_masks: torch.Tensor


class AttentionScores:
    """Reads the scores of some layers while a network with prompts of their own paints.

    Of the first half of a layer's heads: the others are left to look at the tile itself.

    Args:
        network: its prompts must not see the tile.
        layers: indices of the encoder's layers, above the merging one.

    Raises:
        ConfigError: `layers` are not above the merging layer, or prompts see the tile.
    """

    def __init__(self, network: SegGPT, layers: Sequence[int]) -> None:
        config = network.model.config
        if any(not config.merge_index < index < config.num_hidden_layers for index in layers):
            raise ConfigError(
                f"matching_layers: must be above merge_index {config.merge_index} and below num_hidden_layers "
                f"{config.num_hidden_layers}, not {list(layers)}: below, a token knows no colour"
            )
        if layers and network.prompt_attention == "joint":
            raise ConfigError("matching_layers: need prompt_attention cached or pooled, not joint")
        self._attentions: list[Any] = [network.model.encoder.layers[index].attention for index in layers]

    @contextmanager
    def read(self, prompts: int) -> Iterator[list[torch.Tensor]]:
        """A list that gets each layer's scores when one forward pass with `prompts` is over."""
        projected: list[list[torch.Tensor]] = [[] for _ in self._attentions]
        hooks = [
            attention.qkv.register_forward_hook(lambda module, given, out, kept=kept: kept.append(out))
            for attention, kept in zip(self._attentions, projected, strict=True)
        ]
        scores: list[torch.Tensor] = []
        try:
            yield scores
        finally:
            for hook in hooks:
                hook.remove()
        for attention, (of_prompts, of_query) in zip(self._attentions, projected, strict=True):
            scores.append(_scores(of_prompts, of_query, attention.num_attention_heads, prompts))


class MatchingLoss(nn.Module):
    """Minus the logarithm of the attention that goes to patches of prompts which are painted alike.

    A patch has the colour and the weight of its middle pixel. Tokens whose colour no prompt shows do not count.
    """

    def forward(self, looked: Looked, target: torch.Tensor) -> torch.Tensor:
        """Scalar loss, the mean over layers and heads.

        Args:
            looked: of the forward pass.
            target: (B, 4, S, S): RGB in 0..1 of the queries' masks, and the weight of each pixel, 0 where unknown.
        """
        patch = target.shape[-1] // round(looked.scores[0].shape[2] ** 0.5)
        query, shown = _middles(target, patch), _middles(looked.prompt_masks.transpose(1, 2).flatten(2, 3), patch)
        alike = torch.cdist(query[..., :3], shown) < NEAR
        weight = query[..., 3] * alike.any(2)
        own = alike.new_zeros((*alike.shape[:2], alike.shape[1]))  # a tile's own patches tell no colour
        wanted = torch.cat([alike, own], dim=2)[:, None]
        total = torch.stack([_missed(scores.float(), wanted).mean(1) for scores in looked.scores]).mean(0)
        return (total * weight).sum() / weight.sum().clamp_min(1)


def _missed(scores: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return scores.logsumexp(-1) - scores.masked_fill(~wanted, NEVER).logsumexp(-1)


def _middles(planes: torch.Tensor, patch: int) -> torch.Tensor:
    """Values of the middle pixels of the patches of (B, C, H, W), row by row: (B, patches, C)."""
    return planes[..., patch // 2 :: patch, patch // 2 :: patch].flatten(2).transpose(1, 2)


def _scores(of_prompts: torch.Tensor, of_query: torch.Tensor, heads: int, prompts: int) -> torch.Tensor:
    """Scores (B, heads / 2, tokens, K tokens + tokens) from projections (P K, h, w, 3 C) and (B, h, w, 3 C).

    Each of P sets of K prompts is that of B / P queries in a row.
    """
    query, own = _query_and_key(of_query, heads)
    _, keys = _query_and_key(of_prompts, heads)
    keys = keys.unflatten(0, (-1, prompts)).transpose(1, 2).flatten(2, 3)
    keys = keys.repeat_interleave(len(query) // len(keys), dim=0)
    return query @ torch.cat([keys, own], dim=2).mT * query.shape[-1] ** -0.5


def _query_and_key(projected: torch.Tensor, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys (N, heads / 2, tokens, channels) of the first half of the heads."""
    query, key, _ = projected.flatten(1, 2).unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    half = max(1, heads // 2)
    return query[:, :half], key[:, :half]
