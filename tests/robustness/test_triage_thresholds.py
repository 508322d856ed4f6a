"""Triage on made-up scores: never a sclerotic glomerulus ruled out, never another ruled in; and how sure that is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.evaluation.triage import (
    Proportion,
    Thresholds,
    abstention_threshold,
    claims,
    decisions,
    find_thresholds,
    held_out,
)

OBJECTS = st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=40)


def arrays(objects):
    scores = np.array([score / 20 for score, _ in objects])
    return scores, np.array([label for _, label in objects], bool)


@settings(max_examples=80, deadline=None)
@given(OBJECTS)
def test_nothing_is_ruled_out_or_in_wrongly_and_no_safe_threshold_decides_more(objects):
    scores, sclerotic = arrays(objects)
    decided = decisions(find_thresholds(scores, sclerotic), scores)
    assert not sclerotic[decided == "rule_out"].any()
    assert sclerotic[decided == "rule_in"].all()
    if sclerotic.any() and not sclerotic.all():
        # By hand: every other glomerulus below all sclerotic ones, and the mirror image.
        assert (decided == "rule_out").sum() == sum(s < min(scores[sclerotic]) for s in scores[~sclerotic])
        assert (decided == "rule_in").sum() == sum(s > max(scores[~sclerotic]) for s in scores[sclerotic])


def test_kinds_that_are_parted_perfectly_leave_the_gap_for_review():
    thresholds = find_thresholds(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True]))
    assert thresholds == Thresholds(0.2, 0.8)
    assert [thresholds.decide(score) for score in (0.2, 0.5, 0.8, float("nan"))] == [
        "rule_out", "review", "rule_in", "review",
    ]  # fmt: skip


@pytest.mark.parametrize("sclerotic", [True, False])
def test_without_both_kinds_nothing_is_decided(sclerotic):
    assert find_thresholds(np.array([0.1, 0.9]), np.array([sclerotic] * 2)) == Thresholds(None, None)


def test_the_interval_of_all_of_n_is_the_analytic_one():
    for n in (1, 10, 191):
        low, high = Proportion(n, n).interval
        assert low == pytest.approx(0.025 ** (1 / n))
        assert high == 1
    assert Proportion(0, 0).as_dict() == {"successes": 0, "trials": 0, "value": None, "low": None, "high": None}


def test_claims_count_what_was_decided():
    decided = np.array(["rule_out", "rule_out", "review", "rule_in", "rule_in"])
    found = claims(decided, np.array([False, True, True, True, False]))
    assert (found["sensitivity"]["successes"], found["sensitivity"]["trials"]) == (2, 3)
    assert found["ruled_out_not_sclerotic"]["value"] == 0.5
    assert found["ruled_in_sclerotic"]["value"] == 0.5
    assert (found["for_review"], found["objects"]) == (1, 5)


def test_a_patient_unlike_the_others_shows_only_when_left_out():
    scores = np.array([0.1, 0.2, 0.8, 0.9, 0.05])
    sclerotic = np.array([False, False, True, True, True])
    patients = ["a", "b", "a", "b", "odd"]
    own = claims(decisions(find_thresholds(scores, sclerotic), scores), sclerotic)
    elsewhere = claims(held_out(scores, sclerotic, patients), sclerotic)
    assert own["sensitivity"]["value"] == 1
    assert elsewhere["sensitivity"]["successes"] == 2


@settings(max_examples=80, deadline=None)
@given(OBJECTS, st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_the_sure_are_as_right_as_was_asked_and_as_many_as_can_be(objects, accuracy):
    confidence, correct = arrays(objects)
    least = abstention_threshold(confidence, correct, accuracy)
    good = [t for t in np.unique(confidence) if correct[confidence >= t].mean() >= accuracy]
    assert least == (min(good) if good else None)
