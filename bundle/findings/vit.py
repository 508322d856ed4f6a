"""A vision transformer with timm's names, so that published pathology encoders load from local files as they are.

UNI, UNI2-h, Virchow2 and GPFM are timm `VisionTransformer`s; timm itself needs torchvision, which the
bundle does without. Only the forward pass of a frozen encoder is here: no dropout, no head. What is made of its tokens
is the business of `encoders_vit`.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from bundle.errors import ConfigError, WeightsError, reason_of
from bundle.weights import read_checkpoint

_NORM_EPS = 1e-6
_DINOV2_NAMES = {"register_tokens": "reg_token", ".mlp.w12.": ".mlp.fc1.", ".mlp.w3.": ".mlp.fc2."}
"""How DINOv2's own files call what timm calls otherwise."""
_NOT_OF_INFERENCE = ("mask_token",)


@dataclass(frozen=True)
class ViTSizes:
    """The shape of a vision transformer.

    Attributes:
        image_px: side of the square input, pixels.
        patch_px: side of a patch, pixels.
        width: of a token.
        depth: number of blocks.
        heads: of the attention.
        mlp_width: outputs of a block's first linear layer; with `gated`, of both halves together.
        gated: SwiGLU (Shazeer 2020, timm's SwiGLUPacked) for GELU.
        registers: extra tokens (Darcet et al. 2024).
        layer_scale: whether each branch is scaled per channel (Touvron et al. 2021).

    Raises:
        ConfigError: sizes that do not divide as they must.
    """

    image_px: int
    patch_px: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    gated: bool = False
    registers: int = 0
    layer_scale: bool = True

    def __post_init__(self) -> None:
        if self.image_px % self.patch_px or self.width % self.heads or (self.gated and self.mlp_width % 2):
            raise ConfigError(
                f"{self}: image_px must be a multiple of patch_px, width of heads, and a gated mlp_width be even"
            )

    @property
    def patches(self) -> int:
        """Number of patches of an image."""
        return (self.image_px // self.patch_px) ** 2


class VisionTransformer(nn.Module):
    """ViT (Dosovitskiy et al. 2021) without a head.

    Args:
        sizes: its shape.
        positions: number of position embeddings. As many as patches: neither class token nor registers have one; one
            more: the class token has one (DINOv2); else all tokens have.

    Raises:
        ConfigError: `positions` is none of these.
    """

    def __init__(self, sizes: ViTSizes, positions: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.prefix = 1 + sizes.registers
        self.unplaced = self.prefix + sizes.patches - positions
        if self.unplaced not in (0, sizes.registers, self.prefix):
            raise ConfigError(f"{positions} position embeddings for {sizes.patches} patches; check image_px, patch_px")
        self.cls_token = nn.Parameter(torch.zeros(1, 1, sizes.width))
        if sizes.registers:
            self.reg_token = nn.Parameter(torch.zeros(1, sizes.registers, sizes.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, positions, sizes.width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, sizes.width, sizes.patch_px, sizes.patch_px)})
        self.blocks = nn.ModuleList(_Block(sizes) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(sizes.width, _NORM_EPS)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Normalised tokens (B, prefix + patches, width): class token, registers, patches in rows.

        Args:
            image: (B, 3, image_px, image_px), normalised as the encoder was trained.
        """
        patches = self.patch_embed["proj"](image).flatten(2).transpose(1, 2)
        registers = self.reg_token if self.sizes.registers else self.cls_token[:, :0]
        prefix = torch.cat([self.cls_token, registers], 1).expand(len(image), -1, -1)
        if self.unplaced == self.prefix:
            tokens = torch.cat([prefix, patches + self.pos_embed], 1)
        elif self.unplaced:  # only the registers have no place
            place = self.pos_embed
            tokens = torch.cat([prefix[:, :1] + place[:, :1], prefix[:, 1:], patches + place[:, 1:]], 1)
        else:
            tokens = torch.cat([prefix, patches], 1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)


class _Block(nn.Module):
    def __init__(self, sizes: ViTSizes) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.width, _NORM_EPS)
        self.attn = _Attention(sizes.width, sizes.heads)
        self.ls1 = _LayerScale(sizes.width) if sizes.layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(sizes.width, _NORM_EPS)
        self.mlp = _Mlp(sizes)
        self.ls2 = _LayerScale(sizes.width) if sizes.layer_scale else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        mixed = functional.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class _LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


class _Mlp(nn.Module):
    def __init__(self, sizes: ViTSizes) -> None:
        super().__init__()
        self.gated = sizes.gated
        self.fc1 = nn.Linear(sizes.width, sizes.mlp_width)
        self.fc2 = nn.Linear(sizes.mlp_width // 2 if sizes.gated else sizes.mlp_width, sizes.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc1(x)
        if not self.gated:
            return self.fc2(functional.gelu(x))
        gate, value = x.chunk(2, -1)
        return self.fc2(functional.silu(gate) * value)


def read_vit(path: Path | str, sizes: ViTSizes, prefix: str = "") -> VisionTransformer:
    """The transformer of a state dict with timm's (or DINOv2's) names, on the CPU, in evaluation mode.

    Args:
        path: .safetensors, or a torch file of tensors alone (.bin, .pt, .pth).
        sizes: of the encoder that the file is of.
        prefix: of the names in the file, such as "teacher.backbone."; others are left out.

    Raises:
        WeightsError: the file is missing, unsafe, or of a transformer of other sizes.
    """
    state = {
        _timm_name(key[len(prefix) :]): value for key, value in read_checkpoint(path).items() if _ours(key, prefix)
    }
    if not isinstance(state.get("pos_embed"), torch.Tensor):
        raise WeightsError(f"{path}: no weights of a vision transformer with timm's names; check `prefix` ({prefix!r})")
    try:
        # On the meta device: random numbers for 680 M parameters that are then overwritten take longer than reading.
        with torch.device("meta"):
            model = VisionTransformer(sizes, state["pos_embed"].shape[1])
        model.load_state_dict(state, assign=True)
    except (ConfigError, RuntimeError, TypeError) as error:
        reason = reason_of(error)
        raise WeightsError(f"{path}: not of the sizes that the config states ({reason})") from error
    return model.requires_grad_(False).float().eval()


def _ours(key: str, prefix: str) -> bool:
    return key.startswith(prefix) and key.removeprefix(prefix) not in _NOT_OF_INFERENCE


def _timm_name(name: str) -> str:
    for dinov2, timm in _DINOV2_NAMES.items():
        name = name.replace(dinov2, timm)
    return name
