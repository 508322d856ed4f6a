"""In-context training: what the loss counts, that prompts are read, and that the weights are those of transformers."""

import json
import math

import pytest
import torch
from ignite.engine import Engine
from transformers import SegGptForImageSegmentation

from bundle.classes import CLASS_NAMES
from bundle.data.datalist import read_datalist
from bundle.errors import ConfigError, PromptError, WeightsError
from bundle.networks import SegGPT, read_seggpt
from bundle.networks.seggpt.colours import denormalise, normalise
from bundle.prompts import read_prompt_set
from bundle.training.seggpt import (
    BestSegGPT,
    InContextNetwork,
    PaintedMaskLoss,
    draw_prompts,
    make_seggpt,
    write_seggpt,
)
from tests.cohort import write_cohort
from tests.networks.seggpt_models import normalised, random_prompts, random_tiles, tiny_model

TINY = {
    "image_size": [32, 16],
    "patch_size": 8,
    "pretrain_image_size": 16,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "merge_index": 0,
    "intermediate_hidden_state_indices": [1, 2],
    "decoder_hidden_size": 8,
    "drop_path_rate": 0.0,
}
"""A network of four patches."""

STEPS = 150

TISSUES = torch.tensor([[0.9, 0.2, 0.6], [0.2, 0.7, 0.3]])
INKS = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])


