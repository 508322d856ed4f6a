"""From class maps to glomeruli: outlines against analytic shapes, classes by vote, odd objects."""

import tracemalloc
from itertools import combinations

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bundle.classes import GLOBAL, NORMAL, SEGMENTAL
from bundle.data.annotations import Annotation
from bundle.geometry import Size
from bundle.outputs.glomeruli import AREA, PROBABILITY, GlomerulusFinder, count_by_class
from bundle.stream import ClassMap

EVERYTHING = GlomerulusFinder(min_area_um2=0)
EXACT = GlomerulusFinder(min_area_um2=0, simplify=0)


def class_map(classes: np.ndarray, downsample: float = 4.0, foreground: np.ndarray | None = None) -> ClassMap:
    """A map of `classes`, sure of itself unless `foreground` (0..1) is given."""
    result = ClassMap.empty(Size(classes.shape[1], classes.shape[0]), downsample)
    result.classes[:] = classes
    result.foreground[:] = (classes > 0) * 255 if foreground is None else np.rint(foreground * 255)
    result.confidence[:] = np.where(classes > 0, result.foreground, 0)
    return result


def find(prediction: ClassMap, mpp: float | None = 0.5, finder: GlomerulusFinder = EVERYTHING) -> Annotation:
    """The glomeruli of a slide that the map covers to the last pixel."""
    width, height = (round(n * prediction.downsample) for n in (prediction.size.width, prediction.size.height))
    return finder(prediction, Size(width, height), mpp)


def empty(height: int = 60, width: int = 80) -> np.ndarray:
    return np.zeros((height, width), np.uint8)


