"""The pyramid writer, looked at through readers that are not ours."""

import tracemalloc
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from bundle.errors import OutputError
from bundle.geometry import Size
from bundle.outputs.pyramid import level_sizes, write_pyramid


def write_array(path: Path, array: np.ndarray, **options) -> Path:
    write_pyramid(
        path,
        Size(array.shape[1], array.shape[0]),
        lambda x, y, w, h: array[y : y + h, x : x + w],
        channels=3 if array.ndim == 3 else 1,
        **{"mpp": 0.25, **options},
    )
    return path


def random_mask(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width * height).integers(0, 4, (height, width), np.uint8)


SIZES = [(1, 1), (1, 700), (319, 319), (256, 256), (1023, 1025), (1025, 257), (10, 30000), (3000, 10)]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("compression", ["deflate", "zstd"])
def test_a_mask_reads_back_pixel_equal(tmp_path, width, height, compression):
    mask = random_mask(width, height)
    path = write_array(tmp_path / "mask.tif", mask, compression=compression)
    np.testing.assert_array_equal(tifffile.imread(path), mask)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_openslide_sees_every_level_the_resolution_and_the_pixels(tmp_path, width, height):
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    path = write_array(tmp_path / "slide.tif", image, mpp=0.5, downsampling="mean")
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (width, height)
        assert slide.level_dimensions == tuple((s.width, s.height) for s in level_sizes(Size(width, height), 256))
        assert list(slide.level_downsamples) == sorted(slide.level_downsamples)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.5)
        np.testing.assert_array_equal(np.asarray(slide.read_region((0, 0), 0, (width, height)))[..., :3], image)


def test_nearest_levels_hold_only_values_of_the_level_above(tmp_path):
    mask = random_mask(1023, 517)
    path = write_array(tmp_path / "mask.tif", mask)
    with tifffile.TiffFile(path) as file:
        for k, page in enumerate(file.pages):
            np.testing.assert_array_equal(page.asarray(), mask[:: 2**k, :: 2**k])


def test_mean_levels_average_two_by_two_pixels(tmp_path):
    image = np.random.default_rng(2).integers(0, 256, (512, 1024, 3), np.uint8)
    path = write_array(tmp_path / "slide.tif", image, downsampling="mean")
    with tifffile.TiffFile(path) as file:
        blocks = image.reshape(256, 2, 512, 2, 3).astype(float).mean(axis=(1, 3))
        assert np.abs(file.pages[1].asarray() - blocks).max() <= 0.5


def test_every_level_states_its_own_resolution(tmp_path):
    path = write_array(tmp_path / "mask.tif", random_mask(1000, 600), mpp=0.5)
    with tifffile.TiffFile(path) as file:
        for k, page in enumerate(file.pages):
            numerator, denominator = page.tags["XResolution"].value
            assert page.tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
            assert 1e4 * denominator / numerator == pytest.approx(0.5 * 2**k)
            assert (page.subfiletype == 1) == (k > 0)


def test_a_slide_of_unknown_resolution_states_none(tmp_path):
    path = write_array(tmp_path / "mask.tif", random_mask(300, 300), mpp=None)
    with openslide.OpenSlide(path) as slide:
        assert "openslide.mpp-x" not in slide.properties


def test_the_description_is_kept_word_for_word(tmp_path):
    path = write_array(tmp_path / "mask.tif", random_mask(300, 300), description="model 1.2, sha256 abc")
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.comment"] == "model 1.2, sha256 abc"


def test_jpeg_keeps_smooth_colours(tmp_path):
    ramp = np.linspace(60, 220, 700).astype(np.uint8)
    image = np.stack(np.broadcast_arrays(ramp[None, :], ramp[:500, None], np.uint8(128)), axis=-1)
    path = write_array(tmp_path / "slide.tif", image, compression="jpeg", downsampling="mean", jpeg_quality=90)
    with openslide.OpenSlide(path) as slide:
        seen = np.asarray(slide.read_region((0, 0), 0, (700, 500)))[..., :3].astype(int)
    assert np.abs(seen - image).mean() < 2
    assert path.stat().st_size < image.nbytes / 20


