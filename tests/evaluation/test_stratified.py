"""Class-stratified Dice against its equation, written as loops over pixels, and cases worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import box

from bundle.classes import CLASS_NAMES
from bundle.data.annotations import Annotation, Glomerulus
from bundle.evaluation import class_dice
from bundle.evaluation.stratified import StratifiedDice, stratified_dice

WIDTH, HEIGHT = 24, 12


def of(objects: list, prediction: np.ndarray, *, mpp: float = 1.0, margin_um: float = 3.0) -> StratifiedDice:
    """Objects as (label, left, top, right, bottom), rasterized by `Annotation`."""
    annotation = Annotation(tuple(Glomerulus(box(*corners), label) for label, *corners in objects))
    window = (0, 0, WIDTH, HEIGHT, 1)
    truth, instances = annotation.rasterize(*window), annotation.rasterize_instances(*window)
    return stratified_dice(prediction, truth, instances, mpp=mpp, margin_um=margin_um)


def predicted(*boxes) -> np.ndarray:
    image = np.zeros((HEIGHT, WIDTH), bool)
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] = True
    return image


def test_dice_of_a_class_is_pooled_over_its_glomeruli():
    objects = [(1, 0, 0, 4, 4), (1, 10, 0, 14, 2), (3, 20, 0, 24, 4)]
    result = of(objects, predicted((0, 0, 4, 2), (10, 0, 14, 4), (20, 0, 24, 4)))
    assert result.by_glomerulus() == pytest.approx([2 * 8 / (8 + 16), 2 * 8 / (16 + 8), 1])
    dice = result.by_class()
    assert dice["normal"] == pytest.approx(2 * (8 + 8) / ((8 + 16) + (16 + 8)))
    assert dice["global_sclerosis"] == 1
    assert math.isnan(dice["segmental_sclerosis"])
    assert dice["glomerulus"] == pytest.approx(2 * (8 + 8 + 16) / (24 + 24 + 32))


def test_a_prediction_across_touching_glomeruli_is_cut_along_their_border():
    objects = [(1, 0, 0, 6, 6), (2, 6, 0, 12, 6)]
    dice = of(objects, predicted((0, 0, 9, 6))).by_class()
    assert dice["normal"] == 1
    assert dice["segmental_sclerosis"] == pytest.approx(2 * 18 / (18 + 36))


def test_what_lies_between_two_glomeruli_goes_to_the_nearer():
    objects = [(1, 0, 0, 4, 4), (2, 10, 0, 14, 4)]
    result = of(objects, predicted((0, 0, 6, 4), (9, 0, 14, 4)))  # 2 columns too many on the left, 1 on the right
    assert result.predicted_px.tolist() == [24, 20]
    assert result.stray_px == 0


def test_what_is_farther_than_the_margin_is_stray_and_in_no_dice():
    objects = [(1, 0, 0, 4, 4)]
    wide = predicted((0, 0, 12, 4))
    for margin_um, columns in ((0, 0), (1.9, 3), (2, 4), (100, 8)):  # at 0.5 um/px, measured between pixel centres
        result = of(objects, wide, mpp=0.5, margin_um=margin_um)
        assert result.predicted_px.tolist() == [16 + 4 * columns]
        assert result.stray_px == 4 * (8 - columns)


def test_a_missed_class_is_0_and_an_absent_one_is_not_a_number():
    dice = of([(2, 0, 0, 4, 4)], predicted((20, 0, 24, 4))).by_class()
    assert dice["segmental_sclerosis"] == dice["glomerulus"] == 0
    assert math.isnan(dice["normal"])


@pytest.mark.parametrize("prediction", [predicted(), predicted((0, 0, 5, 5))])
def test_an_image_without_glomeruli_has_no_dice_and_all_of_its_prediction_is_stray(prediction):
    result = of([], prediction)
    assert all(math.isnan(value) for value in result.by_class().values())
    assert result.by_glomerulus().shape == (0,)
    assert result.stray_px == prediction.sum()


def test_what_lies_on_an_ignored_object_does_not_count():
    objects = [(1, 0, 0, 4, 4), (255, 4, 0, 8, 4)]
    assert of(objects, predicted((0, 0, 8, 4))).by_class()["normal"] == 1
    assert of(objects, predicted((0, 0, 8, 4))).stray_px == 0


def test_a_hidden_glomerulus_is_left_out():
    result = of([(1, 1, 1, 3, 3), (3, 0, 0, 4, 4)], predicted((0, 0, 4, 4)))
    assert result.number.tolist() == [2]
    assert math.isnan(result.by_class()["normal"])


def test_rasters_that_do_not_belong_together_are_refused():
    truth = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match="shapes differ"):
        stratified_dice(truth, truth, truth[:2], mpp=1, margin_um=1)
    with pytest.raises(ValueError, match="disagree"):
        stratified_dice(truth, truth, np.eye(4, dtype=np.int32), mpp=1, margin_um=1)


@st.composite
def images(draw):
    """Prediction, truth and instances with rare ties: few annotated pixels, anywhere."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    instances = random.integers(1, 6, shape) * (random.random(shape) < draw(st.sampled_from([0.05, 0.3, 0.9])))
    label = np.array([0, *random.integers(1, 4, 5)])
    truth = label[instances].astype(np.uint8)
    truth[(instances == 0) & (random.random(shape) < 0.2)] = 255
    return random.random(shape) < 0.5, truth, instances.astype(np.int32)


