"""Phantom slides: pure functions of place, exact truth, files that other programs open."""

import dataclasses
import json
import runpy
import subprocess
import sys
from functools import cache

import numpy as np
import openslide
import pytest
import shapely
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bundle.classes import CLASS_NAMES
from bundle.errors import ConfigError
from bundle.geometry import Size
from bundle.phantom import ORACLE_GLASS_RGB, ORACLE_RGB, STAINS, Phantom, PhantomSpec, write_phantom
from bundle.phantom.layout import GAP_UM, lay_out
from bundle.phantom.paint import Painter
from tests.cohort import ROOT, finish, start

SPEC = PhantomSpec(Size(3000, 2000), mpp=1.0, seed=3)


@cache
def phantom(**changes) -> Phantom:
    return Phantom(dataclasses.replace(SPEC, **changes))


@cache
def picture(**changes) -> np.ndarray:
    return phantom(**changes).read(0, 0, 3000, 2000)


def mean_rgb(rgb: np.ndarray, truth: np.ndarray, label: int) -> np.ndarray:
    return rgb[truth == label].astype(float).mean(axis=0)


def colours(rgb: np.ndarray) -> set[tuple[int, int, int]]:
    """The distinct colours of an image (..., 3)."""
    codes = np.unique(rgb.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32))
    return {(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in codes}


@settings(max_examples=30, deadline=None)
@given(x=st.integers(-300, 3100), y=st.integers(-300, 2100), width=st.integers(1, 600), height=st.integers(1, 600))
def test_any_window_paints_the_same_pixels(x, y, width, height):
    whole = np.empty((2000 + 1200, 3000 + 1200, 3), np.uint8)
    whole[:] = phantom().read(-1, -1, 1, 1)
    whole[600:2600, 600:3600] = picture()
    window = Phantom(SPEC).read(x, y, width, height)
    inside = np.s_[max(0, -y) : max(0, 2000 - y), max(0, -x) : max(0, 3000 - x)]
    expected = whole[y + 600 : y + 600 + height, x + 600 : x + 600 + width]
    np.testing.assert_array_equal(window[inside], expected[inside])


def test_the_picture_is_continuous_across_the_blocks_it_is_painted_in():
    """A window that lies askew on the blocks, painted in one go, differs by rounding only."""
    askew = Painter(SPEC, phantom().layout).window(944, 816, 304, 272)
    seen = picture()[816:1088, 944:1248]
    difference = np.abs(askew.astype(int) - seen)
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.01


@settings(max_examples=10, deadline=None)
@given(dx=st.integers(-900, 900), dy=st.integers(-700, 700))
def test_another_origin_shows_the_same_kidney_shifted(dx, dy):
    shifted = phantom(origin=(dx, dy))
    x, y = 1200 - dx, 800 - dy
    np.testing.assert_array_equal(shifted.read(x, y, 300, 200), picture()[800:1000, 1200:1500])
    np.testing.assert_array_equal(shifted.truth(x, y, 300, 200), phantom().truth(1200, 800, 300, 200))
    everywhere = {g.id: g.polygon for g in phantom().glomeruli}
    for glomerulus in shifted.glomeruli:
        assert shapely.transform(glomerulus.polygon, lambda points: np.add(points, (dx, dy))).equals(
            everywhere[glomerulus.id]
        )


def test_the_truth_is_the_polygons_by_the_centre_of_the_pixel():
    truth = phantom().truth(0, 0, 3000, 2000)
    expected = np.zeros_like(truth)
    x, y = np.meshgrid(np.arange(3000) + 0.5, np.arange(2000) + 0.5)
    for glomerulus in phantom().glomeruli:
        left, top, right, bottom = (int(v) for v in glomerulus.polygon.bounds)
        box = np.s_[top : bottom + 1, left : right + 1]
        expected[box][shapely.contains_xy(glomerulus.polygon, x[box], y[box])] = glomerulus.label
    np.testing.assert_array_equal(truth, expected)


@pytest.mark.parametrize("seed", range(4))
def test_glomeruli_keep_apart_and_lie_wholly_in_tissue(seed):
    slide = Phantom(PhantomSpec(Size(4000, 3000), mpp=2.0, seed=seed, oracle=True, glomeruli_per_mm2=6))
    polygons = [g.polygon for g in slide.glomeruli]
    assert len(polygons) > 30
    apart = shapely.STRtree([p.buffer(0.9 * GAP_UM / 2) for p in polygons]).query(polygons, predicate="intersects")
    assert (apart[0] == apart[1]).all()
    bare = Phantom(dataclasses.replace(slide.spec, glomeruli_per_mm2=0)).read(0, 0, 4000, 3000)
    assert (bare[slide.truth(0, 0, 4000, 3000) > 0] == ORACLE_RGB[0]).all()


def test_sizes_are_those_of_glomeruli_and_sclerosed_ones_are_smaller():
    slide = Phantom(PhantomSpec(Size(20_000, 12_000), mpp=0.5, seed=1))
    diameters = {k: [] for k in (1, 2, 3)}
    for glomerulus in slide.glomeruli:
        diameters[glomerulus.label].append(2 * np.sqrt(glomerulus.polygon.area / np.pi) * 0.5)
    assert 115 < min(diameters[1]) < max(diameters[1]) < 290
    assert 75 < min(diameters[3]) < max(diameters[3]) < 190
    assert np.mean(diameters[3]) < 0.8 * np.mean(diameters[1])


def test_the_classes_have_the_wanted_shares():
    labels = [g.label for g in Phantom(PhantomSpec(Size(40_000, 20_000), class_fractions=(5, 3, 2))).glomeruli]
    assert len(labels) > 80
    assert np.bincount(labels, minlength=4)[1:] / len(labels) == pytest.approx([0.5, 0.3, 0.2], abs=0.03)


def test_a_class_without_a_share_is_absent_and_no_density_means_no_glomeruli():
    assert {g.label for g in phantom(class_fractions=(0, 0, 1)).glomeruli} == {3}
    assert phantom(glomeruli_per_mm2=0).glomeruli == ()


def test_a_seed_is_reproducible_and_another_seed_is_another_slide():
    np.testing.assert_array_equal(Phantom(SPEC).read(900, 700, 400, 400), picture()[700:1100, 900:1300])
    assert (phantom(seed=4).read(900, 700, 400, 400) != picture()[700:1100, 900:1300]).mean() > 0.5
    assert [g.polygon for g in phantom(seed=4).glomeruli] != [g.polygon for g in phantom().glomeruli]


def test_the_truth_does_not_depend_on_the_stain():
    truths = [phantom(stain=stain).truth(0, 0, 3000, 2000) for stain in STAINS]
    np.testing.assert_array_equal(truths[0], truths[1])
    np.testing.assert_array_equal(truths[0], truths[2])


def test_stains_and_classes_look_different():
    truth = phantom().truth(0, 0, 3000, 2000)
    looks = {stain: {k: mean_rgb(picture(stain=stain), truth, k) for k in (1, 2, 3)} for stain in STAINS}
    for rgb in looks["HE"].values():
        assert rgb[0] > rgb[2] > rgb[1], "pink"
    for rgb in looks["PAS"].values():
        assert min(rgb[0], rgb[2]) > rgb[1] + 20, "magenta"
    for rgb in looks["PAMS"].values():
        assert np.ptp(rgb) < 30, "grey"
    for stain in ("PAS", "PAMS"):
        # Scar binds Schiff's reagent and silver: the more of it, the darker in green.
        green = [looks[stain][k][1] for k in (1, 2, 3)]
        assert green[0] > green[1] + 5
        assert green[1] > green[2] + 5


def test_glass_is_blank_and_tissue_is_not():
    corner = phantom().read(0, 0, 40, 40)
    assert np.ptp(corner.reshape(-1, 3), axis=0).max() == 0
    assert corner.min() >= 235
    assert picture()[900:1100, 1000:2000].std() > 15


def test_an_oracle_shows_the_truth_in_flat_colours():
    oracle, truth = picture(oracle=True), phantom().truth(0, 0, 3000, 2000)
    for label in (1, 2, 3):
        np.testing.assert_array_equal(truth == label, (oracle == ORACLE_RGB[label]).all(axis=-1))
    assert colours(oracle[truth == 0]) == {ORACLE_GLASS_RGB, ORACLE_RGB[0]}


def test_a_written_slide_opens_with_its_size_levels_and_resolution(tmp_path):
    slide = phantom()
    path = write_phantom(slide, tmp_path / "kidney.tif")
    with openslide.OpenSlide(path) as reader:
        assert reader.dimensions == (3000, 2000)
        assert reader.level_dimensions == ((3000, 2000), (1500, 1000), (750, 500), (375, 250), (188, 125))
        assert float(reader.properties["openslide.mpp-x"]) == pytest.approx(1.0)
        seen = np.asarray(reader.read_region((800, 600), 0, (700, 500)))[..., :3]
        low = np.asarray(reader.read_region((0, 0), 2, (750, 500)))[..., :3]
    painted = picture()
    assert np.abs(seen.astype(int) - painted[600:1100, 800:1500]).mean() < 6, "JPEG is near the painting"
    small = np.asarray(Image.fromarray(painted).reduce(4), int)
    assert np.abs(low - small).mean() < 4


def test_a_written_oracle_is_lossless_and_has_only_pure_colours_in_all_levels(tmp_path):
    slide = phantom(oracle=True)
    path = write_phantom(slide, tmp_path)
    assert path == tmp_path / "slide.tif"
    pure = {ORACLE_GLASS_RGB, *ORACLE_RGB.values()}
    with tifffile.TiffFile(path) as file:
        np.testing.assert_array_equal(file.pages[0].asarray(), picture(oracle=True))
        for page in file.pages:
            assert colours(page.asarray()) <= pure


def test_the_truth_is_written_as_qupath_writes_it(tmp_path):
    slide = phantom()
    write_phantom(slide, tmp_path / "kidney.tif")
    collection = json.loads((tmp_path / "kidney.geojson").read_text())
    assert collection["type"] == "FeatureCollection"
    assert len(collection["features"]) == len(slide.glomeruli) > 5
    assert {f["properties"]["classification"]["name"] for f in collection["features"]} == set(CLASS_NAMES)
    for feature, glomerulus in zip(collection["features"], slide.glomeruli, strict=True):
        assert feature["id"] == glomerulus.id
        assert shapely.geometry.shape(feature["geometry"]).equals(glomerulus.polygon)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (319, 319), (10, 30_000), (1025, 1023)])
