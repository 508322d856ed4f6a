"""SegGPT with prompts that look only at themselves, so that they are encoded once for all tiles.

In the published model the two halves of an image, prompt above and query below, attend to each other: a prompt's tokens
depend on the tile. Here prompt i is encoded alone, and the query's tokens attend to its keys and to their own. The rest
is transformers' forward with feature ensemble: what attention gives is averaged over the prompts before it is added, so
the query is one stream however many prompts there are. Modules, weights and position embeddings (of the full, 2H x W
grid of patches) are those of transformers.

**The published weights were not trained so.** How far their masks then are from the joint forward's is not measured:
they were not at hand. On random weights the logits differ by 2 % of their deviation at transformers' initial strength
(6.1 M parameters, 12 prompts; scripts/benchmark_prompts.py) and by 5 to 9 % at a larger one (the tests' tiny models).
Trained attention may differ more: use weights that were trained or fine-tuned this way.

"Pooled" goes a step further from the original: one softmax over the tokens of all prompts and the query's own, in place
of the mean over prompts of what each gives. A prompt that shows another class than the query then says nothing, where
in a mean it pulls the colour to its own: prompts of one class each, as ours are, need no prompt that shows them all.

The decoder sees the query's half alone. Its one 3 x 3 convolution of pixels so differs from the joint decoder in the
first row of pixels, where it sees zeros instead of the prompt.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch

Module = Any
"""A module of transformers; its parts are reached by name, which torch types as tensor or module."""


@dataclass(frozen=True)
class Keys:
    """What K prompts offer to the query in one layer; (P, K, heads, tokens, channels), P is 1 or the batch size."""

    key: torch.Tensor
    value: torch.Tensor

    def repeated(self, times: int) -> "Keys":
        """Each set `times` times in a row."""
        return Keys(self.key.repeat_interleave(times, dim=0), self.value.repeat_interleave(times, dim=0))


@dataclass(frozen=True)
class PromptMemory:
    """All that tiles need of their prompts.

    Attributes:
        layers: the keys of each layer; up to the merging one, of the image stream.
        mask_query: the query's half of the mask stream before the merging layer, (P, h, w, channels). It is mask tokens
            alone, so no tile is in it.
        mask_attention: what attention gives it in the merging layer, (P, h, w, channels).
        pooled: one softmax over all prompts.
    """

    layers: tuple[Keys, ...]
    mask_query: torch.Tensor
    mask_attention: torch.Tensor
    pooled: bool

    def repeated(self, times: int) -> "PromptMemory":
        """Each of P sets `times` times in a row, for as many tiles; one set serves any number as it is."""
        if times == 1 or len(self.mask_query) == 1:
            return self
        layers = tuple(keys.repeated(times) for keys in self.layers)
        query, attention = (x.repeat_interleave(times, dim=0) for x in (self.mask_query, self.mask_attention))
        return PromptMemory(layers, query, attention, self.pooled)


def encode_prompts(
    model: Module, images: torch.Tensor, masks: torch.Tensor, embedding_type: str, *, pooled: bool = False
) -> PromptMemory:
    """Encode prompts for `predict_query`.

    Args:
        model: transformers' `SegGptModel`.
        images: normalised, (P, K, 3, side, side).
        masks: painted and normalised, of the same shape.
        embedding_type: "semantic" or "instance".
        pooled: one softmax over the tokens of all prompts, not a mean over prompts.
    """
    above, below = _positions(model.embeddings, embedding_type)
    tokens = _patches(model.embeddings, torch.cat([images, masks]).flatten(0, 1)) + above
    segments = torch.cat([model.embeddings.segment_token_input, model.embeddings.segment_token_prompt])
    streams = tokens + segments.repeat_interleave(len(tokens) // 2, dim=0)
    mask_query = model.embeddings.mask_token + model.embeddings.segment_token_prompt + below
    mask_query = mask_query.expand(len(images), -1, -1, -1)
    mask_attention = torch.zeros_like(mask_query)
    layers: list[Keys] = []
    for index, layer in enumerate(model.encoder.layers):
        query, key, value = _project(layer, streams)
        bias = _relative_bias(layer.attention, query, streams.shape[1:3], to_prompt=False)
        attention = _joined(layer.attention, _attend(query, key, value, bias)[0], streams.shape[1:3])
        streams_keys = zip(*(x.unflatten(0, (-1, *images.shape[:2])) for x in (key, value)), strict=True)
        # Copies: a view would keep the queries and the other stream alive as long as the memory.
        keys = [Keys(k.contiguous(), v.contiguous()) for k, v in streams_keys]
        layers.append(keys[0])
        if index <= model.config.merge_index:
            mask_attention = _query_attention(layer, mask_query, keys[1], pooled=pooled)
            if index < model.config.merge_index:
                mask_query = _finish(layer, mask_query, mask_attention)
        streams = _finish(layer, streams, attention)
        if index == model.config.merge_index:
            images_half, masks_half = streams.chunk(2)
            streams = (images_half + masks_half) * 0.5
    return PromptMemory(tuple(layers), mask_query, mask_attention, pooled)


def predict_query(
    model: Module, decoder: Module, tiles: torch.Tensor, memory: PromptMemory, embedding_type: str
) -> torch.Tensor:
    """Paint the masks of normalised tiles (B, 3, side, side): normalised colours of the same shape."""
    _, below = _positions(model.embeddings, embedding_type)
    query = _patches(model.embeddings, tiles) + model.embeddings.segment_token_input + below
    kept: list[torch.Tensor] = []
    for index, (layer, keys) in enumerate(zip(model.encoder.layers, memory.layers, strict=True)):
        attention = _query_attention(layer, query, keys, pooled=memory.pooled)
        query = (
            _merge(layer, query, attention, memory)
            if index == model.config.merge_index
            else _finish(layer, query, attention)
        )
        if index in model.config.intermediate_hidden_state_indices:
            kept.append(model.encoder.layernorm(query))
    return decoder(torch.cat(kept, dim=-1))


def _merge(layer: Module, query: torch.Tensor, attention: torch.Tensor, memory: PromptMemory) -> torch.Tensor:
    """The merging layer, after which the image and the mask stream are one."""
    mask_attention = memory.mask_attention
    if memory.layers[0].key.shape[1] > 1 and not memory.pooled:
        # Its ensemble is over both streams in transformers (`merge_index > i`), unlike in Wang et al.'s own code.
        attention = mask_attention = (attention + mask_attention) * 0.5
    return (_finish(layer, query, attention) + _finish(layer, memory.mask_query, mask_attention)) * 0.5


def _query_attention(layer: Module, query: torch.Tensor, keys: Keys, *, pooled: bool) -> torch.Tensor:
    """Attention of the query (B, h, w, channels) to prompts and to itself.

    To [a prompt's keys; its own], the mean over prompts; or, pooled, to all of them at once. Own keys are scored once
    for all prompts.
    """
    attention, grid = layer.attention, query.shape[1:3]
    q, own_key, own_value = _project(layer, query)
    to_prompt = _relative_bias(attention, q, grid, to_prompt=True)
    own = _attend(q, own_key, own_value, _relative_bias(attention, q, grid, to_prompt=False))
    pairs = zip(keys.key.unbind(1), keys.value.unbind(1), strict=True)
    # One by one: the scores of twelve prompts at once would be gigabytes in the published model.
    seen = (_attend(q, key, value, to_prompt) for key, value in pairs)
    if pooled:
        return _joined(attention, reduce(_united, seen, own)[0], grid)
    total = reduce(torch.add, (_united(own, one)[0] for one in seen))
    return _joined(attention, total / keys.key.shape[1], grid)


def _united(
    first: tuple[torch.Tensor, torch.Tensor], second: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """What `_attend` would give for both sets of keys together.

    A softmax over two sets is the mean of the softmaxes over each, weighted by their sums of exponentials (as in
    FlashAttention, Dao et al. 2022, section 3.1).
    """
    part = torch.sigmoid(second[1] - first[1]).to(first[0].dtype)
    return first[0] * (1 - part) + second[0] * part, torch.logaddexp(first[1], second[1])


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(query · key + bias) · value (N, heads, tokens, channels), and the log of each softmax's sum."""
    scores = (query * query.shape[-1] ** -0.5 @ key.mT + bias).float()
    highest = scores.detach().amax(-1, keepdim=True)
    weights = (scores - highest).exp()
    total = weights.sum(-1, keepdim=True)
    return (weights.to(value.dtype) @ value) / total.to(value.dtype), highest + total.log()


def _project(layer: Module, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Query, key and value (N, heads, tokens, channels) of hidden states (N, h, w, channels)."""
    qkv = layer.attention.qkv(layer.layernorm_before(hidden)).flatten(1, 2)
    return qkv.unflatten(2, (3, layer.attention.num_attention_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def _joined(attention: Module, heads: torch.Tensor, grid: torch.Size) -> torch.Tensor:
    """Heads (N, heads, tokens, channels) joined and projected, (N, h, w, channels)."""
    return attention.proj(heads.transpose(1, 2).flatten(2).unflatten(1, tuple(grid)))


def _finish(layer: Module, hidden: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    """The layer after its attention: both residuals and the perceptron."""
    hidden = hidden + layer.drop_path(attention)
    return hidden + layer.drop_path(layer.mlp(layer.layernorm_after(hidden)))


def _relative_bias(
    attention: Module, query: torch.Tensor, grid: torch.Size, *, to_prompt: bool
) -> torch.Tensor | float:
    """What relative position adds to the scores, (N, heads, tokens, tokens).

    Args:
        attention: transformers' `SegGptAttention`.
        query: (N, heads, tokens, channels).
        grid: (h, w) of a half.
        to_prompt: the keys are of the half above; otherwise of the query's own half, whichever it is.
    """
    if not attention.use_relative_position_embeddings:
        return 0.0
    height, width = grid
    first = height if to_prompt else 0
    rows = attention.get_rel_pos(2 * height, 2 * height, attention.rel_pos_h)[first : first + height, :height]
    columns = attention.get_rel_pos(width, width, attention.rel_pos_w)
    on_grid = query.unflatten(2, (height, width))
    by_row = torch.einsum("nahwc,hkc->nahwk", on_grid, rows)
    by_column = torch.einsum("nahwc,wkc->nahwk", on_grid, columns)
    return (by_row[..., :, None] + by_column[..., None, :]).flatten(4).flatten(2, 3)


def _patches(embeddings: Module, images: torch.Tensor) -> torch.Tensor:
    """Patch embeddings (N, h, w, channels) of images of one half, which transformers' own forward would refuse."""
    return embeddings.patch_embeddings.projection(images).permute(0, 2, 3, 1)


def _positions(embeddings: Module, embedding_type: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Position and type embeddings of the prompt's and of the query's half, (1, h, w, channels) each."""
    height, width = (
        size // patch
        for size, patch in zip(
            embeddings.patch_embeddings.image_size, embeddings.patch_embeddings.patch_size, strict=True
        )
    )
    kind = embeddings.type_token_semantic if embedding_type == "semantic" else embeddings.type_token_instance
    above, below = (embeddings.interpolate_pos_encoding(height, width) + kind).chunk(2, dim=1)
    return above, below
