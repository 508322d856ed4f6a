"""Tiles of a slide: in order, with the right pixels, ahead of the network but not far, and never after an error."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monai.transforms import ScaleIntensityRange

from bundle.errors import ConfigError, SlideReadError
from bundle.grid import PhysicalTiles, PixelTiles
from bundle.slide import Slide, open_slide
from bundle.stream import TileSplitter
from bundle.tissue import TissueFinder

WIDTH, HEIGHT, MPP = 333, 217, 2.0
TO_UNIT = ScaleIntensityRange(0, 255, 0.0, 1.0, clip=True)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 250, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def slide(picture: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
    path = tmp_path_factory.mktemp("splitter") / "slide.tif"
    write(path, picture)
    with open_slide(path) as opened:
        yield opened


def write(path: Path, picture: np.ndarray) -> None:
    options = {"tile": (64, 64), "photometric": "rgb", "compression": "adobe_deflate", "metadata": None}
    tifffile.imwrite(path, picture, resolution=(1e4 / MPP,) * 2, resolutionunit="CENTIMETER", **options)


def reader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("tile-reader")]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tile=st.integers(1, 400), overlap=st.floats(0, 0.7), workers=st.integers(1, 4), ahead=st.integers(0, 40))
def test_tiles_at_the_slide_s_resolution_are_its_pixels_with_white_past_its_edge(
    slide: Slide, picture: np.ndarray, tile: int, overlap: float, workers: int, ahead: int
) -> None:
    side = max(tile, 60)
    endless = np.pad(picture, ((0, 400), (0, 400), (0, 0)), constant_values=255)
    splitter = TileSplitter(PixelTiles(side, int(side * overlap), side), TO_UNIT, workers=workers, read_ahead=ahead)
    locations = []
    for values, (row, column) in splitter(slide):
        assert values.shape == (1, 3, side, side)
        assert values.dtype == torch.float32
        expected = endless[row : row + side, column : column + side].transpose(2, 0, 1) / np.float32(255)
        np.testing.assert_allclose(values[0], expected, atol=1e-6)
        locations.append((row, column))
    assert locations == [(place.y, place.x) for place in splitter.grid(slide)]
    assert locations == sorted(locations)


@pytest.mark.parametrize("mpp", [3.0, 4.0, 6.4])
def test_tiles_at_another_resolution_are_parts_of_one_picture(slide: Slide, mpp: float) -> None:
    splitter = TileSplitter(PhysicalTiles(64 * mpp, 16 * mpp, mpp), lambda rgb: rgb.astype(np.float32))
    height, width = splitter.get_padded_shape(slide)
    whole = slide.read_region(0, 0, width, height, mpp).transpose(2, 0, 1).astype(np.float32)
    assert splitter.get_input_shape(slide) == (-(-HEIGHT * 2 // mpp), -(-WIDTH * 2 // mpp))
    for values, (row, column) in splitter(slide):
        expected = whole[:, row : row + 64, column : column + 64]
        assert np.abs(values[0].numpy() - expected).max() <= 1


def test_blank_glass_is_never_decoded(tmp_path: Path) -> None:
    picture = np.full((600, 900, 3), 250, np.uint8)
    picture[250:330, 400:480] = (200, 130, 170)
    write(tmp_path / "glass.tif", picture)
    tiles = PhysicalTiles(tile_um=200, overlap_um=0, mpp=4.0)
    with open_slide(tmp_path / "glass.tif") as glass:
        everything = TileSplitter(tiles, TO_UNIT)
        sparing = TileSplitter(tiles, TO_UNIT, TissueFinder())
        seen = {location for _, location in sparing(glass)}
        assert len(everything.select(glass, None)) == 6 * 9
        # The square covers rows 125..165 and columns 200..240 at 4 um/px, in tiles of 50 px.
        assert {(100, 200), (150, 200)} <= seen
        # The margin, 32 um or 8 px, and two pixels of 16 um let at most one more row and column in.
        assert seen <= {(row, column) for row in (100, 150) for column in (150, 200)}
        dark_anywhere = [location for values, location in everything(glass) if values.min() < 0.9]
        assert set(dark_anywhere) <= seen


def test_an_all_white_slide_has_no_tiles(tmp_path: Path) -> None:
    write(tmp_path / "white.tif", np.full((300, 300, 3), 255, np.uint8))
    with open_slide(tmp_path / "white.tif") as white:
        assert list(TileSplitter(PhysicalTiles(200, 50, 4.0), TO_UNIT, TissueFinder())(white)) == []


def test_threads_end_when_the_caller_stops_early(slide: Slide) -> None:
    tiles = TileSplitter(PixelTiles(16, 4, 16), TO_UNIT, workers=3)(slide)
    next(tiles)
    assert reader_threads()
    tiles.close()
    assert not reader_threads()


class BrokenSlide:
    """A slide whose pixels below a row are damaged; counts what it is asked for."""

    def __init__(self, slide: Slide, broken_from: float = np.inf) -> None:
        self.size, self.mpp = slide.size, slide.mpp
        self.broken_from = broken_from
        self.reads = 0

    def read_downsampled(self, x: float, y: float, width: int, height: int, downsample: float) -> np.ndarray:
        self.reads += 1
        if y >= self.broken_from:
            raise SlideReadError(f"broken.svs: row {y} cannot be decoded; copy the file again")
        return np.zeros((height, width, 3), np.uint8)


def test_an_error_in_a_reader_thread_reaches_the_caller_after_the_tiles_before_it(slide: Slide) -> None:
    splitter = TileSplitter(PixelTiles(16, 4, 16), TO_UNIT, workers=2)
    rows = []

    def collect() -> None:
        for _, (row, _) in splitter(BrokenSlide(slide, broken_from=100)):
            rows.append(row)

    with pytest.raises(SlideReadError, match=r"broken\.svs"):
        collect()
    assert len(rows) == sum(place.y < 100 for place in splitter.grid(slide))
    assert not reader_threads()


def test_readers_go_ahead_of_the_network_but_not_far(slide: Slide) -> None:
    counted = BrokenSlide(slide)
    tiles = TileSplitter(PixelTiles(16, 4, 16), TO_UNIT, workers=2, read_ahead=5)(counted)
    next(tiles)
    wait_until(lambda: counted.reads >= 6)
    time.sleep(0.05)
    assert counted.reads == 6
    tiles.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_no_worker_is_refused() -> None:
    with pytest.raises(ConfigError, match="num_workers must be at least 1"):
        TileSplitter(PixelTiles(16, 4, 16), TO_UNIT, workers=0)
