"""Intervals and tests against enumerated bootstraps and sign-flips."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.errors import DatalistError
from bundle.evaluation.statistics import bootstrap_interval, bootstrap_ratio, paired_test, paired_tests

NAN = math.nan


def enumerated(values: list[float], patients: list[str]) -> np.ndarray:
    """The mean over images of every possible draw of patients with replacement, ascending."""
    of = {p: [v for v, q in zip(values, patients, strict=True) if p == q] for p in dict.fromkeys(patients)}
    draws = itertools.product(of, repeat=len(of))
    return np.sort([np.mean([v for p in draw for v in of[p]]) for draw in draws])


def test_the_interval_is_that_of_all_possible_draws_of_patients():
    # 4 patients of unequal numbers of images: 256 draws; the 2.5 % and 97.5 % points lie well inside of atoms
    values, patients = [0.9, 0.8, 0.7, 0.2, 0.3, 0.95], ["a", "a", "b", "c", "c", "d"]
    found = bootstrap_interval(values, patients)
    low, high = np.quantile(enumerated(values, patients), [0.025, 0.975], method="inverted_cdf")
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-6)
    assert found.mean == pytest.approx(np.mean(values))
    assert (found.images, found.patients) == (6, 4)


def test_many_images_of_one_patient_make_the_interval_no_narrower():
    few = bootstrap_interval([0.2, 0.4, 0.6, 0.8], list("abcd"))
    many = bootstrap_interval(np.repeat([0.2, 0.4, 0.6, 0.8], 50), np.repeat(list("abcd"), 50))
    assert (many.low, many.high) == pytest.approx((few.low, few.high))


def test_the_same_seed_gives_the_same_interval_and_the_level_its_width():
    values, patients = np.random.default_rng(1).random(40), [str(i // 2) for i in range(40)]
    first = bootstrap_interval(values, patients, seed=3)
    assert bootstrap_interval(values, patients, seed=3) == first
    narrow = bootstrap_interval(values, patients, seed=3, level=0.5)
    assert first.low < narrow.low < first.mean < narrow.high < first.high


def test_the_interval_covers_the_normal_approximation_for_many_patients():
    values = np.random.default_rng(0).normal(0.8, 0.1, 400)
    found = bootstrap_interval(values, [str(i) for i in range(400)])
    half = 1.959964 * values.std() / 20
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=5e-4)


def test_absent_values_do_not_count_nor_do_patients_with_nothing_else():
    found = bootstrap_interval([0.5, NAN, 0.7, NAN], ["a", "a", "b", "c"])
    assert found == bootstrap_interval([0.5, 0.7], ["a", "b"])
    assert found.patients == 2


def test_one_patient_has_a_mean_and_no_interval_and_none_has_neither():
    one = bootstrap_interval([0.5, 0.7], ["a", "a"])
    assert one.mean == pytest.approx(0.6)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    none = bootstrap_interval([NAN], ["a"])
    assert math.isnan(none.mean)
    assert (none.images, none.patients) == (0, 0)
    assert bootstrap_interval([], []).images == 0


def test_values_and_patients_must_belong_together():
    with pytest.raises(ValueError, match="2 values of 1 patients"):
        bootstrap_interval([0.1, 0.2], ["a"])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcde")), min_size=2, max_size=12))
def test_the_interval_lies_between_the_worst_and_the_best_patient(rows):
    values, patients = [v for v, _ in rows], [p for _, p in rows]
    found = bootstrap_interval(values, patients, resamples=200)
    means = pd.Series(values).groupby(patients).mean()
    if len(means) > 1:
        assert means.min() - 1e-9 <= found.low <= found.high <= means.max() + 1e-9


def sign_flip_p(differences: list[float]) -> float:
    """Two-sided p of the signed-rank sum over all signs; no ties in |difference|."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    signs = np.array(list(itertools.product((0, 1), repeat=len(ranks))))
    null, seen = signs @ ranks, ranks[np.array(differences) > 0].sum()
    return min(1, 2 * min((null <= seen).mean(), (null >= seen).mean()))


def test_p_is_that_of_all_sign_flips_of_patients_means():
    differences = [0.05, 0.11, -0.02, 0.2, 0.08, 0.31, -0.04]
    second = np.linspace(0.3, 0.6, 7)
    first = second + differences
    # two images a patient, around its mean: only the means may count
    pair, patients = np.array([0.01, -0.01]), np.repeat(list("abcdefg"), 2)
    found = paired_test((first[:, None] + pair).ravel(), np.repeat(second, 2), patients)
    assert found.p == pytest.approx(sign_flip_p(differences), rel=1e-6)
    assert found.median_difference == pytest.approx(0.08)
    assert (found.images, found.patients) == (14, 7)


