"""SegGPT has the contract of the other networks, and says through it what transformers' SegGPT says."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers.models.seggpt.image_processing_pil_seggpt import SegGptImageProcessorPil

from bundle.errors import ConfigError
from bundle.networks import SegGPT
from bundle.networks.seggpt.colours import PALETTES, class_scores, denormalise, normalise, paint
from bundle.prompts import PromptSet
from tests.cohort import ROOT
from tests.networks.seggpt_models import SIDE, normalised, random_prompts, random_tiles, tiny_model


def theirs(model, tile, prompts, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """pred_masks of the tile's half and class scores by transformers' processor and model."""
    processor = SegGptImageProcessorPil(size={"height": SIDE, "width": SIDE})
    count = len(prompts)
    inputs = processor(
        images=[(tile.permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)] * count,
        prompt_images=list(prompts.images.transpose(0, 2, 3, 1)),
        prompt_masks=list(prompts.labels),
        num_labels=3,
        input_data_format="channels_last",
        return_tensors="pt",
    )
    with torch.inference_mode():
        outputs = model(**inputs, feature_ensemble=count > 1, **options)
    found = processor.post_process_semantic_segmentation(outputs, num_labels=3, return_segmentation_scores=True)
    return outputs.pred_masks[0, :, SIDE:], found[0].segmentation_scores


@pytest.mark.parametrize("embedding_type", ["semantic", "instance"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_joint_attention_is_transformers_own_processor_and_forward(count, embedding_type):
    model, prompts, tiles = tiny_model(), random_prompts(count), random_tiles(3)
    network = SegGPT(model, prompts, embedding_type=embedding_type).eval()
    with torch.inference_mode():
        logits = network(tiles)
        masks = network.predict_masks(normalise(tiles), *normalised(prompts))
    expected = [theirs(model, tile, prompts, embedding_type=embedding_type) for tile in tiles]
    torch.testing.assert_close(masks, torch.stack([masks for masks, _ in expected]), atol=1e-5, rtol=0)
    scores = torch.stack([scores for _, scores in expected])
    torch.testing.assert_close(logits, scores / 8192, atol=1e-5, rtol=0)
    assert logits.std() > 0.1, "the same everywhere: agreement would show nothing"


def test_the_embedding_type_reaches_the_model():
    tiles, prompts = random_tiles(1), random_prompts(2)
    for attention in ("joint", "cached", "pooled"):
        made = [
            SegGPT(tiny_model(), prompts, prompt_attention=attention, embedding_type=kind)
            for kind in ("semantic", "instance")
        ]
        with torch.inference_mode():
            semantic, instance = (network.eval()(tiles) for network in made)
        assert (semantic - instance).abs().max() > 1e-3


def test_the_palette_is_transformers_own():
    assert tuple(SegGptImageProcessorPil().get_palette(3)) == PALETTES["seggpt"]


def test_masks_are_painted_and_read_back():
    labels = torch.tensor(random_prompts(2).labels)
    palette = torch.tensor(PALETTES["seggpt"], dtype=torch.float32)
    scores = class_scores(denormalise(normalise(paint(labels, palette))), palette)
    assert torch.equal(scores.argmax(1), labels.long())
    assert scores.amax(1) == pytest.approx(0, abs=1e-3)


def test_unknown_is_painted_as_background():
    palette = torch.tensor(PALETTES["seggpt"], dtype=torch.float32)
    assert torch.equal(paint(torch.tensor([[255, 2]]).byte(), palette), paint(torch.tensor([[0, 2]]).byte(), palette))


@pytest.mark.parametrize("part", [0.3, 0.45, 0.5, 0.6])
def test_a_mix_of_two_near_colours_has_about_its_part_as_probability(part):
    palette = torch.tensor(PALETTES["seggpt"], dtype=torch.float32)
    mixed = ((1 - part) * palette[1] + part * palette[2])[None, :, None, None] / 255
    probabilities = (class_scores(mixed, palette) / 8192)[0, :, 0, 0].softmax(0)
    assert float(probabilities[2] / (probabilities[1] + probabilities[2])) == pytest.approx(part, abs=0.012)


@pytest.mark.parametrize("attention", ["joint", "cached", "pooled"])
def test_logits_have_the_tile_s_size(attention):
    network = SegGPT(tiny_model(), random_prompts(2, side=40), prompt_attention=attention).eval()
    with torch.inference_mode():
        assert network(random_tiles(3, side=40)).shape == (3, 4, 40, 40)
        assert network(random_tiles(1, side=24)).shape == (1, 4, 24, 24)


def test_tiles_and_prompts_are_resized_to_the_model_s_side_and_logits_back():
    # Flat images and masks of whole blocks stay what they are when they are resized.
    images = np.full((2, 3, SIDE, SIDE), 90, np.uint8)
    labels, tile = random_prompts(2).labels, torch.full((1, 3, SIDE, SIDE), 0.6)
    small = SegGPT(tiny_model(), PromptSet(images, labels)).eval()
    large = SegGPT(tiny_model(), PromptSet(images.repeat(2, 2).repeat(2, 3), labels.repeat(2, 1).repeat(2, 2))).eval()
    with torch.inference_mode():
        expected = torch.nn.functional.interpolate(small(tile), scale_factor=2.0, mode="bilinear")
        found = large(tile.repeat(1, 1, 2, 2))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert found.std() > 0.1


@pytest.mark.parametrize("attention", ["joint", "cached", "pooled"])
def test_each_tile_of_a_batch_is_segmented_by_itself(attention):
    network = SegGPT(tiny_model(), random_prompts(3), prompt_attention=attention).eval()
    tiles = random_tiles(4)
    with torch.inference_mode():
        together, alone = network(tiles), torch.cat([network(tile[None]) for tile in tiles])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("attention", ["joint", "cached", "pooled"])
def test_with_all_orders_of_colours_no_class_gains_by_its_colour(attention):
    prompts, tiles = random_prompts(3), random_tiles(2)
    renamed = PromptSet(prompts.images, np.array([0, 2, 3, 1], np.uint8)[prompts.labels])

    def logits(shown: PromptSet, repetitions: int) -> torch.Tensor:
        network = SegGPT(tiny_model(), shown, prompt_attention=attention, repetitions=repetitions).eval()
        with torch.inference_mode():
            return network(tiles)

    back = [0, 2, 3, 1]
    torch.testing.assert_close(logits(renamed, 6)[:, back], logits(prompts, 6), atol=1e-5, rtol=0)
    assert (logits(renamed, 1)[:, back] - logits(prompts, 1)).abs().max() > 0.1


def test_repetitions_are_the_mean_over_different_orders_by_the_seed():
    prompts, tiles = random_prompts(2), random_tiles(1)
    orders = {
        seed: SegGPT(tiny_model(), prompts, repetitions=3, seed=seed).palettes.int().tolist() for seed in (0, 0, 1, 2)
    }
    assert all(len({str(palette) for palette in found}) == 3 for found in orders.values())
    assert all(palette[0] == [0, 0, 0] for found in orders.values() for palette in found)
    assert all(found[0] == [list(colour) for colour in PALETTES["seggpt"]] for found in orders.values())
    assert len({str(found) for found in orders.values()}) > 1
    network = SegGPT(tiny_model(), prompts, repetitions=3).eval()
    with torch.inference_mode():
        mean = network(tiles)
        each = []
        for palette in network.palettes:
            single = SegGPT(tiny_model(), prompts)
            single.palettes = palette[None]
            single.set_prompts(prompts)
            each.append(single.eval()(tiles))
    torch.testing.assert_close(mean, torch.stack(each).mean(0))


def test_the_temperature_divides_the_logits():
    tiles, prompts = random_tiles(1), random_prompts(2)
    with torch.inference_mode():
        cold, warm = (SegGPT(tiny_model(), prompts, temperature=t).eval()(tiles) for t in (1000.0, 4000.0))
    torch.testing.assert_close(cold, warm * 4)


def test_tiles_and_prompts_of_different_scales_are_told_once(caplog):
    network = SegGPT(tiny_model(), random_prompts(1)).eval()
    with torch.inference_mode():
        network(random_tiles(1))
        assert caplog.messages == []
        network(random_tiles(1, side=40))
        network(random_tiles(1, side=40))
    (message,) = caplog.messages
    assert "tiles of 40 px and prompts of 32 px" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_attention": "causal"}, "prompt_attention must be one of joint, cached, pooled, not causal"),
        ({"embedding_type": "class"}, "embedding_type must be one of semantic, instance"),
        ({"repetitions": 0}, "repetitions must be 1 to 6, not 0"),
        ({"repetitions": 7}, "repetitions must be 1 to 6, not 7"),
        ({"temperature": 0.0}, "temperature must be above 0"),
    ],
)
def test_options_without_a_meaning_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SegGPT(tiny_model(), random_prompts(1), **options)


def test_without_prompts_it_says_how_to_give_them():
    with pytest.raises(ConfigError, match="--prompt_set"):
        SegGPT(tiny_model())(random_tiles(1))


def test_the_networks_do_without_transformers_and_seggpt_says_that_it_cannot(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    code = f"""
import sys
sys.modules["transformers"] = None  # as if it were not installed
from bundle.errors import ConfigError
from bundle.networks import SegGPT, UNet3Plus, read_seggpt
try:
    read_seggpt({str(tmp_path)!r})
except ConfigError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "SegGPT needs transformers; install it with `pip install -e '.[seggpt]'`", result
