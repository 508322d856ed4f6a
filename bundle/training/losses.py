"""Losses that leave unlabelled pixels out."""

import torch
from kornia.losses import lovasz_hinge_loss
from torch import nn
from torch.nn import functional

from bundle.classes import BACKGROUND_INDEX, IGNORE_INDEX

SURELY_BACKGROUND = -1e4
"""A logit that is right about background beyond any margin."""


class MaskedDiceCELoss(nn.Module):
    """Soft Dice over the foreground channels plus weighted cross-entropy, both over labelled pixels only.

    Dice is taken over the whole batch (Milletari et al. 2016, squared denominators), channels absent from the batch's
    label left out: a tile without glomeruli then says nothing of a class, which cross-entropy covers.

    Args:
        class_weights: weight of each channel in the cross-entropy, background first; `None` for equal weights.
        dice_weight: weight of the Dice term against the cross-entropy.
        smooth: added to numerator and denominator of Dice, pixels.
    """

    def __init__(self, class_weights: list[float] | None = None, dice_weight: float = 1.0, smooth: float = 1.0) -> None:
        super().__init__()
        self.class_weights: torch.Tensor | None
        self.register_buffer("class_weights", None if class_weights is None else torch.tensor(class_weights))
        self.dice_weight = dice_weight
        self.smooth = smooth

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Scalar loss of `logits` (B, C, H, W) against class indices `label` (B, 1, H, W), 255 = unlabelled."""
        target = label[:, 0].long()
        labelled = target != IGNORE_INDEX
        if not labelled.any():
            return logits.sum() * 0
        entropy = functional.cross_entropy(logits, target, self.class_weights, ignore_index=IGNORE_INDEX)
        return entropy + self.dice_weight * self._dice(logits, target, labelled)

    def _dice(self, logits: torch.Tensor, target: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
        channels = logits.shape[1]
        truth = functional.one_hot(target * labelled, channels).movedim(-1, 1)[:, 1:] * labelled[:, None]
        probability = logits.softmax(1)[:, 1:] * labelled[:, None]
        dims = (0, 2, 3)
        overlap = (probability * truth).sum(dims)
        total = probability.square().sum(dims) + truth.sum(dims)
        dice = (2 * overlap + self.smooth) / (total + self.smooth)
        present = truth.sum(dims) > 0
        return (1 - dice[present]).mean() if present.any() else logits.sum() * 0


class BCELovaszLoss(nn.Module):
    """Binary cross-entropy plus Lovász hinge of one logit channel: the loss of Souza et al. 2025 (kornia's Lovász).

    Every class counts as glomerulus. The Lovász hinge is taken image by image (Berman et al. 2018).
    """

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Scalar loss of `logits` (B, 1, H, W) against class indices `label` (B, 1, H, W), 255 = unlabelled."""
        labelled = label != IGNORE_INDEX
        if not labelled.any():
            return logits.sum() * 0
        glomerulus = ((label > BACKGROUND_INDEX) & labelled).to(logits.dtype)
        entropy = functional.binary_cross_entropy_with_logits(logits[labelled], glomerulus[labelled])
        # Background that is surely right has no hinge error: it drops out of the Lovász extension.
        known = torch.where(labelled, logits, SURELY_BACKGROUND)
        return entropy + lovasz_hinge_loss(known, glomerulus[:, 0])
