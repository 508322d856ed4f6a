"""Self-distillation: what the teacher adds to a batch, and what the loss makes of it."""

import pytest
import torch
from monai.inferers import SimpleInferer

from bundle.errors import ConfigError
from bundle.stream import DihedralMean
from bundle.training import MaskedDiceCELoss, TaughtBatch, TaughtLoss


class Teacher(torch.nn.Module):
    """Logits of a convolution that is not symmetric, and whether it was ever in training mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.trained = False

    def forward(self, tiles):
        self.trained |= self.training
        return self.convolution(tiles)


def batch():
    torch.manual_seed(1)
    return {"image": torch.rand(2, 3, 8, 8), "label": torch.randint(0, 4, (2, 1, 8, 8), dtype=torch.uint8)}


def test_without_weight_the_batch_is_the_datalists_and_the_teacher_is_not_asked():
    data = batch()
    image, label = TaughtBatch(None, None, 0.0)(data)
    assert torch.equal(image, data["image"])
    assert torch.equal(label, data["label"])


def test_the_teachers_mean_over_many_batches_is_that_over_the_symmetries():
    teacher, data = Teacher(), batch()
    taught = TaughtBatch(teacher, SimpleInferer(), 1.0)
    views = torch.stack([taught(data)[1][:, 1:] for _ in range(400)])
    expected = DihedralMean(teacher.eval())(data["image"]).softmax(1)
    spread = (views - expected).abs().mean()
    assert spread > 0.01
    assert (views.mean(0) - expected).abs().mean() < spread / 8


def test_the_teacher_predicts_in_evaluation_mode_without_gradients_and_stays_in_its_mode():
    teacher, data = Teacher().train(), batch()
    _, label = TaughtBatch(teacher, SimpleInferer(), 1.0)(data)
    assert torch.equal(label[:, :1].byte(), data["label"])
    assert not teacher.trained
    assert not label.requires_grad
    assert teacher.training


def test_the_loss_is_that_of_the_label_plus_the_weighted_cross_entropy():
    data, logits = batch(), torch.randn(2, 4, 8, 8, dtype=torch.float64)
    _, label = TaughtBatch(Teacher().double(), SimpleInferer(), 1.0)({**data, "image": data["image"].double()})
    plain = MaskedDiceCELoss()
    entropy = -(label[:, 1:] * logits.log_softmax(1)).sum(1).mean()
    expected = plain(logits, data["label"]) + 0.25 * entropy
    torch.testing.assert_close(TaughtLoss(plain, 0.25)(logits, label), expected)
    torch.testing.assert_close(TaughtLoss(plain, 0.0)(logits, data["label"]), plain(logits, data["label"]))


def test_a_negative_weight_is_refused():
    with pytest.raises(ConfigError, match="teaching_weight"):
        TaughtLoss(MaskedDiceCELoss(), -1.0)
