"""Cached prompts give what transformers' forward gives when its prompts do not see the tile, and are never stale."""

from collections.abc import Callable
from functools import reduce

import pytest
import torch

from bundle.networks import SegGPT
from bundle.networks.seggpt.cached import _attend, _united
from bundle.networks.seggpt.colours import normalise
from tests.networks.seggpt_models import SIDE, blind_prompts, normalised, random_prompts, random_tiles, tiny_model

TILES = normalise(random_tiles(3))


def blind(model, tile: torch.Tensor, images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """transformers' prediction for one tile: of the whole decoder, and of the decoder on the query's half alone."""
    with blind_prompts():
        hidden = model.model(
            tile.expand(len(images), -1, -1, -1),
            images,
            masks,
            feature_ensemble=len(images) > 1,
            embedding_type="semantic",
        ).intermediate_hidden_states
    hidden = torch.cat(hidden, dim=-1)[:1]
    return model.decoder(hidden)[0, :, SIDE:], model.decoder(hidden[:, hidden.shape[1] // 2 :])[0]


def cached(model, **options: object) -> SegGPT:
    return SegGPT(model, prompt_attention="cached", **options).eval()


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"merge_index": 0, "intermediate_hidden_state_indices": [0, 2]},
        {"merge_index": 2, "intermediate_hidden_state_indices": [2, 3]},
        {"use_relative_position_embeddings": True, "qkv_bias": False},
    ],
    ids=["merged second", "merged first", "merged third", "no bias"],
)
def test_it_is_transformers_forward_with_prompts_that_do_not_see_the_tile(count, changes):
    model = tiny_model(**changes)
    prompts = normalised(random_prompts(count))
    with torch.inference_mode():
        found = cached(model).predict_masks(TILES, *prompts)
        whole, half = (torch.stack(x) for x in zip(*(blind(model, t[None], *prompts) for t in TILES), strict=True))
    torch.testing.assert_close(found, half, atol=1e-5, rtol=0)
    # The decoder's 3 x 3 convolution sees the prompt's half from the first row of pixels alone.
    torch.testing.assert_close(found[..., 1:, :], whole[..., 1:, :], atol=1e-5, rtol=0)
    assert found.std() > 0.1


def test_it_is_not_the_joint_forward():
    # What the docstring warns of: the same weights give other masks.
    model, prompts = tiny_model(), normalised(random_prompts(4))
    with torch.inference_mode():
        joint = SegGPT(model).eval().predict_masks(TILES, *prompts)
        difference = cached(model).predict_masks(TILES, *prompts) - joint
    assert difference.std() > 0.01 * joint.std()