def toy(count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Tiles of four patches of two flat tissues; which tissue is painted black and which white, two prompts tell."""
    classes = torch.randint(0, 2, (count, 3, 2, 2), generator=generator)
    classes[:, :2, 0, 0], classes[:, :2, 1, 1] = 0, 1  # every prompt shows both
    flip = torch.randint(0, 2, (count, 1, 1, 1), generator=generator)
    images, masks = (
        palette[index].movedim(-1, -3).repeat_interleave(8, -1).repeat_interleave(8, -2)
        for palette, index in ((TISSUES, classes), (INKS, classes ^ flip))
    )
    target = torch.cat([masks[:, 2], torch.ones(count, 1, 16, 16)], dim=1)
    return {
        "image": images[:, 2:],
        "label": target[:, None],
        "prompt_images": images[:, :2],
        "prompt_masks": masks[:, :2],
    }


def test_a_trained_network_reads_its_prompts():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    network = InContextNetwork(SegGPT(make_seggpt(TINY), prompt_attention="cached")).train()
    loss, optimizer = PaintedMaskLoss(), torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(STEPS):
        sample = toy(16, generator)
        label = sample.pop("label")
        optimizer.zero_grad()
        loss(network(**sample), label).backward()
        optimizer.step()
    unseen = toy(64, torch.Generator().manual_seed(1))
    label = unseen.pop("label")
    network.eval()
    with torch.inference_mode():
        right = float(loss(network(**unseen), label))
        swapped = {**unseen, "prompt_masks": 1 - unseen["prompt_masks"]}
        wrong = float(loss(network(**swapped), label))
    assert right < 0.25 * wrong


def test_the_loss_is_the_weighted_mean_of_smooth_l1_in_normalised_colours():
    target = torch.cat([torch.rand(2, 3, 4, 4), torch.tensor([1.0, 3.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4)], dim=1)
    # 0.5 off in the first image is beyond beta: 0.5 - beta / 2. The second's 0.005 is within: 0.005² / (2 beta).
    off = torch.tensor([0.5, 0.005]).view(2, 1, 1, 1)
    expected = (1 * (0.5 - 0.005) + 3 * 0.005**2 / 0.02) / 4
    assert float(PaintedMaskLoss(beta=0.01)(normalise(target[:, :3])[None] + off, target[None])) == pytest.approx(
        expected, 1e-4
    )


def test_pixels_without_weight_change_neither_loss_nor_gradient():
    target = torch.rand(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    target[:, 3, :2] = 0
    masks = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    other = masks.detach().clone()
    other[:, :, :2] += 5
    loss = PaintedMaskLoss()(masks[None], target[None])
    loss.backward()
    assert torch.equal(loss, PaintedMaskLoss()(other[None], target[None]))
    assert masks.grad[:, :, :2].count_nonzero() == 0
    assert masks.grad[:, :, 2:].count_nonzero() > 0


def test_a_batch_of_which_nothing_is_known_costs_nothing():
    masks = torch.randn(1, 3, 4, 4).requires_grad_()
    loss = PaintedMaskLoss()(masks[None], torch.zeros(1, 1, 4, 4, 4))
    loss.backward()
    assert loss.item() == 0
    assert masks.grad.count_nonzero() == 0


@pytest.mark.parametrize("attention", ["cached", "pooled", "joint"])
def test_the_network_in_training_paints_what_the_network_in_use_paints(attention):
    network = SegGPT(tiny_model(), prompt_attention=attention).eval()
    prompts, tiles = random_prompts(2), random_tiles(3)
    images, masks = normalised(prompts)
    shown = torch.tensor(prompts.images) / 255
    with torch.inference_mode():
        expected = network.predict_masks(normalise(tiles), images, masks)
        found = InContextNetwork(network)(tiles[None], shown[None], denormalise(masks)[None])
        twice = InContextNetwork(network)(
            torch.stack([tiles, tiles.flip(0)]),
            torch.stack([shown, shown.roll(1, -1)]),
            denormalise(torch.stack([masks, masks])),
        )
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(twice[0], expected, atol=1e-5, rtol=0)
    assert (twice[1].flip(0) - expected).abs().max() > 0.1


def test_training_tiles_of_another_side_are_an_error_that_names_the_setting():
    network = InContextNetwork(SegGPT(tiny_model(), prompt_attention="cached"))
    with pytest.raises(ConfigError, match=r"tiles of 64 px, but SegGPT takes 32 px.*training_tiles#tile_um"):
        network(torch.rand(1, 1, 3, 64, 64), torch.rand(1, 1, 3, 64, 64), torch.rand(1, 1, 3, 64, 64))


def test_a_config_that_is_none_of_seggpt_is_an_error():
    with pytest.raises(ConfigError, match="seggpt_config: not a config of SegGPT"):
        make_seggpt({**TINY, "merge_index": 5})


def test_training_goes_on_from_a_folder(tmp_path):
    write_seggpt(SegGPT(tiny_model(seed=3)), tmp_path)
    model = make_seggpt(TINY, tmp_path)
    assert all(torch.equal(value, tiny_model(seed=3).state_dict()[key]) for key, value in model.state_dict().items())
    with pytest.raises(WeightsError, match="no such file"):
        make_seggpt(TINY, tmp_path / "nowhere")


def test_transformers_reads_what_is_written(tmp_path):
    model = tiny_model()
    write_seggpt(SegGPT(model), tmp_path)
    modes = {path.name: path.stat().st_mode for path in tmp_path.iterdir()}
    assert modes.keys() == {"config.json", "model.safetensors"}
    assert len(set(modes.values())) == 1
    read, report = SegGptForImageSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert read.config.to_dict().keys() == model.config.to_dict().keys()
    ours = read_seggpt(tmp_path)
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in read.state_dict().items())
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in model.state_dict().items())


def test_the_folder_holds_the_best_network_and_its_prompts(tmp_path):
    data = read_datalist(write_cohort(tmp_path, {"training": [("a", "PAS")]}), "training")
    network = SegGPT(tiny_model())
    best = BestSegGPT(network, tmp_path / "model.pt", "val_dice", tmp_path / "best", draw_prompts(data, 3))
    engine = Engine(lambda engine, batch: None)
    token = network.model.embeddings.mask_token
    for value, kept in ((0.5, 1.0), (0.4, 1.0), (math.nan, 1.0), (0.6, 4.0)):
        with torch.no_grad():
            token.fill_({0.5: 1.0, 0.4: 2.0, 0.6: 4.0}.get(value, 3.0))
        engine.state.metrics["val_dice"] = value
        best(engine)
        read = read_seggpt(tmp_path / "best").model.embeddings.mask_token
        assert (read == kept).all()
    assert json.loads((tmp_path / "best" / "config.json").read_text())["model_type"] == "seggpt"
    prompts = read_prompt_set(tmp_path / "best" / "prompts.yaml", 32, 14.0)
    assert prompts.class_counts == dict.fromkeys(CLASS_NAMES, 1)


def test_prompts_of_validation_are_fixed_and_balanced(tmp_path):
    data = read_datalist(write_cohort(tmp_path, {"training": [("a", "PAS"), ("b", "HE")]}), "training")
    drawn = draw_prompts(data, 6, seed=1)
    assert sorted(entry.class_name for entry in drawn) == sorted(2 * CLASS_NAMES)
    assert drawn == draw_prompts(data, 6, seed=1) != draw_prompts(data, 6, seed=2)
    with pytest.raises(PromptError):
        draw_prompts(data, 1000)