def test_cucim_reads_the_levels_too(tmp_path):
    cucim = pytest.importorskip("cucim.clara", exc_type=ImportError)
    image = np.random.default_rng(3).integers(0, 256, (1025, 700, 3), np.uint8)
    slide = cucim.CuImage(str(write_array(tmp_path / "slide.tif", image)))
    assert slide.resolutions["level_dimensions"] == ((700, 1025), (350, 513), (175, 257), (88, 129))
    assert slide.spacing()[:2] == pytest.approx([0.25, 0.25])
    np.testing.assert_array_equal(np.asarray(slide.read_region((0, 0), (700, 1025), 0)), image)


def test_each_row_of_tiles_is_asked_for_once_and_in_order(tmp_path):
    asked = []

    def read(x: int, y: int, width: int, height: int) -> np.ndarray:
        asked.append((x, y, width, height))
        return np.zeros((height, width), np.uint8)

    write_pyramid(tmp_path / "mask.tif", Size(500, 700), read, mpp=1.0, channels=1)
    assert asked == [(0, 0, 500, 256), (0, 256, 500, 256), (0, 512, 500, 188)]


def test_an_empty_mask_is_nearly_free(tmp_path):
    path = write_array(tmp_path / "mask.tif", np.zeros((5000, 5000), np.uint8))
    assert path.stat().st_size < 5000 * 5000 / 200


def peak_bytes(path: Path, height: int) -> int:
    def read(x: int, y: int, width: int, height: int) -> np.ndarray:
        return np.full((height, width, 3), y % 251, np.uint8)

    tracemalloc.start()
    write_pyramid(path, Size(1000, height), read, mpp=0.25, channels=3, downsampling="mean")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_height(tmp_path):
    peak_bytes(tmp_path / "warm.tif", 512)
    assert peak_bytes(tmp_path / "tall.tif", 40_000) < 1.3 * peak_bytes(tmp_path / "low.tif", 4_000)


def test_above_three_gigabytes_of_pixels_the_file_is_a_bigtiff(tmp_path):
    def read(x: int, y: int, width: int, height: int) -> np.ndarray:
        return np.broadcast_to(np.uint8(0), (height, width))

    write_pyramid(tmp_path / "big.tif", Size(60_000, 40_000), read, mpp=0.25, channels=1, tile_px=2048)
    with tifffile.TiffFile(tmp_path / "big.tif") as file:
        assert file.is_bigtiff
    with tifffile.TiffFile(write_array(tmp_path / "small.tif", random_mask(300, 300))) as file:
        assert not file.is_bigtiff


def test_a_reader_that_fails_leaves_no_file(tmp_path):
    def read(x: int, y: int, width: int, height: int) -> np.ndarray:
        if y > 0:
            raise RuntimeError("the network died")
        return np.zeros((height, width), np.uint8)

    with pytest.raises(RuntimeError, match="the network died"):
        write_pyramid(tmp_path / "mask.tif", Size(500, 700), read, mpp=1.0, channels=1)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_gives_the_wrong_shape_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"read\(0, 0, 500, 256\) gave uint8 \(500, 256\)"):
        write_pyramid(
            tmp_path / "mask.tif", Size(500, 700), lambda x, y, w, h: np.zeros((w, h), np.uint8), mpp=1.0, channels=1
        )


def test_a_path_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "mask.tif").mkdir()
    with pytest.raises(OutputError, match=r"mask\.tif"):
        write_array(tmp_path / "mask.tif", random_mask(10, 10))


@pytest.mark.parametrize("tile_px", [0, 100, -16])
def test_tiles_that_tiff_forbids_are_refused(tmp_path, tile_px):
    with pytest.raises(ValueError, match="multiple of 16"):
        write_array(tmp_path / "mask.tif", random_mask(10, 10), tile_px=tile_px)
