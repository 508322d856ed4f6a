"""The masked loss, against the formulas and a hand calculation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from bundle.training import BCELovaszLoss, MaskedDiceCELoss


def batch(seed: int = 0, ignored: float = 0.2, shape: tuple[int, int, int] = (2, 6, 5)):
    """Random logits (B, 4, H, W) and labels (B, 1, H, W), a part of them 255."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], 4, *shape[1:], generator=generator, requires_grad=True)
    label = torch.randint(0, 4, (shape[0], 1, *shape[1:]), generator=generator)
    label[torch.rand(label.shape, generator=generator) < ignored] = 255
    return logits, label.to(torch.uint8)


def expected_loss(logits, label, weights=(1.0, 1.0, 1.0, 1.0), smooth=1.0) -> float:
    """The same, pixel by pixel in plain Python."""
    probability = logits.detach().softmax(1)
    entropy = weight_sum = 0.0
    overlap, total, present = [0.0] * 4, [0.0] * 4, [False] * 4
    for b, i, j in [(b, i, j) for b in range(len(label)) for i in range(label.shape[2]) for j in range(label.shape[3])]:
        true = int(label[b, 0, i, j])
        if true == 255:
            continue
        p = [float(probability[b, c, i, j]) for c in range(4)]
        entropy -= weights[true] * math.log(p[true])
        weight_sum += weights[true]
        present[true] = True
        for c in (1, 2, 3):
            overlap[c] += p[c] * (true == c)
            total[c] += p[c] ** 2 + (true == c)
    terms = [1 - (2 * overlap[c] + smooth) / (total[c] + smooth) for c in (1, 2, 3) if present[c]]
    return entropy / weight_sum + (sum(terms) / len(terms) if terms else 0.0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), ignored=st.sampled_from([0.0, 0.3, 0.9]))
def test_the_loss_is_that_of_the_formula(seed, ignored):
    logits, label = batch(seed, ignored)
    label[0, 0, 0, 0] = 1  # at least one labelled pixel
    assert MaskedDiceCELoss()(logits, label).item() == pytest.approx(expected_loss(logits, label), rel=1e-4)


def test_class_weights_weigh_the_cross_entropy():
    logits, label = batch()
    weights = [0.5, 1.0, 4.0, 2.0]
    found = MaskedDiceCELoss(class_weights=weights)(logits, label).item()
    assert found == pytest.approx(expected_loss(logits, label, weights), rel=1e-4)


def test_a_hand_worked_pixel():
    # softmax(0, 0, 0, ln 3) = (1/6, 1/6, 1/6, 1/2), label 3: CE = ln 2; Dice = (2 * 1/2 + 1) / (1/4 + 1 + 1) = 8/9
    logits = torch.tensor([0.0, 0.0, 0.0, math.log(3)]).view(1, 4, 1, 1)
    label = torch.full((1, 1, 1, 1), 3, dtype=torch.uint8)
    assert MaskedDiceCELoss()(logits, label).item() == pytest.approx(math.log(2) + 1 / 9)
    assert MaskedDiceCELoss(dice_weight=0)(logits, label).item() == pytest.approx(math.log(2))


def test_ignored_pixels_have_no_gradient_and_the_others_have():
    logits, label = batch()
    MaskedDiceCELoss()(logits, label).backward()
    ignored = (label == 255).expand_as(logits)
    assert ignored.any()
    assert (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).all()


def test_what_the_network_says_at_ignored_pixels_changes_nothing():
    logits, label = batch()
    other = torch.where(label == 255, torch.randn_like(logits) * 9, logits)
    assert MaskedDiceCELoss()(other, label).item() == MaskedDiceCELoss()(logits, label).item()


def test_a_perfect_prediction_costs_almost_nothing():
    label = torch.randint(0, 4, (1, 1, 8, 8))
    logits = 50.0 * functional.one_hot(label[:, 0], 4).movedim(-1, 1)
    assert MaskedDiceCELoss()(logits, label).item() == pytest.approx(0, abs=1e-5)