def test_odd_sizes_are_written_too(tmp_path, width, height):
    path = write_phantom(Phantom(PhantomSpec(Size(width, height), mpp=1.0)), tmp_path / "odd.tif")
    with openslide.OpenSlide(path) as reader:
        assert reader.dimensions == (width, height)


@pytest.mark.parametrize("mpp", [0.1, 0.3333, 4.0])
def test_other_resolutions_show_the_same_layout(mpp):
    size = Size(round(3000 / mpp), round(2000 / mpp))
    slide = Phantom(PhantomSpec(size, mpp=mpp, seed=3))
    for seen, known in zip(slide.glomeruli, phantom().glomeruli, strict=True):
        assert seen.label == known.label
        assert seen.polygon.area * mpp**2 == pytest.approx(known.polygon.area, rel=0.02)
    x, y = (int(v) for v in slide.glomeruli[0].polygon.centroid.coords[0])
    assert slide.read(x - 50, y - 50, 100, 100).std() > 10


def test_thousands_of_glomeruli_are_placed_on_a_slide_of_100_000_pixels():
    layout = lay_out(PhantomSpec(Size(100_000, 100_000), glomeruli_per_mm2=6))
    assert sum(s.label > 0 for s in layout.structures) > 1500


def test_memory_does_not_grow_with_the_height_of_the_slide(tmp_path):
    """The taller slide holds 36 MB more pixels."""
    code = """
import resource, sys
from bundle.geometry import Size
from bundle.phantom import Phantom, PhantomSpec, write_phantom
for height in (1_000, 13_000):
    write_phantom(Phantom(PhantomSpec(Size(1_000, height))), f"{sys.argv[1]}/{height}.tif")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, check=True, capture_output=True, text=True)
    low_kb, tall_kb = map(int, done.stdout.split())
    assert tall_kb - low_kb < 18_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": Size(0, 5)},
        {"mpp": 0.0},
        {"stain": "Masson"},
        {"seed": -1},
        {"class_fractions": (0, 0, 0)},
        {"glomeruli_per_mm2": -1},
        {"cores": 0},
    ],
)
def test_a_spec_that_makes_no_slide_is_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        dataclasses.replace(SPEC, **wrong)


def test_the_command_writes_a_cohort(tmp_path):
    options = ["--count", "2", "--size", "700x500", "--mpp", "2", "--stain", "HE", "PAMS"]
    line = [sys.executable, "scripts/phantom.py", "--output_dir", str(tmp_path), *options]
    status, _, errors = finish(start(line))
    assert status == 0, errors
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"slide_0.tif", "slide_0.geojson", "slide_1.tif", "slide_1.geojson"}


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, capsys):
    main = runpy.run_path(str(ROOT / "scripts" / "phantom.py"))["main"]
    assert main(["--output_dir", str(tmp_path), "--mpp", "0"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: phantom slide: mpp must be")
    assert said.count("\n") == 1
