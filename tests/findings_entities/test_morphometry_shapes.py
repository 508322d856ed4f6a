"""Size and shape against shapes whose measures are known, against scikit-image, and under every change that is none."""

from dataclasses import asdict, fields

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ellipe
from shapely import affinity
from shapely.geometry import MultiPolygon, Point, Polygon
from skimage.measure import label, regionprops

from bundle.data.annotations.raster import covered_pixels
from bundle.findings.morphometry import Shape, compartments_of, shape_of

ONE_PERCENT = 0.01


def disc(radius: float, x: float = 0.0, y: float = 0.0) -> Polygon:
    return Point(x, y).buffer(radius, quad_segs=64)


@st.composite
def outlines(draw: st.DrawFn) -> Polygon:
    """Outlines as of a glomerulus: bent, notched, some with a hole; 60 to 200 px across, near the origin."""
    seed = draw(st.integers(0, 2**31))
    random = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = 60 + 25 * np.cos(2 * angle + random.uniform(0, 6)) * random.random() + random.uniform(-8, 8, 48)
    polygon = Polygon(np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]))
    return polygon.difference(disc(10)) if draw(st.booleans()) else polygon


def assert_same(first: Shape, second: Shape) -> None:
    for name, value in asdict(first).items():
        # Eccentricity has a root at the circle, where the last digits grow.
        assert getattr(second, name) == pytest.approx(value, rel=1e-4, abs=1e-2 if name == "eccentricity" else 0), name


@settings(max_examples=40, deadline=None)
@given(a=st.floats(20, 400), ratio=st.floats(0.2, 1), mpp=st.floats(0.1, 4), turn=st.floats(0, 180))
def test_an_ellipse_has_the_measures_that_geometry_gives_it(a: float, ratio: float, mpp: float, turn: float) -> None:
    b = a * ratio
    ellipse = affinity.rotate(affinity.scale(disc(1), a, b), turn)
    found = shape_of(ellipse, mpp)
    a, b = a * mpp, b * mpp
    assert found.area_um2 == pytest.approx(np.pi * a * b, rel=ONE_PERCENT)
    assert found.equivalent_diameter_um == pytest.approx(2 * np.sqrt(a * b), rel=ONE_PERCENT)
    perimeter = 4 * a * ellipe(1 - ratio**2)
    assert found.perimeter_um == pytest.approx(perimeter, rel=ONE_PERCENT)
    assert found.circularity == pytest.approx(4 * np.pi * np.pi * a * b / perimeter**2, rel=ONE_PERCENT)
    assert found.solidity == pytest.approx(1, rel=ONE_PERCENT)
    assert found.eccentricity == pytest.approx(np.sqrt(1 - ratio**2), rel=ONE_PERCENT, abs=0.01)
    assert (found.major_axis_um, found.minor_axis_um) == pytest.approx((2 * a, 2 * b), rel=ONE_PERCENT)
    assert (found.feret_max_um, found.feret_min_um) == pytest.approx((2 * a, 2 * b), rel=ONE_PERCENT)


def test_a_rectangle_has_its_diagonal_and_its_width_for_calipers() -> None:
    found = shape_of(affinity.rotate(shapely.box(0, 0, 40, 30), 17), 2.0)
    assert (found.feret_max_um, found.feret_min_um) == pytest.approx((100, 60))
    assert (found.area_um2, found.perimeter_um) == pytest.approx((4800, 280))
    assert found.eccentricity == pytest.approx(np.sqrt(1 - (3 / 4) ** 2))


def test_the_narrowest_caliper_of_a_triangle_is_its_least_height_not_a_side_of_its_least_box() -> None:
    triangle = Polygon([(0, 0), (10, 0), (5, 5 * np.sqrt(3))])
    assert shape_of(triangle, 1.0).feret_min_um == pytest.approx(5 * np.sqrt(3))


def test_a_hole_counts_for_area_and_moments_and_not_for_the_perimeter() -> None:
    found = shape_of(disc(100).difference(disc(60)), 1.0)
    assert found.area_um2 == pytest.approx(np.pi * (100**2 - 60**2), rel=ONE_PERCENT)
    assert found.perimeter_um == pytest.approx(2 * np.pi * 100, rel=ONE_PERCENT)
    assert found.major_axis_um == pytest.approx(2 * np.sqrt(100**2 + 60**2), rel=ONE_PERCENT)
    assert found.solidity == pytest.approx(1 - 0.36, rel=ONE_PERCENT)