def soft_disc(x: float, y: float, radius: float, height: int = 100, width: int = 100) -> np.ndarray:
    """The probability of a disc, 1/2 on its border: what a network makes of a sharp edge."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    return 1 / (1 + np.exp(np.hypot(columns - x, rows - y) - radius))


def disc_map(x: float, y: float, radius: float, **options: float) -> ClassMap:
    foreground = soft_disc(x, y, radius)
    return class_map((foreground >= 0.5).astype(np.uint8), foreground=foreground, **options)


@settings(max_examples=25, deadline=None)
@given(x=st.floats(35, 65), y=st.floats(35, 65), radius=st.floats(5, 30), downsample=st.floats(1, 20))
def test_a_disc_comes_back_with_its_place_and_area(x: float, y: float, radius: float, downsample: float) -> None:
    (found,) = find(disc_map(x, y, radius, downsample=downsample)).glomeruli
    truth = shapely.Point(x * downsample, y * downsample).buffer(radius * downsample, quad_segs=64)
    assert found.polygon.centroid.distance(truth.centroid) < 0.05 * downsample
    assert found.polygon.area == pytest.approx(truth.area, rel=0.03)
    assert found.polygon.hausdorff_distance(truth) < 0.25 * downsample


def test_a_disc_that_the_slide_cuts_reaches_the_slide_s_edge() -> None:
    prediction = disc_map(0, 50, 20)
    (found,) = find(prediction).glomeruli
    assert found.polygon.bounds[0] == 0
    edge = found.polygon.intersection(shapely.LineString([(0, 0), (0, 400)]))
    assert edge.length == pytest.approx(160, rel=0.01)
    assert found.polygon.area == pytest.approx(np.pi * 80**2 / 2, rel=0.01)


def test_an_object_that_fills_the_slide_is_the_slide() -> None:
    prediction = class_map(np.full((10, 13), NORMAL.index))
    # The last model pixels reach past the slide of 37 x 49 px.
    (found,) = EVERYTHING(prediction, Size(49, 37), 0.5).glomeruli
    assert found.polygon.equals(shapely.box(0, 0, 49, 37))


def test_the_outline_runs_at_the_map_s_threshold() -> None:
    foreground = soft_disc(50, 50, 20)
    radii = []
    for threshold in (0.2, 0.5, 0.8):
        prediction = ClassMap.empty(Size(100, 100), 4.0, threshold)
        prediction.foreground[:] = np.rint(foreground * 255)
        prediction.classes[:] = foreground >= threshold
        (found,) = find(prediction).glomeruli
        radii.append(np.sqrt(found.polygon.area / np.pi) / 4)
    # The probability is 1 / (1 + exp(r - 20)).
    assert radii == pytest.approx([20 - np.log(0.25), 20, 20 - np.log(4)], abs=0.15)


def test_an_object_has_the_class_of_most_of_its_pixels() -> None:
    classes = empty()
    classes[10:30, 10:30] = NORMAL.index
    classes[10:30, 10:22] = GLOBAL.index
    prediction = class_map(classes)
    prediction.confidence[classes == GLOBAL.index] = 204
    prediction.confidence[classes == NORMAL.index] = 51
    (found,) = find(prediction).glomeruli
    assert (found.label, found.name) == (GLOBAL.index, "global_sclerosis")
    assert found.properties["measurements"][PROBABILITY] == pytest.approx(0.8)
    assert np.unique(prediction.classes[10:30, 10:30]).tolist() == [GLOBAL.index]


def test_glomeruli_with_a_pixel_between_them_are_two() -> None:
    classes = empty()
    classes[10:30, 10:30] = NORMAL.index
    classes[10:30, 31:50] = GLOBAL.index
    found = find(class_map(classes)).glomeruli
    assert sorted(g.label for g in found) == [NORMAL.index, GLOBAL.index]
    assert not found[0].polygon.intersects(found[1].polygon)


@pytest.mark.parametrize("second", [np.s_[10:30, 30:49], np.s_[30:49, 30:49]])
def test_glomeruli_that_touch_by_a_side_or_a_corner_are_one(second: tuple[slice, slice]) -> None:
    classes = empty()
    classes[10:30, 10:30] = NORMAL.index
    classes[second] = GLOBAL.index
    (found,) = find(class_map(classes)).glomeruli
    assert found.label == NORMAL.index
    assert found.polygon.is_valid


def test_a_hole_is_filled_in_the_outline_and_in_the_map() -> None:
    classes = empty()
    classes[10:40, 10:40] = SEGMENTAL.index
    classes[20:30, 20:30] = 0
    prediction = class_map(classes)
    (found,) = find(prediction).glomeruli
    assert len(shapely.get_rings(found.polygon)) == 1
    assert found.polygon.contains(shapely.Point(100, 100))
    assert (prediction.classes[10:40, 10:40] == SEGMENTAL.index).all()
    assert found.properties["measurements"][PROBABILITY] == 1


@pytest.mark.parametrize("side", [30, 200])
def test_an_island_in_a_hole_belongs_to_the_object_around_it(side: int) -> None:
    classes = empty(300, 300)
    classes[20 : 28 + side, 20 : 28 + side] = NORMAL.index
    classes[24 : 24 + side, 24 : 24 + side] = 0
    classes[24 + side // 2, 24 + side // 2] = GLOBAL.index
    prediction = class_map(classes)
    (found,) = find(prediction).glomeruli
    assert found.label == NORMAL.index
    assert found.polygon.area == pytest.approx((8 + side) ** 2 * 16, rel=0.01)


def test_a_bay_that_is_open_to_the_slide_s_edge_is_no_hole() -> None:
    classes = empty()
    classes[0:30, 10:40] = NORMAL.index
    classes[0:20, 20:30] = 0
    (found,) = find(class_map(classes)).glomeruli
    assert not found.polygon.contains(shapely.Point(100, 40))


def test_a_single_pixel_is_an_object_unless_it_is_too_small() -> None:
    classes = empty()
    classes[5, 7] = GLOBAL.index
    (found,) = find(class_map(classes)).glomeruli
    assert found.polygon.contains(shapely.Point(30, 22))
    prediction = class_map(classes)  # 4 um²: 2 um squared
    assert find(prediction, finder=GlomerulusFinder(min_area_um2=4.1)).glomeruli == ()
    assert not prediction.classes.any()
    assert len(find(class_map(classes), finder=GlomerulusFinder(min_area_um2=3.9)).glomeruli) == 1


def test_what_is_not_round_is_dropped_when_asked() -> None:
    classes = empty()
    classes[10:50, 10:20] = classes[40:50, 10:50] = NORMAL.index  # an L: 700 px of a hull of 1,150
    classes[10:30, 55:75] = NORMAL.index
    (square,) = find(class_map(classes), finder=GlomerulusFinder(min_area_um2=0, min_solidity=0.7)).glomeruli
    assert square.polygon.centroid.x == pytest.approx(65 * 4, abs=1)
    assert len(find(class_map(classes), finder=GlomerulusFinder(min_area_um2=0, min_solidity=0.5)).glomeruli) == 2


def test_what_the_network_is_less_sure_of_is_dropped_when_asked() -> None:
    classes, foreground = empty(), np.zeros((60, 80))
    classes[10:30, 10:30] = classes[10:30, 50:70] = NORMAL.index
    foreground[10:30, 10:30], foreground[10:30, 50:70] = 0.9, 0.6
    foreground[10:20, 50:70] = 0.7  # 0.65 in the mean
    prediction = class_map(classes, foreground=foreground)
    (sure,) = find(prediction, finder=GlomerulusFinder(min_area_um2=0, min_probability=0.7)).glomeruli
    assert sure.polygon.centroid.x == pytest.approx(20 * 4, abs=1)
    assert not prediction.classes[:, 40:].any()
    prediction = class_map(classes, foreground=foreground)
    assert len(find(prediction, finder=GlomerulusFinder(min_area_um2=0, min_probability=0.64)).glomeruli) == 2


def test_a_temperature_changes_what_the_network_says_and_not_what_is_dropped() -> None:
    classes, logits = empty(), np.zeros((60, 80))
    classes[10:30, 10:30] = classes[10:30, 50:70] = NORMAL.index
    logits[10:30, 10:30], logits[10:30, 50:70] = 1.2, 0.8  # 0.77 and 0.69
    for temperature in (0.5, 1.0, 2.5):
        prediction = class_map(classes, foreground=1 / (1 + np.exp(-logits / temperature)))
        finder = GlomerulusFinder(min_area_um2=0, min_probability=0.73, temperature=temperature)
        (sure,) = find(prediction, finder=finder).glomeruli
        assert sure.polygon.centroid.x == pytest.approx(20 * 4, abs=1)


CONVEX = GlomerulusFinder(min_area_um2=0, convex=True)


def test_dents_are_filled_to_the_convex_hull_when_asked() -> None:
    notched = disc_map(50, 50, 30)
    notched.classes[20:50, 48:52] = 0  # a crescent's worth of space that the network left out
    notched.foreground[20:50, 48:52] = 0
    (dented,) = find(notched).glomeruli
    assert dented.polygon.area < 0.97 * np.pi * 30**2 * 16
    (found,) = find(notched, finder=CONVEX).glomeruli
    assert found.polygon.area == pytest.approx(np.pi * 30**2 * 16, rel=0.02)
    assert found.polygon.equals(found.polygon.convex_hull)
    assert (notched.classes[30:50, 48:52] == 1).all()


def test_a_hull_takes_nothing_from_a_neighbour() -> None:
    classes = empty()
    classes[10:50, 10:20] = classes[40:50, 10:50] = NORMAL.index  # an L
    classes[20:30, 30:34] = GLOBAL.index  # within its hull
    prediction = class_map(classes)
    found = {g.label: g.polygon for g in find(prediction, finder=CONVEX).glomeruli}
    assert (prediction.classes == GLOBAL.index).sum() == 40
    assert found[GLOBAL.index].area == pytest.approx(40 * 16, rel=0.05)
    assert found[NORMAL.index].area > 750 * 16
    assert found[NORMAL.index].intersection(found[GLOBAL.index]).area < 0.05 * 40 * 16


def test_what_a_hull_adds_far_away_is_not_another_object() -> None:
    classes = np.zeros((400, 400), np.uint8)
    classes[10:390, 10:14] = classes[386:390, 10:390] = NORMAL.index  # an L whose hull crosses many blocks
    classes[60:64, 340:344] = GLOBAL.index  # beyond the hull, in a group of blocks of its own
    assert len(find(class_map(classes), finder=CONVEX).glomeruli) == 2


def test_without_a_resolution_nothing_is_dropped_and_no_area_claimed() -> None:
    classes = empty()
    classes[5, 7] = NORMAL.index
    (found,) = find(class_map(classes), mpp=None, finder=GlomerulusFinder()).glomeruli
    assert AREA not in found.properties["measurements"]


def test_areas_are_in_square_micrometres() -> None:
    (found,) = find(disc_map(50, 50, 20), mpp=0.25).glomeruli
    # Radius 20 px of 4 x 0.25 um.
    assert found.properties["measurements"][AREA] == pytest.approx(np.pi * 20**2, rel=0.02)
    assert found.properties["measurements"][AREA] == pytest.approx(found.polygon.area / 16, abs=0.1)


def test_a_second_run_gives_the_same_ids_and_no_two_are_alike() -> None:
    classes = (np.random.default_rng(0).random((90, 90)) < 0.05).astype(np.uint8)
    first, second = ([g.id for g in find(class_map(classes)).glomeruli] for _ in range(2))
    assert first == second
    assert len(set(first)) == len(first) > 50


def test_counts_name_every_class() -> None:
    assert count_by_class(Annotation(())) == {"normal": 0, "segmental_sclerosis": 0, "global_sclerosis": 0}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), height=st.integers(1, 90), width=st.integers(1, 90), share=st.floats(0, 0.7))
@example(seed=1, height=90, width=90, share=0.5)
def test_any_map_gives_valid_outlines_of_exactly_its_objects(seed: int, height: int, width: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.random((height, width)), rng.choice([0, 1.5]))
    foreground = np.clip(0.5 + (share - 0.5) + (noise - noise.mean()) / (noise.std() + 1e-9) / 6, 0, 1)
    foreground = np.rint(foreground * 255) / 255
    classes = np.where(foreground >= 0.5, rng.integers(1, 4, (height, width)), 0).astype(np.uint8)
    filled = ndimage.binary_fill_holes(classes > 0)
    _, count = ndimage.label(filled, np.ones((3, 3)))

    prediction = class_map(classes, 2.0, foreground)
    size = Size(2 * width, 2 * height)
    found = EXACT(prediction, size, 0.5)

    polygons = [g.polygon for g in found.glomeruli]
    assert len(polygons) == count
    assert all(p.is_valid and p.area > 0 for p in polygons)
    assert all(shapely.box(0, 0, size.width, size.height).covers(p) for p in polygons)
    assert all(a.intersection(b).area < 1e-9 for a, b in combinations(polygons[:12], 2))
    np.testing.assert_array_equal(prediction.classes > 0, filled)
    rows, columns = (np.mgrid[:height, :width] + 0.5) * 2
    covered = shapely.contains_xy(shapely.union_all(polygons), columns, rows) if polygons else np.zeros_like(filled)
    np.testing.assert_array_equal(covered, filled)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_simplified_outlines_stay_valid_and_near(seed: int) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((80, 80)), 2)
    foreground = np.clip(0.5 + (noise - noise.mean()) / noise.std() / 6, 0, 1)
    foreground[[0, -1]] = foreground[:, [0, -1]] = 0  # the slide's edge would cut exact and simple at other places
    classes = (np.rint(foreground * 255) >= 127.5).astype(np.uint8)
    exact, simple = (find(class_map(classes, 4.0, foreground), finder=f) for f in (EXACT, EVERYTHING))
    assert len(exact.glomeruli) == len(simple.glomeruli)
    for one, other in zip(exact.glomeruli, simple.glomeruli, strict=True):
        assert other.polygon.is_valid
        # GEOS applies the tolerance a second time at a ring's first vertex.
        assert one.polygon.hausdorff_distance(other.polygon) <= 2 * 0.1 * 4.0
        assert shapely.get_num_coordinates(other.polygon) <= shapely.get_num_coordinates(one.polygon)


def test_memory_does_not_grow_with_the_map() -> None:
    prediction = ClassMap.empty(Size(4000, 30_000), 4.0)
    for top in range(100, 30_000, 3000):
        prediction.classes[top : top + 50, 1000:1050] = NORMAL.index
        prediction.foreground[top : top + 50, 1000:1050] = 255
    tracemalloc.start()
    try:
        assert len(find(prediction).glomeruli) == 10
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # One byte for every pixel would be 120 MB.
    assert peak < 30e6