def equation(prediction, truth, instances, margin_px: float, tie) -> dict[str, float]:
    """The docstring's equation, pixel by pixel; `tie` (min or max) chooses among equally near glomeruli by class."""
    both, sizes = np.zeros(4), np.zeros(4)
    annotated = np.argwhere(instances)
    for at in np.ndindex(*truth.shape):
        if truth[at] in (1, 2, 3):
            sizes[truth[at]] += 1
        if not prediction[at] or truth[at] == 255 or not len(annotated):
            continue
        distance = np.hypot(*(annotated - at).T)
        if distance.min() <= margin_px:
            nearest = tie(truth[tuple(a)] for a in annotated[distance == distance.min()])
            sizes[nearest] += 1
            both[nearest] += truth[at] == nearest and instances[at] > 0
    dice = {n: 2 * both[i] / sizes[i] if (truth == i).any() else np.nan for i, n in enumerate(CLASS_NAMES, 1)}
    any_class = ((truth > 0) & (truth < 4)).any()
    return {"glomerulus": 2 * both.sum() / sizes.sum() if any_class else np.nan, **dice}


@settings(max_examples=150, deadline=None)
@given(images(), st.sampled_from([0.0, 1.0, 2.5, math.inf]))
def test_dice_is_that_of_the_equation(image, margin_px):
    found = stratified_dice(*image, mpp=0.5, margin_um=margin_px * 0.5).by_class()
    one, other = (equation(*image, margin_px, tie) for tie in (min, max))
    assert found["glomerulus"] == pytest.approx(one["glomerulus"], rel=1e-6, nan_ok=True)
    if one == pytest.approx(other, nan_ok=True):  # no tie between classes: the equation has one answer
        assert found == pytest.approx(one, rel=1e-6, nan_ok=True)
    for name, value in found.items():
        assert math.isnan(value) == math.isnan(one[name])
        assert math.isnan(value) or 0 <= value <= 1


@settings(max_examples=60, deadline=None)
@given(images())
def test_without_a_margin_dice_of_all_is_the_plain_dice(image):
    prediction, truth, _ = image
    plain = class_dice(prediction.astype(np.uint8), truth)["glomerulus"]
    assert stratified_dice(*image, mpp=1, margin_um=math.inf).by_class()["glomerulus"] == pytest.approx(
        plain, rel=1e-6, nan_ok=True
    )


@settings(max_examples=60, deadline=None)
@given(images())
def test_every_predicted_pixel_belongs_to_one_glomerulus_or_is_stray(image):
    prediction, truth, _ = image
    result = stratified_dice(*image, mpp=1, margin_um=2)
    assert result.predicted_px.sum() + result.stray_px == (prediction & (truth != 255)).sum()
    assert (result.common_px <= np.minimum(result.predicted_px, result.true_px)).all()
