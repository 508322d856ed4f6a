"""SegGPT's weights come from a local folder in Hugging Face layout, whole, or not at all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import SegGptConfig, SegGptForImageSegmentation

from bundle.errors import WeightsError
from bundle.networks import SegGPT, read_seggpt
from bundle.networks.seggpt.cached import encode_prompts, predict_query
from bundle.weights import load_weights
from tests.networks.seggpt_models import random_prompts, random_tiles, tiny_model


@pytest.fixture
def folder(tmp_path) -> Path:
    tiny_model().save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Names as transformers' conversion script gives them, shapes of a ViT-L over 56 x 28 patches of 16 pixels."""
    width, layers, heads, patch = 1024, 24, 16, 16
    head, rows, columns, decoder = width // heads, 896 // patch, 448 // patch, 64

    def affine(name: str, out: int, *into: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (out, *into), f"{name}.bias": (out,)}

    shapes: dict[str, tuple[int, ...]] = {
        f"model.embeddings.{token}": (1, 1, 1, width)
        for token in (
            "mask_token",
            "segment_token_input",
            "segment_token_prompt",
            "type_token_semantic",
            "type_token_instance",
        )
    }
    shapes["model.embeddings.position_embeddings"] = (1, (224 // patch) ** 2 + 1, width)
    shapes |= affine("model.embeddings.patch_embeddings.projection", width, 3, patch, patch)
    for i in range(layers):
        layer = f"model.encoder.layers.{i}"
        shapes[f"{layer}.attention.rel_pos_h"] = (2 * rows - 1, head)
        shapes[f"{layer}.attention.rel_pos_w"] = (2 * columns - 1, head)
        shapes |= affine(f"{layer}.attention.qkv", 3 * width, width) | affine(f"{layer}.attention.proj", width, width)
        shapes |= affine(f"{layer}.mlp.lin1", 4 * width, width) | affine(f"{layer}.mlp.lin2", width, 4 * width)
        shapes |= affine(f"{layer}.layernorm_before", width) | affine(f"{layer}.layernorm_after", width)
    shapes |= affine("model.encoder.layernorm", width)
    shapes |= affine("decoder.decoder_embed", patch**2 * decoder, 4 * width)
    shapes |= affine("decoder.decoder_pred.conv", decoder, decoder, 3, 3)
    shapes |= affine("decoder.decoder_pred.layernorm", decoder)
    return shapes | affine("decoder.decoder_pred.head", 3, decoder, 1, 1)


def test_the_published_checkpoint_s_names_and_shapes_are_the_network_s():
    with torch.device("meta"):
        model = SegGptForImageSegmentation(SegGptConfig())
        network = SegGPT(model)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes == published_shapes()
    assert sum(p.numel() for p in network.parameters()) == 370_723_203


def test_cached_attention_runs_in_the_published_size():
    # Shapes alone: on the meta device nothing is computed.
    with torch.device("meta"):
        model = SegGptForImageSegmentation(SegGptConfig())
        prompts = torch.empty(1, 12, 3, 448, 448)
        memory = encode_prompts(model.model, prompts, prompts, "semantic")
        masks = predict_query(model.model, model.decoder, torch.empty(2, 3, 448, 448), memory, "semantic")
    assert masks.shape == (2, 3, 448, 448)
    assert len(memory.layers) == 24
    assert memory.layers[0].key.shape == memory.layers[0].value.shape == (1, 12, 16, 784, 64)


def test_what_transformers_saves_is_read_whole(folder):
    model, saved = read_seggpt(folder), tiny_model()
    assert model.state_dict().keys() == saved.state_dict().keys()
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in model.state_dict().items())
    assert model.config.merge_index == 1
    tiles, prompts = random_tiles(1), random_prompts(2)
    with torch.inference_mode():
        assert torch.equal(SegGPT(model, prompts).eval()(tiles), SegGPT(saved, prompts).eval()(tiles))


def test_transformers_reads_the_folder_without_missing_or_unexpected_names(folder):
    _, told = SegGptForImageSegmentation.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_the_network_s_checkpoints_and_the_folder_s_weights_are_of_one_kind(folder, tmp_path):
    network = SegGPT(tiny_model(seed=5), random_prompts(2))
    assert network.state_dict().keys() == load_file(folder / "model.safetensors").keys()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    other = SegGPT(read_seggpt(folder), random_prompts(3))
    load_weights(other, tmp_path / "model.pt")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))
    load_weights(other, folder / "model.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(tiny_model().parameters(), other.parameters(), strict=True))


def only_pickled(folder: Path) -> None:
    torch.save(tiny_model().state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        shutil.rmtree,
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "model.safetensors").unlink(),
        only_pickled,
    ],
    ids=["no folder", "no config", "no weights", "pickled weights alone"],
)
def test_a_missing_file_is_one_line_that_says_how_to_get_it(spoil: Callable[[Path], object], folder):
    spoil(folder)
    with pytest.raises(
        WeightsError, match=r"no such file; .*hf download BAAI/seggpt-vit-large .*--seggpt_dir"
    ) as caught:
        read_seggpt(folder)
    assert len(str(caught.value).splitlines()) == 1


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda weights: weights.pop("model.encoder.layernorm.bias"), "model.encoder.layernorm.bias"),
        (lambda weights: weights.update(left_over=torch.zeros(1)), "left_over"),
        (
            lambda weights: weights.update({"model.embeddings.mask_token": torch.zeros(1)}),
            "model.embeddings.mask_token",
        ),
    ],
    ids=["missing", "left over", "other shape"],
)
def test_weights_that_do_not_fit_are_refused_by_name(change, name, folder):
    change_weights(folder, change)
    with pytest.raises(WeightsError, match=rf"model\.safetensors: weights of another network: 1 of \d+ .*{name}"):
        read_seggpt(folder)


def test_damaged_weights_are_refused(folder):
    (folder / "model.safetensors").write_bytes(b"not at all")
    with pytest.raises(WeightsError, match="damaged"):
        read_seggpt(folder)


def change_config(folder: Path, **changes: object) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "vit"},
        {"hidden_size": "wide"},
        {"merge_index": 3},
        {"num_attention_heads": 0},
        {"patch_size": []},
    ],
)
def test_a_config_of_something_else_is_refused_in_one_line(changes, folder):
    change_config(folder, **changes)
    with pytest.raises(WeightsError, match=r"config\.json: not ") as caught:
        read_seggpt(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_a_config_that_is_no_json_is_refused(folder):
    (folder / "config.json").write_text("image_size = 448")
    with pytest.raises(WeightsError, match=r"config\.json: not a config of SegGPT"):
        read_seggpt(folder)


def test_a_config_of_another_size_is_refused(folder):
    change_config(folder, num_hidden_layers=5)
    with pytest.raises(WeightsError, match="weights of another network"):
        read_seggpt(folder)
