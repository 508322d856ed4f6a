"""The losses, against their formulas pixel by pixel and hand calculations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from torch.nn import functional

from bundle.errors import ConfigError
from bundle.training import BCELovaszLoss, DiceCELovaszLoss, MaskedDiceCELoss, TverskyFocalLoss
from tests.cohort import TRAIN

every_loss_of_classes = pytest.mark.parametrize("make", [MaskedDiceCELoss, DiceCELovaszLoss, TverskyFocalLoss])


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


@every_loss_of_classes
def test_ignored_pixels_have_no_gradient_and_the_others_have(make):
    logits, label = batch()
    make()(logits, label).backward()
    ignored = (label == 255).expand_as(logits)
    assert ignored.any()
    assert (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).all()


@every_loss_of_classes
def test_what_the_network_says_at_ignored_pixels_changes_nothing(make):
    logits, label = batch()
    other = torch.where(label == 255, torch.randn_like(logits) * 9, logits)
    loss = make([1.0, 2.0, 3.0, 4.0])
    assert loss(other, label).item() == loss(logits, label).item()


@every_loss_of_classes
def test_a_perfect_prediction_costs_almost_nothing(make):
    label = torch.randint(0, 4, (1, 1, 8, 8))
    logits = 50.0 * functional.one_hot(label[:, 0], 4).movedim(-1, 1)
    logits.requires_grad_()
    loss = make()(logits, label)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert logits.grad.abs().max() < 1e-5


@every_loss_of_classes
def test_an_unlabelled_batch_costs_nothing_and_can_be_trained_on(make):
    logits, label = batch(ignored=1.1)
    loss = make()(logits, label)
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


@every_loss_of_classes
def test_descending_the_loss_fits_the_labels(make):
    logits, label = batch()
    optimizer = torch.optim.Adam([logits], 0.3)
    for _ in range(60):
        optimizer.zero_grad()
        make()(logits, label).backward()
        optimizer.step()
    labelled = label[:, 0] != 255
    assert (logits.argmax(1)[labelled] == label[:, 0][labelled]).all()


@every_loss_of_classes
def test_the_weights_move_with_the_loss_to_another_device(make):
    weights = list(make([1.0, 2.0, 3.0, 4.0]).to("meta").buffers())
    assert [weight.device.type for weight in weights] == ["meta"]


@every_loss_of_classes
def test_mixed_precision_costs_nearly_the_same(make):
    logits, label = batch()
    with torch.autocast("cpu", torch.bfloat16):
        half = make()(logits.bfloat16(), label)
    assert half.item() == pytest.approx(make()(logits, label).item(), rel=0.01)


def lovasz(errors: list[float], truth: list[int]) -> float:
    """Lovász extension of the Jaccard loss at `errors`, from its definition (Berman et al. 2018, eq. 8)."""
    order = sorted(range(len(errors)), key=lambda i: -errors[i])

    def jaccard_loss(wrong: set[int]) -> float:
        foreground = {i for i, t in enumerate(truth) if t}
        union = foreground | wrong
        return len(wrong) / len(union) if union else 0.0

    steps = [jaccard_loss(set(order[: k + 1])) - jaccard_loss(set(order[:k])) for k in range(len(order))]
    return sum(errors[i] * step for i, step in zip(order, steps, strict=True))


def labelled_pixels(logits, label) -> list[tuple[list[float], int]]:
    """(probabilities, class) of every labelled pixel of the batch."""
    probability = logits.detach().softmax(1).movedim(1, -1).flatten(0, 2).tolist()
    return [(p, true) for p, true in zip(probability, label.flatten().tolist(), strict=True) if true != 255]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3]), st.integers(0, 3))
def test_the_lovasz_term_is_the_mean_over_the_batch_s_classes_of_their_lovasz_extension(seed, ignored, absent):
    logits, label = batch(seed, ignored)
    label[label == absent] = 255
    pixels = labelled_pixels(logits, label)
    terms = [
        lovasz([abs(p[c] - (true == c)) for p, true in pixels], [int(true == c) for _, true in pixels])
        for c in range(4)
        if c != absent
    ]
    found = DiceCELovaszLoss(lovasz_weight=2.0)(logits, label) - MaskedDiceCELoss()(logits, label)
    assert found.item() == pytest.approx(2 * sum(terms) / 3, rel=1e-4)


def test_two_hand_worked_pixels_of_lovasz():
    # Labels 0, 1 and p(true) = 0.8, 0.6: both classes err by 0.4 first, then by 0.2.
    # Class 1: the first error alone costs Jaccard 1, the second none more: 0.4. Class 0: 0.4 * 1/2 + 0.2 * 1/2 = 0.3.
    logits = torch.tensor([[0.8, 0.4], [0.2, 0.6]]).log().view(1, 2, 1, 2)
    label = torch.tensor([0, 1], dtype=torch.uint8).view(1, 1, 1, 2)
    found = DiceCELovaszLoss()(logits, label) - MaskedDiceCELoss()(logits, label)
    assert found.item() == pytest.approx(0.35, rel=1e-5)


def tversky_focal(logits, label, weights, alpha, beta, gamma, smooth) -> float:
    """Salehi et al. 2017, equation 3, and Lin et al. 2017, equation 4, pixel by pixel."""
    pixels = labelled_pixels(logits, label)
    focal = sum(-weights[true] * (1 - p[true]) ** gamma * math.log(p[true]) for p, true in pixels)
    terms = []
    for c in {true for _, true in pixels} - {0}:
        hit = sum(p[c] for p, true in pixels if true == c)
        excess = sum(p[c] for p, true in pixels if true != c)
        missed = sum(1 - p[c] for p, true in pixels if true == c)
        terms.append(1 - (hit + smooth) / (hit + alpha * excess + beta * missed + smooth))
    return focal / sum(weights[true] for _, true in pixels) + (sum(terms) / len(terms) if terms else 0.0)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    ignored=st.sampled_from([0.0, 0.3]),
    absent=st.integers(0, 3),
    alpha=st.floats(0.1, 1.0),
    beta=st.floats(0.1, 1.0),
    gamma=st.sampled_from([0.0, 1.0, 2.0, 3.5]),
)
def test_the_tversky_focal_loss_is_that_of_the_formulas(seed, ignored, absent, alpha, beta, gamma):
    logits, label = batch(seed, ignored)
    label[label == absent] = 0
    weights = [0.5, 1.0, 4.0, 2.0]
    found = TverskyFocalLoss(weights, alpha, beta, gamma, smooth=0.5)(logits, label)
    assert found.item() == pytest.approx(tversky_focal(logits, label, weights, alpha, beta, gamma, 0.5), rel=1e-4)


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 4.0, 2.0]])
def test_without_focus_and_tversky_it_is_weighted_cross_entropy(weights):
    logits, label = batch()
    found = TverskyFocalLoss(weights, gamma=0, tversky_weight=0)(logits, label)
    expected = MaskedDiceCELoss(weights, dice_weight=0)(logits, label)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_missed_pixel_costs_more_than_one_too_many():
    label = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    label[..., :2] = 3
    sure = 20.0 * functional.one_hot(label[:, 0].long(), 4).movedim(-1, 1)
    loss = TverskyFocalLoss(alpha=0.3, beta=0.7)
    missed, excess = sure.clone(), sure.clone()
    missed[..., 0, 0] = sure[..., 0, 3]
    excess[..., 0, 3] = sure[..., 0, 0]
    # Of 8 pixels 1 is missed: 1 - 8 / (7 + 0.7 + 1); or there is 1 too many: 1 - 9 / (8 + 0.3 + 1).
    difference = loss(missed, label) - loss(excess, label)
    assert difference.item() == pytest.approx(9 / 9.3 - 8 / 8.7, rel=1e-4)


def test_a_focus_whose_gradient_is_not_finite_is_refused():
    with pytest.raises(ConfigError, match=r"gamma 0\.5: take 0 or at least 1"):
        TverskyFocalLoss(gamma=0.5)


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3]))
@settings(max_examples=20, deadline=None)
def test_the_study_s_loss_is_cross_entropy_plus_lovasz_hinge_over_labelled_pixels(seed, ignored):
    logits, label = batch(seed, ignored)
    logits = logits[:, :1].detach()
    entropy, hinges = [], []
    for image, classes in zip(logits, label, strict=True):
        known = [(float(z), int(t > 0)) for z, t in zip(image.flatten(), classes.flatten(), strict=True) if t != 255]
        entropy += [math.log1p(math.exp(-z if t else z)) for z, t in known]
        hinges.append(lovasz([max(0.0, 1 - z * (2 * t - 1)) for z, t in known], [t for _, t in known]))
    expected = sum(entropy) / len(entropy) + sum(hinges) / len(hinges)
    assert float(BCELovaszLoss()(logits, label)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("file", "loss", "channels"),
    [
        ("dice_ce", MaskedDiceCELoss, 4),
        ("lovasz", DiceCELovaszLoss, 4),
        ("tversky", TverskyFocalLoss, 4),
        ("bce_lovasz", BCELovaszLoss, 1),
    ],
)
def test_a_file_chooses_the_loss_of_a_training(file, loss, channels):
    parser = ConfigParser(ConfigParser.load_config_files([str(TRAIN), str(TRAIN.parent / f"losses/{file}.yaml")]))
    chosen = parser.get_parsed_content("loss")
    assert isinstance(chosen, loss)
    assert parser["network_def"]["out_channels"] == channels
    logits, label = batch()
    chosen(logits[:, :channels], label).backward()
    assert logits.grad[:, :channels].any()


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
