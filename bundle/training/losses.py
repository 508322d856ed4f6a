"""Losses that leave unlabelled pixels out: what the network says where the label is 255 changes none of them.

Each takes logits (B, C, H, W) and class indices (B, 1, H, W). configs/losses/ has a file to choose each by.
"""

import torch
from kornia.losses import lovasz_hinge_loss, lovasz_softmax_loss
from monai.losses import FocalLoss, TverskyLoss
from torch import nn
from torch.nn import functional

from bundle.classes import BACKGROUND_INDEX, IGNORE_INDEX
from bundle.errors import ConfigError

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

    # MONAI's DiceLoss takes this overlap for a difference of norms: at 8 x 256 x 256 pixels it is off by 7e-5 in
    # float32, these sums by 3e-8.
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


class DiceCELovaszLoss(nn.Module):
    """`MaskedDiceCELoss` plus Lovász-softmax (Berman et al. 2018; kornia's), the Jaccard index's own surrogate.

    Lovász is taken over the labelled pixels of the whole batch and averaged over the classes that they have, background
    among them: the paper's `classes="present"`.

    Args:
        class_weights: weight of each channel in the cross-entropy, background first; `None` for equal weights.
        dice_weight: weight of the Dice term against the cross-entropy.
        lovasz_weight: weight of the Lovász term against the cross-entropy.
    """

    def __init__(
        self, class_weights: list[float] | None = None, dice_weight: float = 1.0, lovasz_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.dice_ce = MaskedDiceCELoss(class_weights, dice_weight)
        self.lovasz_weight = lovasz_weight

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Scalar loss of `logits` (B, C, H, W), C > 1, against class indices `label` (B, 1, H, W), 255 = unlabelled."""
        return self.dice_ce(logits, label) + self.lovasz_weight * self._lovasz(logits, label)

    @staticmethod
    def _lovasz(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        labelled = label[:, 0] != IGNORE_INDEX
        if not labelled.any():
            return logits.sum() * 0
        # kornia knows no label to ignore and takes each image for itself: it gets the labelled pixels as one image.
        known, target = logits.movedim(1, -1)[labelled], label[:, 0][labelled].long()
        present = torch.bincount(target, minlength=logits.shape[1]) > 0
        # kornia's mean counts absent classes; these weights turn it into the mean over the present ones.
        weights = present * (present.numel() / present.sum())
        return lovasz_softmax_loss(known.T[None, :, None], target[None, None], weights.to(logits.dtype))


class TverskyFocalLoss(nn.Module):
    """Tversky loss plus focal cross-entropy, for classes that are rare (both MONAI's).

    Tversky (Salehi et al. 2017) is taken over the foreground channels and the whole batch, channels absent from the
    batch's label left out. Focal cross-entropy (Lin et al. 2017) is the mean over labelled pixels, weighted by their
    class: with `gamma` 0 it is torch's weighted cross-entropy.

    Args:
        class_weights: weight of each channel in the cross-entropy, background first; `None` for equal weights.
        alpha: what a false positive pixel costs in Tversky; 0.5 for both is Dice.
        beta: what a false negative pixel costs in Tversky: above `alpha`, the network rather finds too much.
        gamma: how far focal cross-entropy leaves out what is right already; 0, or 1 and more.
        tversky_weight: weight of the Tversky term against the cross-entropy.
        smooth: added to numerator and denominator of Tversky, pixels.

    Raises:
        ConfigError: for a `gamma` between 0 and 1.
    """

    def __init__(
        self,
        class_weights: list[float] | None = None,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 2.0,
        tversky_weight: float = 1.0,
        smooth: float = 1.0,
    ) -> None:
        super().__init__()
        if 0 < gamma < 1:
            raise ConfigError(f"gamma {gamma}: take 0 or at least 1, or a pixel that is surely right has no gradient")
        self.tversky_weight = tversky_weight
        self.focal = FocalLoss(
            to_onehot_y=True,
            use_softmax=True,
            gamma=gamma,
            weight=class_weights,
            reduction="none",
            ignore_index=IGNORE_INDEX,
        )
        self.tversky = TverskyLoss(
            include_background=False,
            to_onehot_y=True,
            softmax=True,
            alpha=alpha,
            beta=beta,
            smooth_nr=smooth,
            smooth_dr=smooth,
            reduction="none",
            batch=True,
            ignore_index=IGNORE_INDEX,
        )

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Scalar loss of `logits` (B, C, H, W), C > 1, against class indices `label` (B, 1, H, W), 255 = unlabelled."""
        known = label[label != IGNORE_INDEX].long()
        if known.numel() == 0:
            return logits.sum() * 0
        weights = self.focal.class_weight
        pixels = known.numel() if weights is None else weights[known].sum()
        # MONAI's own mean divides by the pixels, not by their weights: the weights would then scale the loss.
        entropy = self.focal(logits, label).sum() / pixels
        present = torch.bincount(known, minlength=logits.shape[1])[1:] > 0
        tversky = self.tversky(logits, label)[present]
        return entropy + self.tversky_weight * (tversky.mean() if present.any() else tversky.sum())


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
