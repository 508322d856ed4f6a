"""HD95 against its definition, written with all pairs of boundary pixels."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.classes import CLASS_NAMES
from bundle.evaluation.boundary import hd95_um


def boundary(mask: np.ndarray) -> np.ndarray:
    """Coordinates of the pixels with a 4-neighbour outside, shape (n, 2)."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.argwhere(mask & ~inner)


def definition(one: np.ndarray, other: np.ndarray, mpp: float) -> float:
    if not one.any() or not other.any():
        return math.nan
    distance = mpp * np.hypot(*np.moveaxis(boundary(one)[:, None] - boundary(other)[None], -1, 0))
    return max(np.percentile(distance.min(axis), 95) for axis in (0, 1))


def square(left: int, side: int = 6, label: int = 1) -> np.ndarray:
    image = np.zeros((12, 30), np.uint8)
    image[3 : 3 + side, left : left + side] = label
    return image


def test_a_perfect_segmentation_is_at_distance_0():
    assert hd95_um(square(3), square(3), mpp=0.5)["normal"] == 0


def test_pixels_that_face_each_other_are_apart_in_micrometres():
    one, other = np.zeros((8, 20), np.uint8), np.zeros((8, 20), np.uint8)
    one[:, 2], other[:, 12] = 3, 3
    assert hd95_um(one, other, mpp=0.25) == pytest.approx(
        {"glomerulus": 2.5, "normal": math.nan, "segmental_sclerosis": math.nan, "global_sclerosis": 2.5}, nan_ok=True
    )


def test_a_percentile_overlooks_a_spur():
    truth, spurred = square(2), square(2)
    truth[0, :20] = spurred[0, :20] = 1  # 20 more boundary pixels that agree
    spurred[6, 8] = 1  # one of 41 sticks out by a pixel
    assert hd95_um(spurred, truth, mpp=1)["normal"] == 0


def test_touching_classes_are_measured_each_by_itself():
    truth = square(3) + square(9, label=2)
    moved = square(3) + square(11, label=2)
    distance = hd95_um(moved, truth, mpp=1)
    assert distance["normal"] == 0
    assert distance["segmental_sclerosis"] == 2


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [
        (np.zeros((12, 30), np.uint8), square(3)),
        (square(3), np.zeros((12, 30), np.uint8)),
        (np.zeros((12, 30), np.uint8), np.zeros((12, 30), np.uint8)),
        (square(3), np.full((12, 30), 255, np.uint8)),
    ],
    ids=["missed", "absent", "both", "unlabelled"],
)
def test_a_distance_to_or_from_nothing_is_not_a_number(prediction, truth):
    assert all(math.isnan(value) for value in hd95_um(prediction, truth, mpp=1).values())


def test_a_false_positive_on_unlabelled_ground_does_not_count():
    truth = square(3)
    truth[:, 15:] = 255
    assert hd95_um(square(3) + square(20), truth, mpp=1)["normal"] == 0


@st.composite
def pairs(draw):
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.tuples(st.integers(2, 10), st.integers(2, 10)))
    known = draw(st.sampled_from([[0], [0, 1], [0, 1, 1, 1], [0, 1, 2, 3], [0, 1, 255]]))
    return random.choice([0, 1, 1, 2], shape).astype(np.uint8), random.choice(known, shape).astype(np.uint8)


@settings(max_examples=100, deadline=None)
@given(pairs(), st.sampled_from([0.25, 0.5, 1.6]))
def test_hd95_is_that_of_the_definition(pair, mpp):
    prediction, truth = pair
    known, found = truth != 255, hd95_um(prediction, truth, mpp=mpp)
    expected = {"glomerulus": definition((prediction > 0) & known, (truth > 0) & known, mpp)}
    expected |= {n: definition((prediction == i) & known, truth == i, mpp) for i, n in enumerate(CLASS_NAMES, 1)}
    assert found == pytest.approx(expected, rel=1e-6, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(pairs())
def test_distance_is_the_same_both_ways(pair):
    prediction, truth = pair[0], np.where(pair[1] == 255, 0, pair[1]).astype(np.uint8)
    assert hd95_um(prediction, truth, mpp=1) == pytest.approx(hd95_um(truth, prediction, mpp=1), nan_ok=True)
