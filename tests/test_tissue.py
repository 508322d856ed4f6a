"""The tissue mask: blank glass and unscanned black are spared, tissue is not lost, however pale."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import bundle.tissue
from bundle.geometry import Size
from bundle.grid import PhysicalTiles, TileGrid
from bundle.slide import Slide, open_slide
from bundle.tissue import TissueFinder, TissueMask

MPP = 4.0
GLASS = (243, 242, 240)
TISSUE = (205, 140, 180)

MakeSlide = Callable[[np.ndarray], Slide]


@pytest.fixture
def make_slide(tmp_path: Path) -> MakeSlide:
    """Opens an RGB array as a slide of 4 um/px; `mpp=None` states none."""

    def make(rgb: np.ndarray, mpp: float | None = MPP) -> Slide:
        tags = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
        tile = {"tile": (128, 128), "photometric": "rgb", "compression": "adobe_deflate", "metadata": None}
        tifffile.imwrite(tmp_path / "slide.tif", rgb, **tile, **tags)
        return open_slide(tmp_path / "slide.tif")

    return make


def glass(width: int = 400, height: int = 300) -> np.ndarray:
    """Blank glass with a scanner's noise."""
    noise = np.random.default_rng(1).integers(-2, 3, (height, width, 3))
    return np.clip(np.array(GLASS) + noise, 0, 255).astype(np.uint8)


def disc(rgb: np.ndarray, x: int, y: int, radius: int, colour: tuple[int, int, int]) -> np.ndarray:
    """The pixels of a disc, which is painted."""
    rows, columns = np.ogrid[: rgb.shape[0], : rgb.shape[1]]
    inside = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
    rgb[inside] = colour
    return inside


def at_level_0(tissue: TissueMask, height: int, width: int) -> np.ndarray:
    """The mask at the slide's own resolution."""
    rows, columns = (np.floor((np.arange(n) + 0.5) / tissue.downsample).astype(int) for n in (height, width))
    return tissue.mask[np.ix_(rows, columns)]


@pytest.mark.parametrize("grey", [255, 243, 232])
def test_blank_glass_holds_no_tissue(make_slide: MakeSlide, grey: int) -> None:
    assert not TissueFinder()(make_slide(np.full((300, 400, 3), grey, np.uint8))).mask.any()


def test_noisy_glass_holds_no_tissue(make_slide: MakeSlide) -> None:
    assert not TissueFinder()(make_slide(glass())).mask.any()


def test_tissue_is_found_where_it_is(make_slide: MakeSlide) -> None:
    rgb = glass()
    painted = disc(rgb, 150, 120, 60, TISSUE)
    found = at_level_0(TissueFinder()(make_slide(rgb)), *painted.shape)
    assert found[painted].all()
    # Beyond the margin of 32 um, and two pixels of the mask, there is none.
    assert not found[~ndimage.binary_dilation(painted, iterations=8 + 2 * 4)].any()


def test_unscanned_black_is_no_tissue_nor_is_its_border(make_slide: MakeSlide) -> None:
    rgb = glass()
    rgb[:90, :130] = 0
    rows, columns = np.ogrid[:300, :400]
    rgb[rows - columns > 170] = (3, 5, 4)  # a slanted corner, with a codec's noise
    assert not TissueFinder()(make_slide(rgb)).mask.any()


def test_tissue_beside_unscanned_black_is_kept(make_slide: MakeSlide) -> None:
    rgb = glass()
    rgb[:, 200:] = TISSUE
    rgb[:150] = 0
    found = at_level_0(TissueFinder()(make_slide(rgb)), 300, 400)
    assert found[152:, 202:].all()


@pytest.mark.parametrize("colour", [(232, 222, 226), (238, 224, 233), (226, 226, 226)])
def test_a_lone_glomerulus_of_low_contrast_is_kept(make_slide: MakeSlide, colour: tuple[int, int, int]) -> None:
    rgb = glass()
    painted = disc(rgb, 201, 147, 15, colour)  # 120 um across, hardly darker than glass
    found = at_level_0(TissueFinder()(make_slide(rgb)), *painted.shape)
    assert found[painted].mean() > 0.9


def test_dust_is_left_out_beside_tissue(make_slide: MakeSlide) -> None:
    rgb = glass()
    disc(rgb, 100, 150, 60, TISSUE)
    disc(rgb, 330, 40, 6, (60, 60, 60))
    found = at_level_0(TissueFinder()(make_slide(rgb)), 300, 400)
    assert not found[:100, 280:].any()


def test_a_crop_that_is_all_tissue_is_all_tissue(make_slide: MakeSlide) -> None:
    assert TissueFinder()(make_slide(np.full((50, 60, 3), TISSUE, np.uint8))).mask.all()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 1), (10, 3000), (3000, 10), (319, 17)])
@pytest.mark.parametrize("colour", [(255, 255, 255), TISSUE])
def test_odd_sizes_are_looked_at(make_slide: MakeSlide, width: int, height: int, colour: tuple[int, int, int]) -> None:
    slide = make_slide(np.full((height, width, 3), colour, np.uint8))
    tissue = TissueFinder()(slide)
    assert tissue.mask.any() == (colour == TISSUE)
    keep = tissue.tiles(PhysicalTiles(1024, 256, 4.0).grid(slide.size, slide.mpp))
    assert keep.all() == (colour == TISSUE)


def test_a_slide_without_resolution_is_all_tissue(make_slide: MakeSlide) -> None:
    slide = make_slide(glass(), mpp=None)
    tissue = TissueFinder()(slide)
    assert tissue.tiles(TileGrid(slide.size, 64, 16, 1.0)).all()


def test_strips_make_no_difference(make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = glass()
    disc(rgb, 150, 120, 60, TISSUE)
    rgb[200:] = 0
    slide = make_slide(rgb)
    whole = TissueFinder()(slide).mask
    monkeypatch.setattr(bundle.tissue, "MAX_STRIP_PX", 400 * 13)
    assert np.array_equal(TissueFinder()(slide).mask, whole)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    width=st.integers(1, 500),
    height=st.integers(1, 500),
    tile=st.integers(8, 200),
    downsample=st.floats(0.5, 8),
    mask_downsample=st.floats(1, 20),
)
def test_exactly_the_tiles_that_touch_tissue_are_kept(
    seed: int, width: int, height: int, tile: int, downsample: float, mask_downsample: float
) -> None:
    rows, columns = (max(1, int(np.ceil(n * downsample / mask_downsample))) for n in (height, width))
    mask = np.random.default_rng(seed).random((rows, columns)) < 0.02
    grid = TileGrid(Size(width, height), tile, tile // 4, downsample)
    keep = TissueMask(mask, mask_downsample).tiles(grid)
    scale = downsample / mask_downsample
    for kept, place in zip(keep.ravel(), grid, strict=True):
        spans = [
            slice(min(int(start * scale), length - 1), max(int(np.ceil((start + tile) * scale)), 1))
            for start, length in ((place.y, rows), (place.x, columns))
        ]
        assert kept == mask[tuple(spans)].any()
