"""Blending in a band gives what blending in an image of the whole slide gives, in less memory."""

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map

from bundle.errors import ConfigError
from bundle.geometry import Size
from bundle.grid import Tile, TileGrid
from bundle.stream import BandMerger, ClassMap

LocatedProbabilities = list[tuple[Tile, torch.Tensor]]


def random_tiles(grid: TileGrid, channels: int, seed: int, kept: float = 1.0) -> LocatedProbabilities:
    """Random probabilities (1, C, tile, tile) for a random part of the grid's tiles."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, channels, grid.tile_px, grid.tile_px)
    tiles = [(tile, torch.randn(shape, generator=generator).mul(2).softmax(1)) for tile in grid]
    return [located for located in tiles if torch.rand((), generator=generator) < kept]


def padded(grid: TileGrid) -> tuple[int, int]:
    return max(grid.size.height, grid.tile_px), max(grid.size.width, grid.tile_px)


def merged(grid: TileGrid, tiles: LocatedProbabilities, channels: int, **options: object) -> ClassMap:
    shape, cropped = (1, channels, *padded(grid)), (1, channels, grid.size.height, grid.size.width)
    merger = BandMerger(shape, cropped, downsample=grid.downsample, **options)
    for tile, probabilities in tiles:
        merger.aggregate(probabilities, (tile.y, tile.x))
    return merger.finalize()


def gaussian(tile_px: int) -> torch.Tensor:
    """The weights of a tile, (tile, tile): the product of MONAI's along each side."""
    side = compute_importance_map((tile_px,), mode="gaussian", sigma_scale=0.125)
    return side[:, None] * side[None, :]


