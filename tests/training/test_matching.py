"""Attention that is shown where to look: its scores are the network's, its loss is what can be worked out by hand."""

import math

import pytest
import torch

from bundle.errors import ConfigError
from bundle.networks import SegGPT
from bundle.networks.seggpt.colours import denormalise, normalise
from bundle.training.matching import AttentionScores, Looked, MatchingLoss
from bundle.training.seggpt import InContextNetwork, PaintedMaskLoss
from tests.networks.seggpt_models import SIDE, normalised, random_prompts, random_tiles, tiny_model

BLACK, RED, BLUE = (0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def planes(*colours: tuple[float, float, float]) -> torch.Tensor:
    """Four patches of four pixels each, (1, 3, 4, 4)."""
    small = torch.tensor(colours).T.reshape(1, 3, 2, 2)
    return small.repeat_interleave(2, -1).repeat_interleave(2, -2)


def target(*colours: tuple[float, float, float], weight: float = 1.0) -> torch.Tensor:
    return torch.cat([planes(*colours), torch.full((1, 1, 4, 4), weight)], dim=1)


def test_even_attention_is_the_part_of_tokens_painted_alike():
    # Two prompts of four patches and the tile's own four: red is one in twelve, black six in twelve.
    masks = torch.stack([planes(BLACK, BLACK, RED, BLUE), planes(BLACK, BLACK, BLACK, BLACK)], dim=1)
    looked = Looked([torch.zeros(1, 2, 4, 12)], masks)
    loss = MatchingLoss()(looked, target(RED, RED, RED, BLACK))
    assert float(loss) == pytest.approx((3 * math.log(12) + math.log(12 / 6)) / 4)


def test_attention_that_looks_at_its_colour_alone_costs_nothing_and_another_much():
    looked_at = torch.full((1, 1, 4, 8), -20.0)
    looked_at[..., 2] = 20.0
    masks = planes(BLACK, BLACK, RED, BLUE)[:, None]
    right, wrong = (float(MatchingLoss()(Looked([looked_at], masks), target(*4 * [c]))) for c in (RED, BLUE))
    assert right == pytest.approx(0, abs=1e-6)
    assert wrong == pytest.approx(40, rel=1e-3)


def test_tokens_of_unknown_or_unshown_colour_do_not_count():
    scores = torch.randn(1, 1, 4, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    masks = planes(BLACK, BLACK, RED, RED)[:, None]
    unshown, unknown = target(BLUE, BLUE, BLUE, BLUE), target(RED, RED, RED, RED, weight=0.0)
    for nothing in (unshown, unknown):
        loss = MatchingLoss()(Looked([scores], masks), nothing)
        loss.backward()
        assert loss.item() == 0
        assert scores.grad.count_nonzero() == 0


@pytest.mark.parametrize("attention", ["cached", "pooled"])
def test_scores_are_those_of_the_network_s_attention(attention):
    # Without relative positions the scores' softmax over one prompt and the tile must give what attention gives.
    model = tiny_model(num_attention_heads=1, merge_index=0)
    network = SegGPT(model, prompt_attention=attention).eval()
    images, masks = normalised(random_prompts(1))
    tiles = normalise(random_tiles(2))
    reader = AttentionScores(network, [1])
    seen, values = [], []
    module = model.model.encoder.layers[1].attention
    with torch.no_grad():
        module.rel_pos_h.zero_()
        module.rel_pos_w.zero_()
    hooks = [
        module.proj.register_forward_pre_hook(lambda _, given: seen.append(given[0])),
        module.qkv.register_forward_hook(lambda _, given, out: values.append(out.chunk(3, -1)[2])),
    ]
    with torch.inference_mode(), reader.read(prompts=1) as scores:
        network.predict_masks(tiles, images, masks)
    for hook in hooks:
        hook.remove()
    (of_query,) = scores
    assert of_query.shape == (2, 1, 16, 32)
    both = torch.cat([values[0].flatten(1, 2).expand(2, -1, -1), values[1].flatten(1, 2)], dim=1)
    torch.testing.assert_close(of_query[:, 0].softmax(-1) @ both, seen[1].flatten(1, 2), atol=1e-5, rtol=1e-5)


def test_each_set_s_scores_are_of_its_own_prompts():
    network = SegGPT(tiny_model(), prompt_attention="pooled").eval()
    sets = [normalised(random_prompts(2, seed)) for seed in range(2)]
    images, masks = (denormalise(torch.stack(x)) for x in zip(*sets, strict=True))
    tiles = random_tiles(6).unflatten(0, (2, 3))
    training = InContextNetwork(network, matching_layers=[2, 3])
    with torch.inference_mode():
        training(tiles, images, masks)
        together = training.looked
        alone = []
        for index in range(2):
            training(tiles[index][None], images[index][None], masks[index][None])
            alone.append(training.looked)
    assert [tuple(x.shape) for x in together.scores] == 2 * [(6, 1, 16, 48)]
    for layer in range(2):
        expected = torch.cat([looked.scores[layer] for looked in alone])
        torch.testing.assert_close(together.scores[layer], expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(together.prompt_masks, torch.cat([looked.prompt_masks for looked in alone]))


def test_the_loss_of_training_adds_it_by_its_weight():
    training = InContextNetwork(SegGPT(tiny_model(), prompt_attention="pooled"), matching_layers=[2])
    images, masks = (denormalise(x)[None] for x in normalised(random_prompts(2)))
    truth = torch.cat([masks, torch.ones(1, 2, 1, SIDE, SIDE)], dim=2)
    with torch.inference_mode():
        painted = training(images, images, masks)
    plain, more, most = (float(PaintedMaskLoss(1.0, weight, training)(painted, truth)) for weight in (0.0, 1.0, 2.0))
    extra = float(MatchingLoss()(training.looked, truth.flatten(0, 1)))
    assert extra > 0.1
    assert [more - plain, most - plain] == pytest.approx([extra, 2 * extra], rel=1e-4)


def test_a_matching_loss_without_its_network_is_refused():
    with pytest.raises(ConfigError, match="matching needs the network in training"):
        PaintedMaskLoss(matching=1.0)


def test_nothing_stays_behind_in_the_network():
    network = SegGPT(tiny_model(), prompt_attention="cached").eval()
    names = set(network.state_dict())
    training = InContextNetwork(network, matching_layers=[3])
    with pytest.raises(RuntimeError), training.attention.read(prompts=1):
        raise RuntimeError
    assert not network.model.encoder.layers[3].attention.qkv._forward_hooks
    assert {name.removeprefix("network.") for name in training.state_dict()} == names


@pytest.mark.parametrize(
    ("layers", "attention", "message"),
    [
        ([1], "pooled", r"must be above merge_index 1 and below num_hidden_layers 4, not \[1\]"),
        ([4], "pooled", r"not \[4\]"),
        ([2], "joint", "need prompt_attention cached or pooled, not joint"),
    ],
)
def test_layers_that_cannot_match_are_refused(layers, attention, message):
    with pytest.raises(ConfigError, match=message):
        InContextNetwork(SegGPT(tiny_model(), prompt_attention=attention), matching_layers=layers)
