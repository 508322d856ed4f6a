"""Vision transformers of others: timm's and DINOv2's names give what torch's and transformers' own modules give."""

import json
import pickle

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from bundle.errors import ConfigError, WeightsError
from bundle.findings.encoders_vit import IMAGENET_MEAN, IMAGENET_STD, HuggingFaceEncoder, ViTEncoder
from bundle.findings.vit import VisionTransformer, ViTSizes, read_vit
from tests.cohort import ROOT

PLAIN = ViTSizes(image_px=16, patch_px=8, width=12, depth=2, heads=3, mlp_width=20, layer_scale=False)
LARGE = ViTSizes(image_px=16, patch_px=8, width=12, depth=2, heads=3, mlp_width=20, gated=True, registers=2)


def timm_state(sizes, positions, seed=0):
    """Random weights with the names that timm's VisionTransformer gives them."""
    random = torch.Generator().manual_seed(seed)

    def tensor(*shape):
        return torch.randn(shape, generator=random) * 0.5

    d = sizes.width
    state = {
        "cls_token": tensor(1, 1, d),
        "pos_embed": tensor(1, positions, d),
        "patch_embed.proj.weight": tensor(d, 3, sizes.patch_px, sizes.patch_px),
        "patch_embed.proj.bias": tensor(d),
        "norm.weight": tensor(d),
        "norm.bias": tensor(d),
    }
    if sizes.registers:
        state["reg_token"] = tensor(1, sizes.registers, d)
    shapes = {"attn.qkv": (3 * d, d), "attn.proj": (d, d), "mlp.fc1": (sizes.mlp_width, d)}
    shapes["mlp.fc2"] = (d, sizes.mlp_width // (2 if sizes.gated else 1))
    for i in range(sizes.depth):
        for name, shape in shapes.items():
            state |= {f"blocks.{i}.{name}.weight": tensor(*shape), f"blocks.{i}.{name}.bias": tensor(shape[0])}
        for name in ("norm1", "norm2"):
            state |= {f"blocks.{i}.{name}.weight": tensor(d), f"blocks.{i}.{name}.bias": tensor(d)}
        if sizes.layer_scale:
            state |= {f"blocks.{i}.{name}.gamma": tensor(d) for name in ("ls1", "ls2")}
    return state


def patches_of(state, image, sizes):
    """The linear map of each patch, by unfolding: (B, patches, width)."""
    columns = functional.unfold(image, sizes.patch_px, stride=sizes.patch_px)
    return (state["patch_embed.proj.weight"].flatten(1) @ columns).transpose(1, 2) + state["patch_embed.proj.bias"]


def blocks_by_hand(state, tokens, sizes):
    """Pre-norm blocks with layer scale and SwiGLU, head by head, as timm's Block, Attention and SwiGLUPacked do."""

    def norm(x, name):
        return functional.layer_norm(x, (sizes.width,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    for i in range(sizes.depth):
        b = f"blocks.{i}"
        q, k, v = linear(norm(tokens, f"{b}.norm1"), f"{b}.attn.qkv").chunk(3, -1)
        size = sizes.width // sizes.heads
        heads = [slice(h * size, (h + 1) * size) for h in range(sizes.heads)]
        mixed = [(q[..., h] @ k[..., h].mT / size**0.5).softmax(-1) @ v[..., h] for h in heads]
        tokens = tokens + linear(torch.cat(mixed, -1), f"{b}.attn.proj") * state[f"{b}.ls1.gamma"]
        gate, value = linear(norm(tokens, f"{b}.norm2"), f"{b}.mlp.fc1").chunk(2, -1)
        hidden = gate * torch.sigmoid(gate) * value
        tokens = tokens + linear(hidden, f"{b}.mlp.fc2") * state[f"{b}.ls2.gamma"]
    return norm(tokens, "norm")


@pytest.fixture
def image():
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(9))


def read(state, sizes, folder, prefix=""):
    save_file(state, folder / "encoder.safetensors")
    return read_vit(folder / "encoder.safetensors", sizes, prefix)


def test_a_plain_vit_is_torch_s_transformer(image, tmp_path):
    state = timm_state(PLAIN, 5)
    tokens = torch.cat([state["cls_token"].expand(2, -1, -1), patches_of(state, image, PLAIN)], 1) + state["pos_embed"]
    for i in range(PLAIN.depth):
        layer = nn.TransformerEncoderLayer(12, 3, 20, 0, "gelu", 1e-6, batch_first=True, norm_first=True)
        names = {"self_attn.in_proj_": "attn.qkv.", "self_attn.out_proj.": "attn.proj.", "norm1.": "norm1."}
        names |= {"linear1.": "mlp.fc1.", "linear2.": "mlp.fc2.", "norm2.": "norm2."}
        own = {f"{a}{w}": state[f"blocks.{i}.{b}{w}"] for a, b in names.items() for w in ("weight", "bias")}
        layer.load_state_dict(own)
        tokens = layer(tokens)
    expected = functional.layer_norm(tokens, (12,), state["norm.weight"], state["norm.bias"], 1e-6)
    torch.testing.assert_close(read(state, PLAIN, tmp_path)(image), expected)


@pytest.mark.parametrize("positions", [4, 5, 7], ids=["patches placed", "class token too", "registers too"])
def test_registers_layer_scale_and_swiglu_are_timm_s(image, tmp_path, positions):
    state = timm_state(LARGE, positions)
    place = torch.zeros(1, 7, 12)  # class token, registers, patches
    place[:, 3:] = state["pos_embed"][:, -4:]
    place[:, :1] = state["pos_embed"][:, :1] if positions > 4 else 0
    place[:, 1:3] = state["pos_embed"][:, 1:3] if positions > 5 else 0
    leading = torch.cat([state["cls_token"], state["reg_token"]], 1).expand(2, -1, -1)
    tokens = torch.cat([leading, patches_of(state, image, LARGE)], 1) + place
    torch.testing.assert_close(read(state, LARGE, tmp_path)(image), blocks_by_hand(state, tokens, LARGE))


def hugging_face(folder, swiglu):
    config = Dinov2WithRegistersConfig(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=3, mlp_ratio=4, image_size=16, patch_size=8,
        num_register_tokens=2, use_swiglu_ffn=swiglu,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Dinov2WithRegistersModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    model.save_pretrained(folder)
    return model


def dinov2_state(model):
    """The same weights with the names of DINOv2's own files."""
    names = {
        "embeddings.cls_token": "cls_token",
        "embeddings.mask_token": "mask_token",
        "embeddings.register_tokens": "register_tokens",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "encoder.layer": "blocks",
        "attention.o_proj": "attn.proj",
        "layer_scale1.lambda1": "ls1.gamma",
        "layer_scale2.lambda1": "ls2.gamma",
        "mlp.down_proj": "mlp.w3",
        "layernorm": "norm",
    }
    state = {}
    for key, value in model.state_dict().items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        state[key] = value.clone()
    for i in range(2):
        for joint, parts in {"attn.qkv": ("q_proj", "k_proj", "v_proj"), "mlp.w12": ("gate_proj", "up_proj")}.items():
            where = "attention" if joint == "attn.qkv" else "mlp"
            for kind in ("weight", "bias"):
                found = [state.pop(f"blocks.{i}.{where}.{part}.{kind}", None) for part in parts]
                if found[0] is not None:
                    state[f"blocks.{i}.{joint}.{kind}"] = torch.cat(found)
    return state


@pytest.mark.parametrize("pooling", ["class", "mean", "class_mean"])
@pytest.mark.parametrize("swiglu", [False, True])
def test_a_dinov2_file_a_hugging_face_folder_and_transformers_agree(tmp_path, pooling, swiglu):
    model = hugging_face(tmp_path / "hf", swiglu).eval()
    save_file({f"teacher.{k}": v for k, v in dinov2_state(model).items()}, tmp_path / "dinov2.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    masks = np.ones((3, 16, 16), bool)
    sizes = {"image_px": 16, "patch_px": 8, "width": 12, "depth": 2, "heads": 3, "registers": 2}
    sizes |= {"mlp_width": 64 if swiglu else 48, "gated": swiglu}
    own = ViTEncoder(tmp_path / "dinov2.safetensors", pooling, prefix="teacher.", **sizes)(images, masks)
    theirs = HuggingFaceEncoder(tmp_path / "hf", pooling)(images, masks)
    pixels = (images / 255 - IMAGENET_MEAN) / IMAGENET_STD
    with torch.no_grad():
        tokens = model(torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float()).last_hidden_state.numpy()
    expected = {"class": tokens[:, 0], "mean": tokens[:, 3:].mean(1)}
    expected["class_mean"] = np.concatenate([expected["class"], expected["mean"]], 1)
    np.testing.assert_allclose(theirs, expected[pooling], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(own, expected[pooling], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "parameters"), [("uni", 303.35e6), ("uni2_h", 681.4e6), ("virchow2", 631.2e6), ("gpfm", 303.2e6)]
)
def test_the_declared_sizes_are_those_of_the_published_encoders(name, parameters):
    declared = yaml.safe_load((ROOT / "configs" / "findings.yaml").read_text())["encoders"][name]
    sizes = ViTSizes(**{key: declared[key] for key in ViTSizes.__dataclass_fields__ if key in declared})
    with torch.device("meta"):
        model = VisionTransformer(sizes, 1 + sizes.patches)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(parameters, rel=2e-3)


def test_a_file_of_other_sizes_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="not of the sizes that the config states"):
        read(timm_state(PLAIN, 5), LARGE, tmp_path)


def test_a_file_without_a_transformer_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="check `prefix`"):
        read(timm_state(PLAIN, 5), PLAIN, tmp_path, prefix="student.")


def test_a_file_that_holds_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    (tmp_path / "evil.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WeightsError, match="more than tensors"):
        read_vit(tmp_path / "evil.bin", PLAIN)


def test_a_folder_of_another_model_is_refused(tmp_path):
    hugging_face(tmp_path, False)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(WeightsError, match="model_type is none of dinov2"):
        HuggingFaceEncoder(tmp_path)


def test_a_folder_that_lacks_tensors_is_refused(tmp_path):
    model = hugging_face(tmp_path, False)
    state = {k: v.clone() for k, v in model.state_dict().items() if "layer.1.norm1" not in k}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="tensors are missing"):
        HuggingFaceEncoder(tmp_path)


def test_an_encoder_without_weights_says_how_to_give_them():
    with pytest.raises(WeightsError, match="--vit_weights FILE"):
        ViTEncoder(None)
    with pytest.raises(WeightsError, match="--vit_weights FOLDER"):
        HuggingFaceEncoder(None)


def test_an_unknown_pooling_is_refused(tmp_path):
    hugging_face(tmp_path, False)
    with pytest.raises(ConfigError, match="pooling: 'max'"):
        HuggingFaceEncoder(tmp_path, "max")