def test_a_glomerulus_in_two_parts_is_measured_as_one() -> None:
    found = shape_of(MultiPolygon([disc(10), disc(10, x=40)]), 1.0)
    assert found.area_um2 == pytest.approx(2 * np.pi * 100, rel=ONE_PERCENT)
    assert found.perimeter_um == pytest.approx(4 * np.pi * 10, rel=ONE_PERCENT)
    assert (found.feret_max_um, found.feret_min_um) == pytest.approx((60, 20), rel=ONE_PERCENT)
    assert found.solidity == pytest.approx(2 * np.pi * 100 / (np.pi * 100 + 40 * 20), rel=ONE_PERCENT)
    assert found.major_axis_um == pytest.approx(4 * np.sqrt(100 / 4 + 20**2), rel=ONE_PERCENT)


def test_an_l_has_the_solidity_of_an_l() -> None:
    corner = shapely.box(0, 0, 20, 20).difference(shapely.box(10, 10, 20, 20))
    assert shape_of(corner, 1.0).solidity == pytest.approx(3 / 3.5)


@settings(max_examples=30, deadline=None)
@given(outline=outlines(), turn=st.floats(0, 360), x=st.floats(-1e5, 1e5), y=st.floats(-1e5, 1e5))
def test_rotation_shift_and_mirroring_change_nothing(outline: Polygon, turn: float, x: float, y: float) -> None:
    moved = affinity.translate(affinity.rotate(affinity.scale(outline, -1, 1), turn), x, y)
    assert_same(shape_of(outline, 0.5), shape_of(moved, 0.5))


@settings(max_examples=30, deadline=None)
@given(outline=outlines(), factor=st.floats(0.05, 20))
def test_the_resolution_of_the_slide_changes_nothing(outline: Polygon, factor: float) -> None:
    scaled = affinity.scale(outline, factor, factor, origin=(0, 0))
    assert_same(shape_of(outline, 0.5), shape_of(scaled, 0.5 / factor))


@settings(max_examples=15, deadline=None)
@given(outline=outlines())
def test_scikit_image_measures_the_same_on_pixels(outline: Polygon) -> None:
    drawn = affinity.translate(affinity.scale(outline, 5, 5, origin=(0, 0)), 600, 600)
    rows, columns, inside = covered_pixels(drawn, 1200, 1200)
    image = np.zeros((1200, 1200), bool)
    image[rows, columns] = inside
    (pixels,) = regionprops(label(image, connectivity=2))
    found = shape_of(drawn, 1.0)
    assert found.area_um2 == pytest.approx(pixels.area, rel=ONE_PERCENT)
    assert found.solidity == pytest.approx(pixels.solidity, rel=ONE_PERCENT)
    assert found.major_axis_um == pytest.approx(pixels.axis_major_length, rel=ONE_PERCENT)
    assert found.minor_axis_um == pytest.approx(pixels.axis_minor_length, rel=ONE_PERCENT)
    assert found.eccentricity == pytest.approx(pixels.eccentricity, rel=ONE_PERCENT, abs=0.01)
    assert found.feret_max_um == pytest.approx(pixels.feret_diameter_max, rel=ONE_PERCENT)


def test_tuft_and_bowman_s_space_share_the_glomerulus() -> None:
    found = compartments_of(disc(100), [disc(80)], 0.5)
    assert found.tuft_capsule_ratio == pytest.approx(0.64, rel=ONE_PERCENT)
    assert found.tuft_area_um2 == pytest.approx(np.pi * 40**2, rel=ONE_PERCENT)
    assert found.bowman_space_um2 == pytest.approx(np.pi * (50**2 - 40**2), rel=ONE_PERCENT)


def test_of_a_tuft_only_what_lies_in_the_glomerulus_counts_and_once() -> None:
    both = compartments_of(shapely.box(0, 0, 10, 10), [shapely.box(5, 0, 20, 10), shapely.box(5, 0, 15, 10)], 1.0)
    assert (both.tuft_area_um2, both.bowman_space_um2) == pytest.approx((50, 50))


def test_without_a_tuft_nothing_is_said_of_compartments() -> None:
    found = compartments_of(disc(100), [disc(5, x=500)], 0.5)
    assert all(np.isnan(getattr(found, field.name)) for field in fields(found))
