"""Detection and panoptic quality against cases worked out by hand, and against MONAI's raster metric."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_panoptic_quality
from shapely import affinity, box

from bundle.classes import CLASS_NAMES
from bundle.data.annotations import Annotation, Glomerulus
from bundle.evaluation.instances import Detection, InstanceScores, instance_scores

NORMAL, SEGMENTAL, GLOBAL, IGNORE = 1, 2, 3, 255


def annotation(*objects, **more) -> Annotation:
    """Objects as (label, left, top, right, bottom)."""
    return Annotation(tuple(Glomerulus(box(*corners), label) for label, *corners in objects), **more)


def counts(detection: Detection) -> tuple[int, int, int]:
    return detection.true_positives, detection.false_positives, detection.false_negatives


def scores_of(prediction: list, truth: list, name: str = "glomerulus") -> Detection:
    return instance_scores(annotation(*prediction), annotation(*truth)).detection[name]


def test_measures_are_those_worked_out_by_hand():
    truth = [(NORMAL, 0, 0, 10, 10), (NORMAL, 20, 0, 30, 10), (NORMAL, 40, 0, 50, 10)]
    prediction = [
        (NORMAL, 0, 0, 10, 10),  # IoU 1
        (NORMAL, 20, 0, 30, 8),  # IoU 80 / 100
        (NORMAL, 46, 0, 56, 10),  # IoU 40 / 160: no match
        (NORMAL, 90, 90, 99, 99),  # nothing there
    ]
    found = scores_of(prediction, truth)
    assert counts(found) == (2, 2, 1)
    assert found.precision == pytest.approx(2 / 4)
    assert found.recall == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(2 / (2 + 2 / 2 + 1 / 2))
    assert found.segmentation_quality == pytest.approx(0.9)
    assert found.panoptic_quality == pytest.approx(1.8 / 3.5)
    assert found.count_error == 1


def test_an_iou_of_exactly_one_half_is_no_match_and_just_above_is_one():
    truth = [(NORMAL, 0, 0, 10, 10)]
    assert counts(scores_of([(NORMAL, 0, 0, 10, 5)], truth)) == (0, 1, 1)
    assert counts(scores_of([(NORMAL, 0, 0, 10, 5.01)], truth)) == (1, 0, 0)


def test_a_misnamed_glomerulus_is_found_as_a_glomerulus_and_wrong_in_both_classes():
    scores = instance_scores(annotation((GLOBAL, 0, 0, 10, 10)), annotation((NORMAL, 0, 0, 10, 10)))
    assert {name: counts(d) for name, d in scores.detection.items()} == {
        "glomerulus": (1, 0, 0),
        "normal": (0, 0, 1),
        "segmental_sclerosis": (0, 0, 0),
        "global_sclerosis": (0, 1, 0),
    }


def test_nothing_to_find_and_nothing_found_is_not_a_number():
    row = instance_scores(annotation(), annotation()).row()
    assert row.pop("ignored") == 0
    for name, value in row.items():
        assert value == 0 if name.startswith("count_error") else math.isnan(value), name


def test_a_false_positive_of_a_class_that_the_slide_lacks_is_0_not_nan():
    found = scores_of([(GLOBAL, 0, 0, 1, 1)], [], "global_sclerosis")
    assert (found.f1, found.panoptic_quality, found.precision) == (0, 0, 0)
    assert math.isnan(found.recall)
    assert math.isnan(found.segmentation_quality)


def test_a_missed_class_is_0():
    found = scores_of([], [(GLOBAL, 0, 0, 1, 1)], "global_sclerosis")
    assert (found.f1, found.panoptic_quality, found.recall, found.count_error) == (0, 0, 0, -1)
    assert math.isnan(found.precision)


def test_two_touching_glomeruli_merged_into_one_are_a_false_positive_and_two_misses():
    truth = [(NORMAL, 0, 0, 10, 10), (NORMAL, 10, 0, 20, 10)]
    merged = scores_of([(NORMAL, 0, 0, 20, 10)], truth)  # IoU with each exactly 1/2
    assert counts(merged) == (0, 1, 2)
    assert merged.count_error == -1


def test_a_merger_that_mostly_fits_the_larger_of_two_finds_it_and_misses_the_other():
    truth = [(NORMAL, 0, 0, 10, 10), (NORMAL, 10, 0, 14, 10)]
    merged = scores_of([(NORMAL, 0, 0, 14, 10)], truth)
    assert counts(merged) == (1, 0, 1)
    assert merged.iou_sum == pytest.approx(100 / 140)


def test_touching_glomeruli_kept_apart_are_both_found():
    truth = [(NORMAL, 0, 0, 10, 10), (SEGMENTAL, 10, 0, 20, 10)]
    assert counts(scores_of(truth, truth)) == (2, 0, 0)


def test_of_two_predictions_of_one_glomerulus_one_counts_as_false():
    truth = [(NORMAL, 0, 0, 10, 10)]
    found = scores_of([(NORMAL, 0, 0, 10, 9), (NORMAL, 0, 0, 10, 10)], truth)
    assert counts(found) == (1, 1, 0)
    assert found.iou_sum == pytest.approx(1)


@pytest.mark.parametrize(("left", "ignored"), [(4.9, 0), (5.0, 0), (5.1, 1)])
def test_a_prediction_mostly_on_an_ignored_object_is_not_judged(left, ignored):
    truth = annotation((IGNORE, 10, 0, 30, 10))
    prediction = annotation((NORMAL, left, 0, left + 10, 10))  # left / 10 of it on the ignored object
    scores = instance_scores(prediction, truth)
    assert scores.ignored == ignored
    assert counts(scores.detection["glomerulus"]) == (0, 1 - ignored, 0)


def test_an_ignored_object_under_a_glomerulus_does_not_hide_it():
    truth = annotation((IGNORE, -5, -5, 15, 15), (NORMAL, 0, 0, 10, 10))
    assert counts(instance_scores(annotation((NORMAL, 0, 0, 10, 10)), truth).detection["normal"]) == (1, 0, 0)


def test_an_ignored_object_is_not_missed_and_does_not_enter_the_percentage():
    truth = annotation((IGNORE, 0, 0, 10, 10), (GLOBAL, 20, 0, 30, 10))
    scores = instance_scores(annotation((NORMAL, 0, 0, 10, 10)), truth)
    assert counts(scores.detection["glomerulus"]) == (0, 0, 1)
    assert scores.ignored == 1
    assert scores.true_global_percent == 100


def test_outside_of_a_partial_annotation_nothing_is_false_except_on_its_background():
    background = annotation((0, 100, 0, 200, 100)).glomeruli
    truth = annotation((NORMAL, 0, 0, 10, 10), (IGNORE, 150, 0, 200, 100), complete=False, background=background)
    prediction = annotation(
        (NORMAL, 0, 0, 10, 10),  # the annotated one
        (NORMAL, 50, 50, 60, 60),  # nobody knows
        (NORMAL, 110, 10, 120, 20),  # on background: false
        (NORMAL, 160, 10, 170, 20),  # on an ignored object within the background
    )
    scores = instance_scores(prediction, truth)
    assert counts(scores.detection["glomerulus"]) == (1, 1, 0)
    assert scores.ignored == 2


def test_the_error_of_the_percentage_of_global_sclerosis_is_predicted_minus_true():
    places = [(i * 20, 0, i * 20 + 10, 10) for i in range(4)]
    truth = annotation(*((label, *p) for label, p in zip((NORMAL, NORMAL, SEGMENTAL, GLOBAL), places, strict=True)))
    prediction = annotation(*((label, *p) for label, p in zip((NORMAL, GLOBAL, GLOBAL), places[1:], strict=True)))
    scores = instance_scores(prediction, truth)
    assert scores.true_global_percent == pytest.approx(25)
    assert scores.predicted_global_percent == pytest.approx(200 / 3)
    assert scores.global_percent_error == pytest.approx(200 / 3 - 25)


def test_a_slide_without_predictions_has_no_predicted_percentage():
    scores = instance_scores(annotation(), annotation((GLOBAL, 0, 0, 1, 1)))
    assert scores.true_global_percent == 100
    assert math.isnan(scores.global_percent_error)


def test_pooled_slides_are_the_sum_of_their_counts():
    first = instance_scores(annotation((NORMAL, 0, 0, 10, 8)), annotation((NORMAL, 0, 0, 10, 10)))
    second = instance_scores(annotation((NORMAL, 0, 0, 1, 1)), annotation((IGNORE, 0, 0, 9, 9), (GLOBAL, 20, 0, 30, 9)))
    pooled: InstanceScores = first + second
    assert pooled.detection["glomerulus"] == Detection(1, 0, 1, pytest.approx(0.8))
    assert pooled.ignored == 1
    assert pooled.true_global_percent == 50


@st.composite
def slides(draw):
    """Rectangles on a 3 x 3 chessboard of 12 px squares, so that none of a slide overlap; some touch."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    objects = []
    for i in range(9):
        left, top, right, bottom = random.integers([0, 0, 6, 6], [6, 6, 13, 13])
        x, y = 12 * (i % 3), 12 * (i // 3)
        if random.random() < 0.7:
            objects.append((int(random.integers(1, 4)), x + left, y + top, x + right, y + bottom))
    return objects


def raster(objects: list) -> torch.Tensor:
    image = torch.zeros((36, 36), dtype=torch.int)
    for number, (_, left, top, right, bottom) in enumerate(objects, 1):
        image[top:bottom, left:right] = number
    return image


@settings(max_examples=60, deadline=None)
@given(slides(), slides())
def test_counts_and_iou_are_those_of_monai_on_rasters(prediction, truth):
    scores = instance_scores(annotation(*prediction), annotation(*truth))
    for name, labels in [("glomerulus", (1, 2, 3)), *((n, (i,)) for i, n in enumerate(CLASS_NAMES, 1))]:
        pair = [raster([o for o in side if o[0] in labels]) for side in (prediction, truth)]
        tp, fp, fn, iou = compute_panoptic_quality(*pair, output_confusion_matrix=True).tolist()
        found = scores.detection[name]
        assert counts(found) == (tp, fp, fn)
        assert found.iou_sum == pytest.approx(iou, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(slides(), slides())
def test_swapping_prediction_and_truth_swaps_precision_and_recall_and_keeps_the_rest(one, other):
    there, back = (instance_scores(annotation(*a), annotation(*b)).detection for a, b in ((one, other), (other, one)))
    for name, d in there.items():
        assert d.precision == pytest.approx(back[name].recall, nan_ok=True)
        assert d.panoptic_quality == pytest.approx(back[name].panoptic_quality, nan_ok=True)
        assert d.count_error == -back[name].count_error


@settings(max_examples=60, deadline=None)
@given(slides(), slides(), st.floats(0.3, 4), st.floats(-1e5, 1e5))
def test_quality_is_bounded_factored_and_knows_no_scale_or_place(prediction, truth, scale, shift):
    predicted, true = annotation(*prediction), annotation(*truth)
    moved = [
        Annotation(
            tuple(
                Glomerulus(
                    affinity.translate(affinity.scale(g.polygon, scale, scale, origin=(0, 0)), shift, 0), g.label
                )
                for g in side.glomeruli
            )
        )
        for side in (predicted, true)
    ]
    elsewhere = instance_scores(*moved).detection
    for name, d in instance_scores(predicted, true).detection.items():
        assert d.recognition_quality == pytest.approx(d.f1, nan_ok=True)
        if d.true_positives:
            assert d.panoptic_quality == pytest.approx(d.segmentation_quality * d.recognition_quality, rel=1e-12)
            assert 0.5 < d.segmentation_quality <= 1
            harmonic = 2 * d.precision * d.recall / (d.precision + d.recall)
            assert d.f1 == pytest.approx(harmonic, rel=1e-12)
        if not any(abs(iou - 0.5) < 1e-6 for iou in ious(predicted, true)):
            assert counts(d) == counts(elsewhere[name])
            assert d.iou_sum == pytest.approx(elsewhere[name].iou_sum, rel=1e-6)


def ious(one: Annotation, other: Annotation) -> list[float]:
    pairs = [(a.polygon, b.polygon) for a in one.glomeruli for b in other.glomeruli]
    return [a.intersection(b).area / a.union(b).area for a, b in pairs]
