"""Tile geometry: every pixel is covered, whatever the size of the slide."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bundle.errors import ConfigError
from bundle.geometry import Size
from bundle.grid import PhysicalTiles, PixelTiles, Tile, size_at, tile_starts

STUDY = PixelTiles(tile_level0_px=1024, overlap_level0_px=256, tile_px=320)


@st.composite
def lengths_tiles_overlaps(draw: st.DrawFn) -> tuple[int, int, int]:
    tile = draw(st.integers(1, 300))
    return draw(st.integers(1, 3000)), tile, draw(st.integers(0, tile - 1))


@given(lengths_tiles_overlaps())
@example((1, 256, 64))
@example((256, 256, 64))
@example((257, 256, 64))
@example((448, 256, 64))  # two tiles fit exactly
@example((449, 256, 64))
def test_tiles_cover_every_pixel_and_end_at_the_edge(drawn: tuple[int, int, int]) -> None:
    length, tile, overlap = drawn
    starts = tile_starts(length, tile, overlap)
    covered = set()
    for start in starts:
        covered |= set(range(start, start + tile))
    assert covered == set(range(max(length, tile)))


@given(lengths_tiles_overlaps())
def test_neighbours_overlap_as_asked_and_none_is_superfluous(drawn: tuple[int, int, int]) -> None:
    length, tile, overlap = drawn
    starts = tile_starts(length, tile, overlap)
    steps = [after - before for before, after in pairwise(starts)]
    assert all(1 <= step <= tile - overlap for step in steps)
    # Without its last tile the row would not reach the edge.
    assert len(starts) == 1 or starts[-2] + tile < length


def test_an_image_smaller_than_a_tile_has_one_tile() -> None:
    assert tile_starts(319, 320, 80) == (0,)
    assert tile_starts(320, 320, 80) == (0,)
    assert tile_starts(321, 320, 80) == (0, 1)


@given(
    width=st.integers(1, 200_000),
    height=st.integers(1, 200_000),
    downsample=st.floats(0.3, 64).map(lambda value: round(value, 6)),
)
@example(width=1024, height=1025, downsample=3.2)
@example(width=1023, height=10, downsample=16.0)
def test_the_model_size_reaches_past_the_last_level_0_pixel_by_less_than_one_pixel(
    width: int, height: int, downsample: float
) -> None:
    size = size_at(Size(width, height), downsample)
    for level_0, model in ((width, size.width), (height, size.height)):
        assert model * downsample >= level_0 - 1e-5 * downsample
        assert model == 1 or (model - 1) * downsample < level_0


def test_rounding_errors_grow_no_column_of_nothing() -> None:
    assert size_at(Size(1024, 1025), 3.2) == Size(320, 321)
    assert size_at(Size(1024, 1024), 1024 / 320 - 1e-12) == Size(320, 320)


def test_physical_tiles_show_every_scanner_s_slide_at_one_scale() -> None:
    tiles = PhysicalTiles(tile_um=1024, overlap_um=256, mpp=4.0)
    assert (tiles.tile_px, tiles.overlap_px) == (256, 64)
    at_40x, at_20x = tiles.grid(Size(40_000, 20_000), 0.25), tiles.grid(Size(20_000, 10_000), 0.5)
    assert (at_40x.downsample, at_20x.downsample) == (16.0, 8.0)
    assert at_40x.size == at_20x.size == Size(2500, 1250)
    assert list(at_40x) == list(at_20x)


def test_the_study_s_tiles_are_1024_px_seen_at_320() -> None:
    grid = STUDY.grid(Size(2048, 1024), None)
    assert (grid.tile_px, grid.overlap_px, grid.downsample) == (320, 80, 3.2)
    assert grid.size == Size(640, 320)
    assert list(grid) == [Tile(0, 0), Tile(240, 0), Tile(320, 0)]


def test_tiles_come_row_by_row() -> None:
    grid = PhysicalTiles(100, 20, 1.0).grid(Size(150, 170), 1.0)
    assert list(grid) == [Tile(0, 0), Tile(50, 0), Tile(0, 70), Tile(50, 70)]
    assert len(grid) == 4


def test_physical_tiles_ask_for_the_resolution() -> None:
    with pytest.raises(ConfigError, match="--mpp"):
        PhysicalTiles(1024, 256, 4.0).grid(Size(100, 100), None)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((1024, 256, 0), "mpp must be > 0"),
        ((1024, 256, float("nan")), "mpp must be > 0"),
        ((1, 0, 4.0), "too small"),
        ((1024, 1024, 4.0), "less than the tile"),
        ((1024, -4, 4.0), "less than the tile"),
    ],
)
def test_impossible_tiles_are_refused(arguments: tuple[float, float, float], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        PhysicalTiles(*arguments)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [((1024, 1024, 320), "less than the tile"), ((0, 0, 320), "at least 1"), ((9, 0, 0), "small")],
)
def test_impossible_pixel_tiles_are_refused(arguments: tuple[int, int, int], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        PixelTiles(*arguments)
