"""The choice of prompts: quotas by property, k-centre greedy against every possible choice."""

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bundle.classes import CLASS_NAMES
from bundle.data.datalist import DatalistItem
from bundle.errors import PromptError
from bundle.prompts import (
    PromptEntry,
    choose_prompts,
    class_quota,
    covering_radii,
    k_centre_greedy,
)

STAINS = ("HE", "PAMS", "PAS")
POOLS = st.lists(st.tuples(st.sampled_from(CLASS_NAMES), st.sampled_from(STAINS)), min_size=1, max_size=40)
METHODS = st.sampled_from(["informative", "random"])


def entry(class_name, stain):
    return PromptEntry(DatalistItem(Path("a.svs"), "P", stain, label=Path("a.geojson")), class_name, 1)


def pool_of(pairs):
    return [entry(*pair) for pair in pairs]


def points(count, seed=0, size=3):
    return np.random.default_rng(seed).normal(size=(count, size))


@given(POOLS, st.integers(1, 40), METHODS, st.integers(0, 5))
def test_classes_are_alike_as_far_as_the_pool_has_them(pairs, count, method, seed):
    assume(count <= len(pairs))
    pool = pool_of(pairs)

    chosen = choose_prompts(pool, count, points(len(pool), seed), method=method, seed=seed)

    assert len(chosen) == len(set(chosen)) == count
    held = Counter(e.class_name for e in pool)
    taken = Counter(pool[i].class_name for i in chosen)
    most = max(taken.values())
    # A class has less than another by more than one only where it has no more candidates.
    assert all(taken[name] >= most - 1 or taken[name] == held[name] for name in held)


@given(POOLS, METHODS, st.data())
def test_a_quota_that_is_given_always_holds(pairs, method, data):
    pool = pool_of(pairs)
    held = Counter(e.class_name for e in pool)
    quota = {name: data.draw(st.integers(0, held[name])) for name in held}
    assume(sum(quota.values()))

    chosen = choose_prompts(pool, sum(quota.values()), points(len(pool)), method=method, quota=quota)

    assert Counter(pool[i].class_name for i in chosen) == Counter(quota)


@given(st.integers(1, 12), st.integers(4, 6))
def test_stains_are_alike_within_a_class_and_in_all(count, per_stratum):
    pool = pool_of((name, stain) for name in CLASS_NAMES for stain in STAINS for _ in range(per_stratum))

    chosen = choose_prompts(pool, count, points(len(pool)))

    overall = Counter(pool[i].item.stain for i in chosen)
    assert len(overall) == min(count, len(STAINS))
    for name in CLASS_NAMES:
        taken = Counter(pool[i].item.stain for i in chosen if pool[i].class_name == name)
        counts = [taken[stain] for stain in STAINS]
        assert max(counts) - min(counts) <= 1
    assert max(overall[s] for s in STAINS) - min(overall[s] for s in STAINS) <= 1


def test_a_class_of_one_stain_leaves_the_other_stains_to_the_other_classes():
    pool = pool_of([("normal", "HE"), ("normal", "PAS"), ("global_sclerosis", "HE")])
    chosen = choose_prompts(pool, 2, points(3))
    assert {pool[i].item.stain for i in chosen} == {"HE", "PAS"}


