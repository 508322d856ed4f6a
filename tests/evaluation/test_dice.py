"""Dice per class against the textbook's formula, written anew in numpy."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Engine

from bundle.classes import CLASS_NAMES
from bundle.evaluation import ClassDice, class_dice


def f1(prediction: np.ndarray, truth: np.ndarray) -> float:
    """2 TP / (2 TP + FP + FN); NaN where there is nothing to find."""
    tp = np.count_nonzero(prediction & truth)
    fp = np.count_nonzero(prediction & ~truth)
    fn = np.count_nonzero(~prediction & truth)
    return 2 * tp / (2 * tp + fp + fn) if truth.any() else np.nan


def expected_dice(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    prediction, truth = prediction[truth != 255], truth[truth != 255]
    by_class = {name: f1(prediction == i, truth == i) for i, name in enumerate(CLASS_NAMES, 1)}
    return {"glomerulus": f1(prediction > 0, truth > 0), **by_class}


@st.composite
def segmentations(draw):
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    known = draw(st.sampled_from([[0], [0, 1], [0, 255], [255], [0, 1, 2, 3], [0, 1, 3, 255], [2, 255]]))
    truth = random.choice(known, shape).astype(np.uint8)
    return random.integers(0, draw(st.integers(1, 4)), shape).astype(np.uint8), truth


@settings(max_examples=200, deadline=None)
@given(segmentations())
def test_dice_is_that_of_the_formula(pair):
    found, expected = class_dice(*pair), expected_dice(*pair)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-6)


def test_a_perfect_segmentation_has_dice_1():
    truth = np.array([[0, 1, 2, 3]], np.uint8)
    assert set(class_dice(truth, truth).values()) == {1.0}


def test_a_class_that_the_annotation_lacks_is_nan_whatever_was_predicted():
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    for prediction in (truth, np.array([[3, 3, 3, 3]], np.uint8)):
        assert np.isnan(class_dice(prediction, truth)["global_sclerosis"])


def test_a_class_that_was_missed_is_0():
    truth, prediction = np.array([[0, 2]], np.uint8), np.array([[0, 1]], np.uint8)
    found = class_dice(prediction, truth)
    assert found["segmental_sclerosis"] == 0
    assert found["glomerulus"] == 1  # found, though called something else


def test_what_lies_on_unlabelled_pixels_does_not_count():
    truth = np.array([[1, 1, 255, 255]], np.uint8)
    assert class_dice(np.array([[1, 1, 3, 1]], np.uint8), truth) == pytest.approx(
        class_dice(np.array([[1, 1, 0, 0]], np.uint8), truth), nan_ok=True
    )


def test_an_empty_slide_without_glomeruli_has_no_dice():
    empty = np.zeros((4, 4), np.uint8)
    assert all(np.isnan(value) for value in class_dice(empty, empty).values())


IMAGES = [
    # perfect normal, a global sclerosis missed, two false positives of segmental on background, one on unlabelled
    {
        "slide": "s1", "patient": "a", "stain": "PAS",
        "label": np.array([[1, 1, 3, 0, 0, 255]], np.uint8),
        "pred": np.array([[1, 1, 0, 2, 2, 2]], np.uint8),
    },
    # half of a normal found
    {
        "slide": "s2", "patient": "b", "stain": "HE",
        "label": np.array([[1, 1, 0, 0, 0, 0]], np.uint8),
        "pred": np.array([[1, 0, 0, 0, 0, 0]], np.uint8),
    },
    # nothing to find, one false positive
    {
        "slide": "s3", "patient": "b", "stain": "HE",
        "label": np.zeros((1, 6), np.uint8),
        "pred": np.array([[0, 0, 0, 0, 0, 1]], np.uint8),
    },
]  # fmt: skip


@pytest.fixture
def evaluated():
    """An engine that has run over `IMAGES` with a `ClassDice` named "dice", and the metric."""
    metric = ClassDice()
    engine = Engine(lambda _, image: {"pred": image["pred"], "label": image["label"]})
    metric.attach(engine, "dice")
    engine.run(IMAGES)
    return SimpleNamespace(metrics=engine.state.metrics, frame=metric.frame(), engine=engine)


def test_the_table_has_a_row_an_image_with_what_the_datalist_says_of_it(evaluated):
    assert evaluated.frame[["slide", "patient", "stain"]].to_numpy().tolist() == [
        ["s1", "a", "PAS"],
        ["s2", "b", "HE"],
        ["s3", "b", "HE"],
    ]
    assert set(evaluated.frame["crop"]) == {""}


def test_the_table_has_the_dice_of_every_image(evaluated):
    for row, image in zip(evaluated.frame.to_dict("records"), IMAGES, strict=True):
        for name, value in expected_dice(image["pred"], image["label"]).items():
            assert row[f"dice_{name}"] == pytest.approx(value, nan_ok=True)


def test_false_positives_are_counted_on_labelled_background_alone(evaluated):
    columns = [f"false_positive_px_{name}" for name in CLASS_NAMES]
    assert evaluated.frame[columns].to_numpy().tolist() == [[0, 2, 0], [0, 0, 0], [1, 0, 0]]


def test_the_value_is_the_mean_over_images_with_glomeruli(evaluated):
    union_1, union_2 = 2 * 2 / (2 * 2 + 2 + 1), 2 * 1 / (2 * 1 + 0 + 1)
    assert evaluated.metrics["dice"] == pytest.approx((union_1 + union_2) / 2)


def test_the_classes_means_are_metrics_and_nan_where_no_image_has_the_class(evaluated):
    assert evaluated.metrics["dice_normal"] == pytest.approx((1 + 2 / 3) / 2)
    assert evaluated.metrics["dice_global_sclerosis"] == 0
    assert np.isnan(evaluated.metrics["dice_segmental_sclerosis"])


def test_a_second_run_forgets_the_first(evaluated):
    evaluated.engine.run(IMAGES[:1])
    assert evaluated.engine.state.metrics["dice"] == pytest.approx(4 / 7)


def test_a_run_without_images_has_an_empty_table():
    assert len(ClassDice().frame()) == 0
    assert np.isnan(ClassDice().compute())