def test_its_gradients_are_those_of_transformers():
    model, prompts = tiny_model(), normalised(random_prompts(3))
    wanted = torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    gradients = []
    for predict in (
        lambda: cached(model).predict_masks(TILES[:1], *prompts)[0],
        lambda: blind(model, TILES[:1], *prompts)[1],
    ):
        model.zero_grad()
        torch.nn.functional.smooth_l1_loss(predict(), wanted).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    ours, theirs = gradients
    assert ours.keys() == theirs.keys()
    assert {name for name, _ in model.named_parameters()} - ours.keys() == {"model.embeddings.type_token_instance"}
    for name, gradient in ours.items():
        torch.testing.assert_close(
            gradient, theirs[name], atol=1e-6, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_pooled_prompts_are_one_softmax_over_all_their_tokens():
    # One prompt is the same either way; of two, the one that is shown three times weighs more.
    model, (images, masks) = tiny_model(), normalised(random_prompts(2))
    twice = [x.repeat_interleave(torch.tensor([3, 1]), dim=0) for x in (images, masks)]
    with torch.inference_mode():
        pooled = SegGPT(model, prompt_attention="pooled").eval()
        one, of_one = (network.predict_masks(TILES, images[:1], masks[:1]) for network in (pooled, cached(model)))
        torch.testing.assert_close(one, of_one, atol=1e-5, rtol=0)
        query, keys, values = torch.randn(3, 2, 4, 6, 8).unbind()
        alone = _attend(query, keys, values, 0.0)
        parts = [_attend(query, k, v, 0.0) for k, v in zip(keys.split(2, -2), values.split(2, -2), strict=True)]
        for found, wanted in zip(reduce(_united, parts), alone, strict=True):
            torch.testing.assert_close(found, wanted)
        assert (pooled.predict_masks(TILES, *twice) - pooled.predict_masks(TILES, images, masks)).abs().max() > 0.01


@pytest.mark.parametrize("attention", ["joint", "cached", "pooled"])
def test_prompts_may_differ_by_tile(attention):
    network = SegGPT(tiny_model(), prompt_attention=attention).eval()
    sets = [normalised(random_prompts(2, seed)) for seed in range(3)]
    images, masks = (torch.stack(x) for x in zip(*sets, strict=True))
    with torch.inference_mode():
        found = network.predict_masks(TILES, images, masks)
        alone = [network.predict_masks(tile[None], *s) for tile, s in zip(TILES, sets, strict=True)]
    torch.testing.assert_close(found, torch.cat(alone), atol=1e-5, rtol=0)
    assert (alone[0] - alone[1]).abs().max() > 0.1


def test_the_order_of_prompts_does_not_matter():
    network, (images, masks) = cached(tiny_model()), normalised(random_prompts(4))
    with torch.inference_mode():
        straight = network.predict_masks(TILES, images, masks)
        turned = network.predict_masks(TILES, images.flip(0), masks.flip(0))
    torch.testing.assert_close(straight, turned, atol=1e-5, rtol=0)


def test_a_network_learns_from_prompts_while_training():
    model = tiny_model(drop_path_rate=0.1)
    network = SegGPT(model, prompt_attention="cached").train()
    images, masks = (x[None].expand(3, -1, -1, -1, -1) for x in normalised(random_prompts(2)))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    wanted = normalised(random_prompts(3, seed=7))[1]
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = torch.nn.functional.smooth_l1_loss(network.predict_masks(TILES, images, masks), wanted)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


class Encodings:
    """Counts the images that pass through the patch embedding, tiles and prompts."""

    def __init__(self, network: SegGPT) -> None:
        self.images = 0
        network.model.embeddings.patch_embeddings.projection.register_forward_hook(self._count)

    def _count(self, module: object, inputs: tuple[torch.Tensor], output: object) -> None:
        self.images += len(inputs[0])

    def of(self, action: Callable[[], object]) -> int:
        before = self.images
        action()
        return self.images - before


COUNT = 3
PROMPTS = 2 * COUNT
"""Images that prompts are: each with its mask."""


def replace_weight(network: SegGPT) -> None:
    network.decoder.decoder_embed.weight = torch.nn.Parameter(network.decoder.decoder_embed.weight.clone())


def step(network: SegGPT) -> None:
    network.model.encoder.layernorm.weight.grad = torch.ones_like(network.model.encoder.layernorm.weight)
    torch.optim.SGD([network.model.encoder.layernorm.weight], lr=0.1).step()


CHANGES: dict[str, Callable[[SegGPT], object]] = {
    "other prompts": lambda network: network.set_prompts(random_prompts(COUNT, seed=9)),
    "other masks": lambda network: network.prompt_masks.mul_(0.5),
    "other weights": lambda network: network.load_state_dict(SegGPT(tiny_model(seed=4)).state_dict()),
    "a step of training": step,
    "a weight replaced": replace_weight,
    "another number format": lambda network: network.bfloat16(),
    "training and back": lambda network: network.train().eval(),
    "forgotten": lambda network: network.forget_prompts(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_prompts_are_encoded_once_until_something_changes(change):
    network, tiles = cached(tiny_model(), prompts=random_prompts(COUNT)), random_tiles(2)
    encodings = Encodings(network)

    def segment() -> None:
        with torch.inference_mode():
            network(tiles)

    assert [encodings.of(segment) for _ in range(3)] == [2 + PROMPTS, 2, 2]
    change(network)
    assert [encodings.of(segment) for _ in range(3)] == [2 + PROMPTS, 2, 2]
    with torch.inference_mode():
        kept = network(tiles)
        network.forget_prompts()
        assert torch.equal(network(tiles), kept)


def test_prompts_changed_in_place_are_encoded_anew():
    network, (images, masks) = cached(tiny_model()), normalised(random_prompts(COUNT))
    with torch.inference_mode():
        before = network.predict_masks(TILES, images, masks)
        images += 1
        after = network.predict_masks(TILES, images, masks)
        network.forget_prompts()
        assert torch.equal(after, network.predict_masks(TILES, images, masks))
    assert (after - before).abs().max() > 0.01


def test_with_gradients_and_in_training_nothing_is_kept():
    network, tiles = cached(tiny_model(), prompts=random_prompts(COUNT)), random_tiles(2)
    encodings = Encodings(network)
    assert [encodings.of(lambda: network(tiles)) for _ in range(2)] == [2 + PROMPTS] * 2
    with torch.no_grad():
        network.train()
        assert [encodings.of(lambda: network(tiles)) for _ in range(2)] == [2 + PROMPTS] * 2


def test_what_was_kept_in_inference_mode_does_not_spoil_a_later_training_step():
    network, tiles = cached(tiny_model(), prompts=random_prompts(COUNT)), random_tiles(2)
    with torch.inference_mode():
        network(tiles)
    network(tiles).sum().backward()
    with torch.no_grad():
        network(tiles)


def test_each_order_of_colours_is_kept():
    network = cached(tiny_model(), prompts=random_prompts(COUNT), repetitions=3)
    encodings = Encodings(network)
    with torch.inference_mode():
        passes = [encodings.of(lambda: network(random_tiles(2))) for _ in range(3)]
    assert passes == [3 * (2 + PROMPTS), 6, 6]


def test_the_joint_forward_encodes_prompts_with_every_tile():
    network = SegGPT(tiny_model(), random_prompts(COUNT)).eval()
    encodings = Encodings(network)
    with torch.inference_mode():
        # Tile and prompt are one image of twice the height; so are mask and mask.
        assert [encodings.of(lambda: network(random_tiles(2))) for _ in range(2)] == [2 * PROMPTS] * 2