@pytest.mark.parametrize("method", ["informative", "random"])
def test_the_first_prompts_are_balanced_too(method):
    pool = pool_of((name, "PAS") for name in CLASS_NAMES for _ in range(8))
    chosen = choose_prompts(pool, 12, points(len(pool)), method=method)
    for count in (3, 6, 9, 12):
        assert set(Counter(pool[i].class_name for i in chosen[:count]).values()) == {count // 3}


def test_more_informative_prompts_begin_with_the_fewer_ones():
    pool = pool_of((name, "PAS") for name in CLASS_NAMES for _ in range(8))
    features = points(len(pool))
    assert choose_prompts(pool, 12, features)[:6] == choose_prompts(pool, 6, features)


def test_random_choice_depends_on_the_seed_and_informative_does_not():
    pool = pool_of((name, "PAS") for name in CLASS_NAMES for _ in range(8))
    features = points(len(pool))
    drawn = [choose_prompts(pool, 6, method="random", seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert choose_prompts(pool, 6, features, seed=0) == choose_prompts(pool, 6, features, seed=1)


def test_random_choice_is_even_over_a_class():
    pool = pool_of([("normal", "PAS")] * 5)
    counts = Counter(i for seed in range(2000) for i in choose_prompts(pool, 2, method="random", seed=seed))
    np.testing.assert_allclose([counts[i] / 2000 for i in range(5)], 0.4, atol=0.05)


def test_the_scale_of_a_feature_does_not_matter():
    pool = pool_of([("normal", "PAS")] * 20)
    features = points(20)
    assert choose_prompts(pool, 6, features) == choose_prompts(pool, 6, features * [1, 1000, 0.001] + 5)


def radius(features, centres):
    return np.linalg.norm(features[:, None] - features[list(centres)], axis=2).min(1).max()


@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(1, 4))
def test_k_centre_greedy_is_at_most_twice_as_far_as_the_best_of_all_choices(seed, size, count):
    assume(count <= size)
    features = points(size, seed, 2)

    chosen = k_centre_greedy(features, ["PAS"] * size, {"PAS": count})

    best = min(radius(features, centres) for centres in combinations(range(size), count))
    assert radius(features, chosen) <= 2 * best + 1e-12


@given(st.integers(0, 10**6))
def test_k_centre_greedy_takes_what_is_farthest_from_the_chosen_ones(seed):
    features = points(10, seed, 2)
    first, *others = k_centre_greedy(features, ["PAS"] * 10, {"PAS": 6})
    assert first == np.linalg.norm(features - features.mean(0), axis=1).argmin()
    chosen = [first]
    for index in others:
        distances = [min(np.linalg.norm(features[i] - features[j]) for j in chosen) for i in range(10)]
        assert index == int(np.argmax(distances))
        chosen.append(index)


def test_k_centre_greedy_on_a_line_by_hand():
    features = np.array([[0.0], [1.0], [5.0], [6.0], [13.0]])  # mean 5
    assert k_centre_greedy(features, ["PAS"] * 5, {"PAS": 4}) == [2, 4, 0, 1]
    # The farthest, 13, is HE, of which none may be taken.
    assert k_centre_greedy(features, ["PAS"] * 4 + ["HE"], {"PAS": 2}) == [2, 0]


def test_candidates_that_look_the_same_are_still_chosen_once_each():
    assert sorted(k_centre_greedy(np.zeros((4, 2)), ["PAS"] * 4, {"PAS": 4})) == [0, 1, 2, 3]


def test_the_covering_radius_is_of_each_class_in_standard_deviations():
    pool = pool_of([("normal", "PAS")] * 3 + [("global_sclerosis", "PAS")] * 3)
    features = np.array([[0.0], [1.0], [4.0], [10.0], [10.0], [10.0]])
    radii = covering_radii(pool, features, [1, 3])
    assert radii == {"normal": pytest.approx(3 / features.std()), "global_sclerosis": 0.0}


def test_what_the_pool_cannot_give_is_an_error():
    pool = pool_of([("normal", "PAS")] * 3 + [("global_sclerosis", "PAS")])
    for arguments, message in (
        ({"count": 5}, "5 are asked for, the pool holds 4 candidates"),
        ({"count": 0}, "ask for 1 or more"),
        ({"count": 2, "quota": {"global_sclerosis": 2}}, "2 global_sclerosis prompts are asked for, the pool holds 1"),
        ({"count": 1, "quota": {"segmental_sclerosis": 1}}, "the pool holds 0"),
        ({"count": 3, "quota": {"normal": 2}}, "add up"),
        ({"count": 1, "quota": {"normal": 2, "global_sclerosis": -1}}, "add up"),
        ({"count": 1, "quota": {"sclerotic": 1}}, "unknown class 'sclerotic'"),
        ({"count": 1, "method": "best"}, "no method 'best'; choose one of informative, random"),
        ({"count": 1, "features": None}, "features are needed"),
    ):
        with pytest.raises(PromptError, match=message):
            choose_prompts(pool, **{"features": points(4), **arguments})


def test_6_are_2_and_12_are_4_of_each_class():
    held = dict.fromkeys(CLASS_NAMES, 50)
    assert class_quota(held, 6) == dict.fromkeys(CLASS_NAMES, 2)
    assert class_quota(held, 12) == dict.fromkeys(CLASS_NAMES, 4)
    assert class_quota(held, 7) == {"normal": 3, "segmental_sclerosis": 2, "global_sclerosis": 2}
    assert class_quota({"normal": 50, "global_sclerosis": 3}, 12) == {"normal": 9, "global_sclerosis": 3}
