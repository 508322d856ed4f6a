"""UNet 3+ (Huang et al. 2020): a U-Net whose every decoder stage sees every scale."""

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from torch import nn
from torch.nn import functional


class UNet3Plus(nn.Module):
    """UNet 3+ in two dimensions, with the paper's optional deep supervision and classification-guided module.

    Huang et al., "UNet 3+: A Full-Scale Connected UNet for Medical Image Segmentation", ICASSP 2020, arXiv 2004.08790,
    equation 1: decoder stage i joins, each as `skip_channels` maps at its own scale, the encoder stages above it
    (max-pooled), encoder stage i, and the decoder stages below it (bilinearly enlarged; the deepest is the encoder's).

    Args:
        in_channels: channels of the image.
        out_channels: channels of logits.
        features: channels of the encoder's stages, the finest first; their number is the depth.
        skip_channels: maps that each scale gives to a decoder stage (64 in the paper).
        deep_supervision: while training, give the logits of every stage.
        classification_guided: scale the logits by the probability that the image holds any object at all.
        dropout: of the classification head.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 4,
        features: Sequence[int] = (64, 128, 256, 512, 1024),
        skip_channels: int = 64,
        deep_supervision: bool = False,
        classification_guided: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        depth = len(features)
        joined = skip_channels * depth
        self.encoder = nn.ModuleList(
            nn.Sequential(_convolution(before, after), _convolution(after, after))
            for before, after in zip((in_channels, *features[:-1]), features, strict=True)
        )
        # Deepest first: each stage needs those below it.
        self.decoder = nn.ModuleList(_Stage(i, features, skip_channels) for i in reversed(range(depth - 1)))
        widths = (joined,) * (depth - 1) + (features[-1],)
        self.heads = nn.ModuleList(
            nn.Conv2d(width, out_channels, 3, padding=1) for width in (widths if deep_supervision else widths[:1])
        )
        self.guide = nn.Sequential()
        if classification_guided:
            self.guide = nn.Sequential(
                nn.Dropout(dropout), nn.Conv2d(features[-1], 1, 1), nn.AdaptiveMaxPool2d(1), nn.Sigmoid()
            )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of an image (B, in_channels, H, W); H and W are multiples of 2 ** (depth - 1).

        Returns:
            (B, out_channels, H, W). While training with deep supervision (B, depth, out_channels, H, W), the finest
            stage first, each enlarged to full size (as MONAI's DynUNet gives it).
        """
        maps: list[torch.Tensor] = []
        x = image
        for stage in self.encoder:
            x = stage(x if len(maps) == 0 else functional.max_pool2d(x, 2))
            maps.append(x)
        depth = len(maps)
        # A decoder stage's maps take the place of the encoder's, which no later stage wants.
        for i, stage in enumerate(self.decoder):
            maps[depth - 2 - i] = stage(maps)
        probability = self.guide(maps[-1]) if len(self.guide) else torch.ones(1, device=x.device, dtype=x.dtype)
        logits: list[torch.Tensor] = []
        for i, head in enumerate(self.heads):
            if i == 0 or self.training:
                logits.append(_resize(head(maps[i]), image) * probability)
        return logits[0] if len(logits) == 1 else torch.stack(logits, dim=1)


class _Stage(nn.Module):
    """Decoder stage `index`: all scales brought to its own, joined and fused."""

    def __init__(self, index: int, features: Sequence[int], skip_channels: int) -> None:
        super().__init__()
        depth = len(features)
        self.index = index
        # Above and beside: encoder maps; below: decoder maps, but the deepest, which is the encoder's.
        below = (skip_channels * depth,) * (depth - 2 - index)
        inputs = (*features[: index + 1], *below, features[-1])
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.MaxPool2d(2 ** (index - scale)) if scale < index else nn.Identity(),
                _convolution(channels, skip_channels),
            )
            for scale, channels in enumerate(inputs)
        )
        self.fuse = _convolution(skip_channels * depth, skip_channels * depth)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        here = maps[self.index]
        joined: list[torch.Tensor] = []
        for scale, branch in enumerate(self.branches):
            joined.append(branch(_resize(maps[scale], here) if scale > self.index else maps[scale]))
        return self.fuse(torch.cat(joined, dim=1))


def _resize(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def _convolution(channels_in: int, channels_out: int) -> Convolution:
    """3 x 3 convolution, batch norm, ReLU: the paper's block."""
    return Convolution(2, channels_in, channels_out, act="relu", norm="batch", adn_ordering="NA")