def dense(grid: TileGrid, tiles: LocatedProbabilities, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean probabilities (C, H, W) and total weights (H, W), accumulated over an image of the whole slide."""
    sums, weights = torch.zeros(channels, *padded(grid)), torch.zeros(padded(grid))
    weight = gaussian(grid.tile_px)
    for tile, probabilities in tiles:
        place = np.s_[..., tile.y : tile.y + grid.tile_px, tile.x : tile.x + grid.tile_px]
        sums[place] += probabilities[0] * weight
        weights[place] += weight
    inside = np.s_[..., : grid.size.height, : grid.size.width]
    mean = torch.where(weights > 0, sums / weights, 0)
    return mean[inside].numpy(), weights[inside].numpy()


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    tile = draw(st.integers(1, 40))
    size = Size(draw(st.integers(1, 150)), draw(st.integers(1, 150)))
    return TileGrid(size, tile, draw(st.integers(0, tile - 1).filter(lambda o: (tile - o) > tile // 4)), 2.5)


@settings(max_examples=60, deadline=None)
@given(grid=grids(), channels=st.sampled_from([2, 4]), seed=st.integers(0, 1000), kept=st.sampled_from([1.0, 0.6, 0.1]))
def test_the_band_equals_the_whole_image(grid: TileGrid, channels: int, seed: int, kept: float) -> None:
    tiles = random_tiles(grid, channels, seed, kept)
    mean, weights = dense(grid, tiles, channels)
    foreground = torch.from_numpy(mean[1:]).sum(0).numpy()
    is_glomerulus = foreground >= 0.5

    result = merged(grid, tiles, channels)

    assert result.size == grid.size
    assert result.downsample == 2.5
    np.testing.assert_array_equal(result.foreground, np.rint(foreground * 255))
    np.testing.assert_array_equal(result.classes, np.where(is_glomerulus, mean[1:].argmax(0) + 1, 0))
    np.testing.assert_array_equal(result.confidence, np.rint(np.where(is_glomerulus, mean[1:].max(0), 0) * 255))
    assert not result.foreground[weights == 0].any()


def test_the_weights_are_gaussian() -> None:
    grid = TileGrid(Size(96, 64), 64, 32, 1.0)
    tiles = [
        (tile, torch.tensor([1 - p, p]).view(1, 2, 1, 1).expand(1, 2, 64, 64))
        for tile, p in zip(grid, (0, 1), strict=True)
    ]
    centred = np.arange(64) - 31.5
    weight = np.maximum(np.exp(-(centred**2) / (2 * (64 / 8) ** 2)), 1e-3)
    expected = weight[:32] / (weight[32:] + weight[:32])
    row = merged(grid, tiles, 2).foreground[32]
    assert (row[:32] == 0).all()
    assert (row[64:] == 255).all()
    np.testing.assert_allclose(row[32:64] / 255, expected, atol=1 / 255)


def test_no_tile_s_edge_shows_in_the_result() -> None:
    # The worst case: of two neighbours one sees nothing but glomerulus, the other nothing but background.
    grid = TileGrid(Size(700, 640), 256, 64, 4.0)
    probabilities = [(tile, float((i + tile.y // 192) % 2)) for i, tile in enumerate(grid)]
    tiles = [(t, torch.tensor([1 - p, p]).view(1, 2, 1, 1).expand(1, 2, 256, 256)) for t, p in probabilities]
    foreground = merged(grid, tiles, 2).foreground.astype(int)
    for axis in (0, 1):
        assert np.abs(np.diff(foreground, axis=axis)).max() <= 0.05 * 255


def test_equal_predictions_stay_equal_across_tiles() -> None:
    grid = TileGrid(Size(333, 257), 64, 16, 1.0)
    pixel = torch.tensor([0.25, 0.15, 0.2, 0.4]).view(1, 4, 1, 1)
    result = merged(grid, [(tile, pixel.expand(1, 4, 64, 64)) for tile in grid], 4)
    assert np.unique(result.classes).tolist() == [3]
    assert np.unique(result.foreground).tolist() == [round(0.75 * 255)]
    assert np.unique(result.confidence).tolist() == [round(0.4 * 255)]


def test_two_classes_of_a_third_each_are_a_glomerulus() -> None:
    pixel = torch.tensor([0.35, 0.3, 0.05, 0.3]).view(1, 4, 1, 1)  # argmax would say background
    result = merged(TileGrid(Size(1, 1), 1, 0, 1.0), [(Tile(0, 0), pixel)], 4)
    assert result.classes[0, 0] == 1


@pytest.mark.parametrize(("threshold", "expected"), [(0.3, 1), (0.5, 0), (1.0, 0)])
def test_the_threshold_decides(threshold: float, expected: int) -> None:
    pixel = torch.tensor([0.6, 0.4]).view(1, 2, 1, 1)
    result = merged(TileGrid(Size(1, 1), 1, 0, 1.0), [(Tile(0, 0), pixel)], 2, threshold=threshold)
    assert result.classes[0, 0] == expected
    assert result.threshold == threshold


@pytest.mark.parametrize("threshold", [0, -1, 1.5, float("nan")])
def test_a_threshold_that_is_no_probability_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match="threshold"):
        BandMerger((1, 2, 8, 8), threshold=threshold)


def test_equal_weights_are_had_by_constant_blending() -> None:
    grid = TileGrid(Size(96, 64), 64, 32, 1.0)
    tiles = [(tile, torch.full((1, 2, 64, 64), p)) for tile, p in zip(grid, (0.2, 0.6), strict=True)]
    row = merged(grid, tiles, 2, blend="constant").foreground[5]
    assert [row[0], row[40], row[95]] == [round(0.2 * 255), round(0.4 * 255), round(0.6 * 255)]


def test_tiles_out_of_row_order_are_refused() -> None:
    merger = BandMerger((1, 2, 100, 100))
    tile = torch.full((1, 2, 40, 40), 0.5)
    for location in ((0, 0), (0, 60), (30, 0)):
        merger.aggregate(tile, location)
    with pytest.raises(ValueError, match="row order"):
        merger.aggregate(tile, (0, 20))


def test_without_tiles_all_is_background_also_when_asked_twice() -> None:
    merger = BandMerger((1, 4, 30, 20))
    assert merger.finalize() is merger.finalize()
    assert not merger.finalize().classes.any()
    assert merger.finalize().classes.shape == (30, 20)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's count of anonymous memory")
def test_memory_does_not_grow_with_the_slide_s_height() -> None:
    def rows_of_tiles() -> Iterator[Tile]:
        return iter(TileGrid(Size(256, 100_000), 128, 32, 1.0))

    merger = BandMerger((1, 4, 100_000, 256))
    tile = torch.rand(1, 4, 128, 128).softmax(1)
    used = []
    for place in rows_of_tiles():
        merger.aggregate(tile, (place.y, place.x))
        if place.x == 0:
            used.append(anonymous_megabytes())
    result = merger.finalize()
    # Four channels of floats would take 410 MB.
    assert max(used) - used[10] < 20
    assert result.classes.all()


def anonymous_megabytes() -> float:
    gc.collect(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))
