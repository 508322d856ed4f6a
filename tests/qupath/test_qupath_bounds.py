"""A scan that covers a part of level 0: outlines are in px of that part, which is what QuPath shows.

QuPath's OpenslideImageServer adds `openslide.bounds-x` and `-y` to every place that it reads and states
`bounds-width` x `-height` as the image's size, unless it is told --no-crop.
"""

import json
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from shapely.geometry import shape

from bundle.geometry import Rect, Size
from bundle.phantom import Phantom, PhantomSpec
from bundle.slide import open_slide
from tests.oracle import run_config
from tests.qupath.leica_slide import write_leica_slide

SCAN = Rect(131, 70, 801, 603)
FULL = Size(1100, 900)
MPP = 2.0


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    size = Size(SCAN.width, SCAN.height)
    return Phantom(PhantomSpec(size, oracle=True, mpp=MPP, glomeruli_per_mm2=12.0, class_fractions=(1, 1, 1)))


@pytest.fixture(scope="module")
def slide_file(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bounds") / "slide.scn"
    write_leica_slide(path, phantom.read(0, 0, SCAN.width, SCAN.height), SCAN, FULL, MPP)
    return path


def test_the_file_under_test_has_bounds(slide_file: Path) -> None:
    with openslide.OpenSlide(slide_file) as slide:
        assert slide.dimensions == (FULL.width, FULL.height)
        stated = [int(slide.properties[f"openslide.bounds-{edge}"]) for edge in ("x", "y", "width", "height")]
    assert Rect(*stated) == SCAN


def test_the_slide_is_what_qupath_shows_of_it(slide_file: Path, phantom: Phantom) -> None:
    with openslide.OpenSlide(slide_file) as other, open_slide(slide_file) as slide:
        assert slide.size == Size(SCAN.width, SCAN.height)
        assert slide.bounds == SCAN
        assert slide.mpp == pytest.approx(MPP)
        # As QuPath asks: the place in the image plus the bounds.
        shown = np.asarray(other.read_region((SCAN.x + 300, SCAN.y + 200), 0, (97, 61)))[..., :3]
        np.testing.assert_array_equal(slide.read(0, 300, 200, 97, 61), shown)
        np.testing.assert_array_equal(slide.read(0, 300, 200, 97, 61), phantom.read(300, 200, 97, 61))


@pytest.mark.parametrize("left", [130, 131])
def test_coarser_pixels_lie_where_they_belong_also_from_odd_bounds(tmp_path: Path, left: int) -> None:
    ramp = np.broadcast_to((np.arange(800) / 4)[None, :, None], (200, 800, 3)).astype(np.uint8)
    write_leica_slide(tmp_path / "ramp.scn", ramp, Rect(left, 71, 800, 200), FULL, MPP)
    with open_slide(tmp_path / "ramp.scn") as slide:
        shown = slide.read_region(100, 40, 300, 50, 2 * MPP).mean(axis=(0, 2))
    centres = 100 + (np.arange(300) + 0.5) * 2
    # Values were cut to whole numbers, on average by 3/8, and every second pixel was kept, half a pixel early.
    shift_px = 4 * (shown - (centres - 0.5) / 4 + 3 / 8).mean()
    # OpenSlide puts the scan at a whole pixel of each level; so does QuPath, which reads by it.
    assert abs(shift_px) <= left % 2 + 0.1


def test_outlines_and_mask_lie_on_the_glomeruli_that_qupath_shows(
    slide_file: Path, phantom: Phantom, tmp_path: Path
) -> None:
    run_config("inference.yaml", {"slide": str(slide_file), "output_dir": str(tmp_path)})
    features = json.loads((tmp_path / "glomeruli.geojson").read_text(encoding="utf-8"))["features"]
    found = [shape(feature["geometry"]) for feature in features]
    whole = shape({"type": "Polygon", "coordinates": [[(0, 0), (801, 0), (801, 603), (0, 603), (0, 0)]]})
    large = [g.polygon.intersection(whole) for g in phantom.glomeruli if g.polygon.within(whole)]
    assert len(large) > 2
    for truth in large:
        nearest = min(found, key=lambda polygon, truth=truth: polygon.centroid.distance(truth.centroid))
        assert nearest.intersection(truth).area > 0.9 * nearest.union(truth).area
    mask = tifffile.imread(tmp_path / "mask.tif", key=0)
    assert mask.shape == (SCAN.height, SCAN.width)
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["slide"]["offset_in_file_px"] == [SCAN.x, SCAN.y]