def test_six_patients_all_better_is_the_smallest_p_that_six_can_give():
    found = paired_test(np.arange(1, 7) / 10, np.zeros(6), list("abcdef"))
    assert found.p == pytest.approx(2 / 2**6)


def test_fewer_than_six_patients_have_no_p_but_a_difference():
    found = paired_test(np.arange(1, 6) / 10, np.zeros(5), list("abcde"))
    assert math.isnan(found.p)
    assert found.median_difference == pytest.approx(0.3)


def test_equal_models_have_no_p_and_difference_0():
    values = np.linspace(0, 1, 10)
    found = paired_test(values, values, list("abcdefghij"))
    assert math.isnan(found.p)
    assert found.median_difference == 0
    assert found.patients == 10


def test_patients_without_a_difference_are_counted_but_not_ranked():
    first = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0, 0])
    found = paired_test(first, np.zeros(8), list("abcdefgh"))
    assert found.patients == 8
    assert found.p == pytest.approx(2 / 2**6)


def test_images_absent_in_either_model_are_left_out_of_both():
    found = paired_test([0.9, NAN, 0.5], [0.5, 0.1, NAN], ["a", "a", "b"])
    assert (found.images, found.patients) == (1, 1)
    assert found.median_difference == pytest.approx(0.4)
    nothing = paired_test([NAN], [0.5], ["a"])
    assert math.isnan(nothing.median_difference)
    assert nothing.patients == 0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=6, max_size=9))
def test_swapping_the_models_keeps_p_and_turns_the_sign(rows):
    first, second = np.array(rows).T
    patients = [str(i) for i in range(len(rows))]
    there, back = paired_test(first, second, patients), paired_test(second, first, patients)
    assert there.p == pytest.approx(back.p, nan_ok=True)
    assert math.isnan(there.p) or 0 < there.p <= 1
    assert there.median_difference == pytest.approx(-back.median_difference)


def test_a_pooled_ratio_is_that_of_the_sums_and_images_without_a_denominator_say_nothing():
    found = bootstrap_ratio([2, 0, 4, 0], [4, 2, 4, 0], list("abcd"))
    assert found.mean == pytest.approx(6 / 10)
    assert (found.images, found.patients) == (3, 3)
    assert 0 <= found.low < found.mean < found.high <= 1


def test_a_ratio_with_denominators_of_1_is_the_mean():
    values, patients = [0.1, 0.5, NAN, 0.9], list("aabb")
    assert bootstrap_ratio(values, [1, 1, 1, 1], patients) == bootstrap_interval(values, patients)


@pytest.fixture
def frame():
    """Eight patients, two stains; global sclerosis on HE alone."""
    random = np.random.default_rng(5)
    rows = [
        (f"s{i}", "", f"p{i // 2}", ("HE", "PAS")[i % 2], random.random(), random.random() if i % 2 == 0 else NAN)
        for i in range(16)
    ]
    return pd.DataFrame(rows, columns=["slide", "crop", "patient", "stain", "dice_normal", "dice_global_sclerosis"])


def test_models_are_compared_image_by_image_whatever_the_order(frame):
    better = frame.assign(dice_normal=frame["dice_normal"] + 0.1).sample(frac=1, random_state=1)
    table = paired_tests(better, frame).set_index("measure")
    assert table.loc["dice_normal", "median_difference"] == pytest.approx(0.1)
    assert table.loc["dice_normal", "p"] == pytest.approx(2 / 2**8, rel=1e-6)
    assert table.loc["dice_global_sclerosis", ["images", "patients"]].tolist() == [8, 8]
    assert math.isnan(table.loc["dice_global_sclerosis", "p"])


def test_tables_read_back_from_csv_compare_with_those_in_memory(frame, tmp_path):
    frame.to_csv(tmp_path / "dice.csv", index=False)
    found = paired_tests(pd.read_csv(tmp_path / "dice.csv"), frame)
    assert found["images"].tolist() == [16, 8]
    assert found["median_difference"].tolist() == pytest.approx([0, 0])


@pytest.mark.parametrize("spoil", [lambda f: f[1:], lambda f: pd.concat([f, f[:1]]), lambda f: f.assign(slide="x")])
def test_tables_of_different_images_are_refused(frame, spoil):
    with pytest.raises(DatalistError, match="not of the same images"):
        paired_tests(frame, spoil(frame))
    with pytest.raises(DatalistError, match="not of the same images"):
        paired_tests(spoil(frame), frame)
