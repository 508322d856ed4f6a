"""Ripley's K and nearest neighbours on patterns whose answers are known."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.findings.spatial import Clustering, Window, nearest_neighbours_um, ripley_k

STRIP = Window(np.ones((20, 200), bool), 10.0)
"""A biopsy core: 2,000 x 200 µm."""


def corner() -> tuple[Window, shapely.Geometry]:
    """An L of 600 µm, as a mask and as a polygon."""
    outline = shapely.box(0, 0, 600, 600).difference(shapely.box(200, 300, 600, 600))
    return Window.of_polygon(outline, 20.0), outline


@settings(max_examples=30, deadline=None)
@given(x=st.floats(-1999, 1999), y=st.floats(-199, 199))
def test_the_overlap_of_a_shifted_rectangle_is_a_rectangle(x: float, y: float) -> None:
    assert STRIP.overlap_um2(np.array([(x, y)]))[0] == pytest.approx((2000 - abs(x)) * (200 - abs(y)), abs=1e-3)


def test_a_polygon_makes_a_window_of_its_area() -> None:
    window, outline = corner()
    assert window.area_um2 == pytest.approx(outline.area)
    points = np.random.default_rng(0).uniform(-50, 650, (500, 2))
    assert (window.holds(points) == shapely.contains_xy(outline, points)).all()


def test_k_is_what_the_definition_gives_with_polygons() -> None:
    window, outline = corner()
    points = window.random_points(30, np.random.default_rng(1))
    total = 0.0
    for i, first in enumerate(points):
        for j, second in enumerate(points):
            if i != j and np.hypot(*(second - first)) <= 150:
                moved = shapely.transform(outline, lambda p, shift=second - first: p + shift)
                total += outline.area**2 / outline.intersection(moved).area
    assert ripley_k(points, window, 150.0) == pytest.approx(total / (30 * 29), rel=1e-6)


def test_in_a_narrow_core_k_is_right_on_average_only_with_its_correction() -> None:
    random = np.random.default_rng(0)
    radius, count = 150.0, 40
    patterns = [STRIP.random_points(count, random) for _ in range(300)]
    expected = np.pi * radius**2
    assert np.mean([ripley_k(p, STRIP, radius) for p in patterns]) == pytest.approx(expected, rel=0.05)
    pairs = [(np.hypot(*(p[:, None] - p).T) <= radius).sum() - count for p in patterns]
    assert np.mean(pairs) * STRIP.area_um2 / (count * (count - 1)) < 0.8 * expected


def test_the_nearest_neighbour_of_each_point_is_found() -> None:
    assert nearest_neighbours_um(np.array([(0.0, 0.0), (3.0, 4.0), (10.0, 4.0)])) == pytest.approx([5, 5, 7])


def test_clusters_and_lattices_are_told_from_chance() -> None:
    window = Window(np.ones((100, 100), bool), 20.0)
    random = np.random.default_rng(0)
    clumps = np.concatenate([random.normal(centre, 60, (12, 2)) for centre in random.uniform(300, 1700, (4, 2))])
    clustered = Clustering(radius_um=200.0)(clumps, window)
    assert clustered.ripley_k_ratio > 2
    assert clustered.ripley_p == pytest.approx(0.02)
    assert clustered.clark_evans < 0.8
    lattice = np.stack(np.meshgrid(np.arange(100, 2000, 250), np.arange(100, 2000, 250)), axis=-1).reshape(-1, 2)
    regular = Clustering(radius_um=200.0)(lattice.astype(float), window)
    assert regular.clark_evans > 1.5
    assert regular.ripley_k_ratio == 0
    assert regular.nearest_neighbour_um == 250


def test_chance_is_seldom_called_clustered() -> None:
    random = np.random.default_rng(0)
    test = Clustering(radius_um=200.0, simulations=39)
    p = [test(STRIP.random_points(20, random), STRIP).ripley_p for _ in range(80)]
    assert np.mean(np.array(p) <= 0.05) < 0.13  # 0.05 expected, 80 trials


def test_distances_need_no_window_but_the_rest_does() -> None:
    found = Clustering()(np.array([(0.0, 0.0), (30.0, 40.0)]), None)
    assert found.nearest_neighbour_um == 50
    assert np.isnan([found.clark_evans, found.ripley_k_ratio, found.ripley_p]).all()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_of_hardly_any_glomeruli_nothing_is_claimed(count: int) -> None:
    found = Clustering()(np.full((count, 2), 50.0) + np.arange(count)[:, None], STRIP)
    assert np.isnan([found.clark_evans, found.ripley_k_ratio, found.ripley_p]).all()
    assert np.isnan(found.nearest_neighbour_um) == (count < 2)


def test_glomeruli_outside_of_the_window_do_not_count_for_it() -> None:
    points = STRIP.random_points(15, np.random.default_rng(3))
    stray = np.vstack([points, [(100.0, 5000.0), (-20.0, 50.0)]])
    inside, all_of_them = Clustering()(points, STRIP), Clustering()(stray, STRIP)
    assert all_of_them.ripley_k_ratio == inside.ripley_k_ratio