def test_an_unlabelled_batch_costs_nothing_and_can_be_trained_on():
    logits, label = batch(ignored=1.1)
    loss = MaskedDiceCELoss()(logits, label)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_a_class_absent_from_the_batch_has_no_dice_term():
    logits, label = batch(ignored=0)
    label[label == 2] = 0
    assert MaskedDiceCELoss()(logits, label).item() == pytest.approx(expected_loss(logits, label), rel=1e-4)


def test_a_batch_without_glomeruli_is_cross_entropy_alone():
    logits, label = batch(ignored=0)
    label[:] = 0
    expected = functional.cross_entropy(logits, label[:, 0].long())
    assert MaskedDiceCELoss()(logits, label).item() == pytest.approx(expected.item())


def test_descending_the_loss_fits_the_labels():
    logits, label = batch()
    optimizer = torch.optim.Adam([logits], 0.3)
    for _ in range(60):
        optimizer.zero_grad()
        MaskedDiceCELoss()(logits, label).backward()
        optimizer.step()
    labelled = label[:, 0] != 255
    assert (logits.argmax(1)[labelled] == label[:, 0][labelled]).all()


def test_the_weights_move_with_the_loss_to_another_device():
    assert MaskedDiceCELoss([1.0, 2.0, 3.0, 4.0]).to("meta").class_weights.device.type == "meta"


def lovasz_hinge(logits: list[float], truth: list[int]) -> float:
    """Lovász extension of the Jaccard loss at the hinge errors, from its definition (Berman et al. 2018, eq. 8)."""
    errors = [max(0.0, 1 - z * (2 * t - 1)) for z, t in zip(logits, truth, strict=True)]
    order = sorted(range(len(errors)), key=lambda i: -errors[i])

    def jaccard_loss(wrong: set[int]) -> float:
        foreground = {i for i, t in enumerate(truth) if t}
        union = foreground | wrong
        return len(wrong) / len(union) if union else 0.0

    steps = [jaccard_loss(set(order[: k + 1])) - jaccard_loss(set(order[:k])) for k in range(len(order))]
    return sum(errors[i] * step for i, step in zip(order, steps, strict=True))


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3]))
@settings(max_examples=20, deadline=None)
def test_the_study_s_loss_is_cross_entropy_plus_lovasz_hinge_over_labelled_pixels(seed, ignored):
    logits, label = batch(seed, ignored)
    logits = logits[:, :1].detach()
    entropy, lovasz = [], []
    for image, classes in zip(logits, label, strict=True):
        known = [(float(z), int(t > 0)) for z, t in zip(image.flatten(), classes.flatten(), strict=True) if t != 255]
        entropy += [math.log1p(math.exp(-z if t else z)) for z, t in known]
        lovasz.append(lovasz_hinge([z for z, _ in known], [t for _, t in known]))
    expected = sum(entropy) / len(entropy) + sum(lovasz) / len(lovasz)
    assert float(BCELovaszLoss()(logits, label)) == pytest.approx(expected, rel=1e-5)


def test_the_study_s_loss_moves_no_unlabelled_pixel():
    logits, label = batch()
    BCELovaszLoss()(logits[:, :1], label).backward()
    assert (logits.grad[:, :1][label == 255] == 0).all()
    assert (logits.grad[:, :1][label != 255] != 0).any()
    nothing = BCELovaszLoss()(logits[:, :1], torch.full_like(label, 255))
    assert float(nothing.detach()) == 0
    nothing.backward()


def test_the_study_s_loss_of_a_sure_and_right_network_is_nothing():
    _, label = batch(ignored=0)
    logits = torch.where(label > 0, 30.0, -30.0)
    assert float(BCELovaszLoss()(logits, label)) == pytest.approx(0, abs=1e-6)
