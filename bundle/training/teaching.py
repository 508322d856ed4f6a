"""Self-distillation: the averaged network's opinion of a tile seen turned or flipped, as a second label."""

from typing import Any

import torch
from monai.engines import PrepareBatch
from monai.inferers import Inferer
from monai.networks import eval_mode
from monai.utils import CommonKeys as Keys
from torch import nn

from bundle.errors import ConfigError
from bundle.symmetries import SYMMETRIES, seen, undone


class TaughtBatch(PrepareBatch):
    """Adds a teacher's class probabilities to the labels of a batch.

    The teacher is the moving average of the network in training (Tarvainen and Valpola, "Mean teachers are better role
    models", NeurIPS 2017), and sees the batch in one of its eight symmetries, drawn at random: over the batches,
    cross-entropy with its probabilities is that with their mean over the symmetries, which is better than one view of
    it (`bundle.stream.DihedralMean`) and eight times as dear.

    Args:
        teacher: maps (B, 3, h, w) to logits (B, C, h, w), C > 1.
        inferer: runs the teacher.
        weight: of the teacher in `TaughtLoss`; at 0 it is not asked, and batches stay as they are.
    """

    def __init__(self, teacher: nn.Module, inferer: Inferer, weight: float) -> None:
        self.teacher = teacher
        self.inferer = inferer
        self.weight = weight

    def __call__(
        self,
        batchdata: dict[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, 3, h, w) and labels: (B, 1, h, w), or (B, 1 + C, h, w) with the teacher's probabilities."""
        image, label = (
            batchdata[key].to(device, non_blocking=non_blocking, **kwargs) for key in (Keys.IMAGE, Keys.LABEL)
        )
        if self.weight == 0:
            return image, label
        symmetry = SYMMETRIES[int(torch.randint(len(SYMMETRIES), ()))]
        with eval_mode(self.teacher):
            logits = self.inferer(seen(image, *symmetry).contiguous(), self.teacher)
        return image, torch.cat([label.to(logits.dtype), undone(logits.softmax(1), *symmetry)], dim=1)


class TaughtLoss(nn.Module):
    """A loss against labels plus the cross-entropy with a teacher's probabilities, over all pixels.

    Args:
        loss: takes logits (B, C, h, w) and class indices (B, 1, h, w).
        weight: of the teacher's cross-entropy; 0 leaves `loss` alone.

    Raises:
        ConfigError: `weight` is below 0.
    """

    def __init__(self, loss: nn.Module, weight: float) -> None:
        super().__init__()
        if weight < 0:
            raise ConfigError(f"teaching_weight: must not be below 0, not {weight}; 0 trains without a teacher")
        self.loss = loss
        self.weight = weight

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Scalar loss of `logits` (B, C, h, w) against labels as `TaughtBatch` makes them."""
        if self.weight == 0:
            loss: torch.Tensor = self.loss(logits, label)
            return loss
        entropy = nn.functional.cross_entropy(logits, label[:, 1:])
        taught: torch.Tensor = self.loss(logits, label[:, :1]) + self.weight * entropy
        return taught
