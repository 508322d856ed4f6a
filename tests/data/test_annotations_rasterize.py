"""An annotation as a label image: every pixel by its centre, whatever the window."""

import pickle

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Point, Polygon, box

from bundle.data.annotations import Annotation, Glomerulus

WIDTH, HEIGHT = 23, 19


def annotation_of(*polygons_and_labels, complete=True):
    return Annotation(tuple(Glomerulus(p, label) for p, label in polygons_and_labels), complete=complete)


@st.composite
def polygons(draw):
    """Stars with a hole, off the pixel centres' grid so that no centre lies on a border."""
    centre = [draw(st.integers(-5, 30)) + 0.1234, draw(st.integers(-5, 30)) + 0.4321]
    radii = draw(st.lists(st.integers(1, 12), min_size=3, max_size=9))
    angle = np.linspace(0, 2 * np.pi, len(radii), endpoint=False) + 0.1
    star = np.column_stack([np.cos(angle), np.sin(angle)])
    shell = centre + star * np.array(radii)[:, None]
    hole = centre + star * np.array(radii)[:, None] * 0.4
    return Polygon(shell, [hole])


@given(
    shapes=st.lists(st.tuples(polygons(), st.sampled_from([1, 2, 3, 255])), min_size=1, max_size=5),
    x=st.integers(-8, 8),
    y=st.integers(-8, 8),
    downsample=st.sampled_from([0.5, 1.0, 1.7, 3.0]),
)
@settings(max_examples=60, deadline=None)
def test_a_pixel_has_the_class_of_the_polygon_that_holds_its_centre(shapes, x, y, downsample):
    annotation = annotation_of(*[(p, label) for p, label in shapes if p.is_valid])

    image = annotation.rasterize(x, y, WIDTH, HEIGHT, downsample)

    columns, rows = np.meshgrid(x + (np.arange(WIDTH) + 0.5) * downsample, y + (np.arange(HEIGHT) + 0.5) * downsample)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    for is_class in (False, True):  # a class is painted over an ignored object
        for g in annotation.glomeruli:
            if (g.label != 255) == is_class:
                expected[shapely.contains_xy(g.polygon, columns, rows)] = g.label
    np.testing.assert_array_equal(image, expected)


@given(shape=polygons(), downsample=st.sampled_from([0.5, 1.0, 2.0, 1.37]), tile=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_tiles_put_together_equal_the_whole(shape, downsample, tile):
    annotation = annotation_of((shape, 2))
    whole = annotation.rasterize(-3, -4, WIDTH, HEIGHT, downsample)

    for top in range(0, HEIGHT, tile):
        for left in range(0, WIDTH, tile):
            part = annotation.rasterize(-3 + left * downsample, -4 + top * downsample, tile, tile, downsample)
            expected = whole[top : top + tile, left : left + tile]
            np.testing.assert_array_equal(part[: expected.shape[0], : expected.shape[1]], expected)


def test_polygons_that_share_borders_through_pixel_centres_neither_overlap_nor_leave_a_gap():
    left, right = box(0.5, 0.5, 3.5, 4.5), box(3.5, 0.5, 6.5, 4.5)

    image = annotation_of((left, 1), (right, 2)).rasterize(0, 0, 8, 6, 1.0)
    swapped = annotation_of((right, 2), (left, 1)).rasterize(0, 0, 8, 6, 1.0)

    np.testing.assert_array_equal(image, swapped)
    assert (image == 1).sum() == 12
    assert (image == 2).sum() == 12


def test_the_parts_and_holes_of_a_multipolygon_are_kept_apart():
    ring = Polygon(box(1, 1, 9, 9).exterior, [box(3, 3, 7, 7).exterior])
    islet = box(4, 4, 6, 6)

    image = annotation_of((MultiPolygon([ring, islet]), 3)).rasterize(0, 0, 10, 10, 1.0)

    assert (image == 3).sum() == 64 - 16 + 4
    assert image[3, 3] == 0
    assert image[4, 4] == 3


def test_the_later_of_two_glomeruli_wins_and_both_win_over_an_ignored_object():
    image = annotation_of((box(0, 0, 4, 4), 1), (box(2, 0, 6, 4), 2), (box(0, 2, 8, 4), 255)).rasterize(0, 0, 8, 4, 1.0)

    assert image[0].tolist() == [1, 1, 2, 2, 2, 2, 0, 0]
    assert image[3].tolist() == [1, 1, 2, 2, 2, 2, 255, 255]


def test_outside_the_glomeruli_of_a_partly_annotated_slide_all_is_ignored_but_known_background():
    known = Glomerulus(box(4, 0, 8, 2), 0, "Region*")
    annotation = Annotation((Glomerulus(box(0, 0, 2, 2), 1),), complete=False, background=(known,))

    assert annotation.rasterize(0, 0, 8, 3, 1.0).tolist() == [
        [1, 1, 255, 255, 0, 0, 0, 0],
        [1, 1, 255, 255, 0, 0, 0, 0],
        [255] * 8,
    ]


def test_instances_carry_the_number_of_the_object_and_leave_ignored_ones_out():
    annotation = annotation_of((box(0, 0, 2, 1), 1), (box(2, 0, 4, 1), 255), (box(4, 0, 6, 1), 1))

    instances = annotation.rasterize_instances(0, 0, 7, 1, 1.0)

    assert instances.dtype == np.int32
    assert instances.tolist() == [[1, 1, 0, 0, 3, 3, 0]]


def test_the_area_of_a_circle_comes_out():
    image = annotation_of((Point(500, 500).buffer(400, 64), 1)).rasterize(0, 0, 1000, 1000, 1.0)

    assert image.sum() == pytest.approx(np.pi * 400**2, rel=1e-3)


def test_an_empty_annotation_and_a_far_window_are_background():
    assert not annotation_of().rasterize(0, 0, 5, 5, 1.0).any()
    assert not annotation_of((box(0, 0, 5, 5), 1)).rasterize(100, 100, 5, 5, 1.0).any()


def test_a_window_holds_the_objects_that_reach_into_it_relative_to_its_corner():
    annotation = annotation_of((box(0, 0, 5, 5), 1), (box(10, 10, 20, 20), 2), (box(50, 50, 60, 60), 3))

    window = annotation.within(12, 8, 20, 20)

    assert [g.polygon.bounds for g in window.glomeruli] == [(-2.0, 2.0, 8.0, 12.0)]
    np.testing.assert_array_equal(window.rasterize(0, 0, 20, 20, 1.0), annotation.rasterize(12, 8, 20, 20, 1.0))


def test_an_annotation_reaches_a_worker_process_unchanged():
    annotation = annotation_of((box(0, 0, 5, 5), 1))
    annotation.rasterize(0, 0, 5, 5, 1.0)

    copy = pickle.loads(pickle.dumps(annotation))

    assert copy == annotation
    assert copy.rasterize(0, 0, 5, 5, 1.0).all()
