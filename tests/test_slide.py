"""Reading: frames, padding, resolutions, tiles. Truth is the array that was written, or an analytic gradient."""

import multiprocessing
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

import bundle.readers.resample
from bundle.errors import ConfigError, UnknownResolutionError
from bundle.geometry import Rect, Size
from bundle.slide import Slide, open_slide

WIDTH, HEIGHT, MPP = 640, 480, 0.5


def textured(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """An image in which every pixel differs from its neighbours, and every place from every other."""
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_pyramid(path: Path, levels: list[np.ndarray], mpp: float | None = MPP, **options: object) -> Path:
    """Levels as top-level pages, tiled, lossless; `mpp` in the resolution tags."""
    shared = {"tile": (128, 128), "photometric": "rgb", "compression": "adobe_deflate", **options}
    with tifffile.TiffWriter(path) as tiff:
        for i, level in enumerate(levels):
            scale = levels[0].shape[1] / level.shape[1]
            tags = {"resolution": (1e4 / mpp / scale,) * 2, "resolutionunit": "CENTIMETER"} if mpp else {}
            tiff.write(level, subfiletype=int(i > 0), metadata=None, **shared, **tags)
    return path


@pytest.fixture(scope="module")
def texture(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    full = textured()
    levels = [full, full[::2, ::2].copy(), full[::4, ::4].copy()]
    return write_pyramid(tmp_path_factory.mktemp("texture") / "texture.tif", levels), levels


@pytest.fixture(scope="module")
def slide(texture: tuple[Path, list[np.ndarray]]) -> Slide:
    with open_slide(texture[0]) as opened:
        yield opened


def test_a_slide_tells_its_size_levels_and_resolution(slide: Slide) -> None:
    assert slide.size == Size(WIDTH, HEIGHT)
    assert [(level.size, level.downsample) for level in slide.levels] == [
        (Size(640, 480), 1.0),
        (Size(320, 240), 2.0),
        (Size(160, 120), 4.0),
    ]
    assert slide.mpp == pytest.approx(MPP)
    assert slide.bounds == Rect(0, 0, WIDTH, HEIGHT)
    assert "texture.tif" in repr(slide)
    assert "640x480" in repr(slide)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), level=st.integers(0, 2))
def test_a_read_is_the_level_on_an_endless_white_plane(
    texture: tuple[Path, list[np.ndarray]], slide: Slide, data: st.DataObject, level: int
) -> None:
    x, y = data.draw(st.integers(-200, 800)), data.draw(st.integers(-200, 600))
    width, height = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 300))
    plane = np.pad(texture[1][level], ((600, 1000), (600, 1200), (0, 0)), constant_values=255)
    expected = plane[600 + y : 600 + y + height, 600 + x : 600 + x + width]
    assert np.array_equal(slide.read(level, x, y, width, height), expected)


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    """Structure at all scales and edges as sharp as a stain's."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = np.stack([np.sin(x / 3 + y / 5), np.sin(x / 11) * np.cos(y / 7), np.sin((x * y) / 900)], axis=-1)
    full = np.rint(127 + 120 * waves).astype(np.uint8)
    full[(x // 40 + y // 30) % 5 == 0] = (70, 20, 120)
    path = write_pyramid(tmp_path_factory.mktemp("tissue") / "tissue.tif", [full, full[::2, ::2].copy()])
    with open_slide(path) as opened:
        yield opened


def assert_same_picture(pixels: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(pixels.astype(int) - expected).max() <= 1


@settings(max_examples=40, deadline=None)
@example(x=0.0, y=0.0, mpp=1.2, widths=[1, 1, 1, 13], heights=[12, 40])  # many values lie exactly between two levels
@given(
    x=st.floats(-100, 500),
    y=st.floats(-100, 400),
    mpp=st.floats(0.2, 6.0) | st.sampled_from([0.75, 1.2, 1.25, 1.5, 3.0]),
    widths=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    heights=st.lists(st.integers(1, 60), min_size=1, max_size=4),
)
def test_tiles_equal_one_large_read(
    tissue: Slide, x: float, y: float, mpp: float, widths: list[int], heights: list[int]
) -> None:
    large = tissue.read_region(x, y, sum(widths), sum(heights), mpp)
    scale = mpp / tissue.require_mpp()
    lefts, tops = np.cumsum([0, *widths[:-1]]), np.cumsum([0, *heights[:-1]])
    tiles = [
        [tissue.read_region(x + i * scale, y + j * scale, w, h, mpp) for i, w in zip(lefts, widths, strict=True)]
        for j, h in zip(tops, heights, strict=True)
    ]
    assert_same_picture(np.block([[[tile] for tile in row] for row in tiles]), large)


def test_a_large_read_in_pieces_equals_one_in_one_go(tissue: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    in_one_go = tissue.read_region(-20.3, 11.7, 300, 211, 1.3)
    monkeypatch.setattr(bundle.readers.resample, "READ_SIDE_PX", 50)
    assert_same_picture(tissue.read_region(-20.3, 11.7, 300, 211, 1.3), in_one_go)


def gradient(width: int, height: int, downsample: int = 1) -> np.ndarray:
    """Red rises along x, green along y: the value at a point is known without a reader. Blue tells the level."""
    x = (np.arange(width) + 0.5) * downsample
    y = (np.arange(height) + 0.5) * downsample
    pixels = np.zeros((height, width, 3))
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = x / 4, (y / 2)[:, None], 50 * downsample
    return np.rint(pixels).astype(np.uint8)


@pytest.fixture(scope="module")
def ramp(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    levels = [gradient(960 // d, 480 // d, d) for d in (1, 2, 4)]
    with open_slide(write_pyramid(tmp_path_factory.mktemp("ramp") / "ramp.tif", levels)) as opened:
        yield opened


@settings(max_examples=60, deadline=None)
@given(x=st.floats(40, 300), y=st.floats(40, 100), mpp=st.floats(0.25, 4.0))
def test_a_region_shows_the_right_place_at_any_resolution(ramp: Slide, x: float, y: float, mpp: float) -> None:
    scale = mpp / MPP
    width, height = (max(1, int(side / scale)) for side in (300, 200))
    pixels = ramp.read_region(x, y, width, height, mpp).astype(float)
    across = (x + (np.arange(width) + 0.5) * scale) / 4
    down = (y + (np.arange(height) + 0.5) * scale) / 2
    assert np.abs(pixels[..., 0] - across).max() <= 1
    assert np.abs(pixels[..., 1] - down[:, None]).max() <= 1


@pytest.mark.parametrize(
    ("mpp", "downsample"), [(0.1, 1), (0.5, 1), (0.99, 1), (0.9995, 2), (1.0, 2), (1.99, 2), (2.0, 4), (9.0, 4)]
)
def test_a_region_comes_from_the_nearest_finer_level(ramp: Slide, mpp: float, downsample: int) -> None:
    assert ramp.read_region(200, 200, 9, 9, mpp)[4, 4, 2] == 50 * downsample


def test_a_region_at_a_levels_own_resolution_is_not_resampled(
    texture: tuple[Path, list[np.ndarray]], slide: Slide
) -> None:
    for level, downsample in enumerate((1, 2, 4)):
        pixels = slide.read_region(16 * downsample, 8 * downsample, 100, 90, MPP * downsample)
        assert np.array_equal(pixels, texture[1][level][8:98, 16:116])


def test_a_region_far_outside_is_white(slide: Slide) -> None:
    assert slide.read_region(1e7, -1e7, 20, 30, 0.7).tolist() == np.full((30, 20, 3), 255).tolist()


@pytest.mark.parametrize("mpp", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_resolution_is_refused(texture: tuple[Path, list[np.ndarray]], slide: Slide, mpp: float) -> None:
    with pytest.raises(ConfigError, match=r"texture\.tif.*above 0"):
        slide.read_region(0, 0, 10, 10, mpp)
    with pytest.raises(ConfigError, match=r"texture\.tif.*--mpp"):
        open_slide(texture[0], mpp=mpp)


def test_a_decimal_comma_is_no_resolution(texture: tuple[Path, list[np.ndarray]]) -> None:
    with pytest.raises(ConfigError, match=r"mpp \(0, 25\) is not a resolution"):
        open_slide(texture[0], mpp=(0, 25))  # what --mpp 0,25 becomes on the command line


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (-1, 5)])
def test_a_read_of_no_pixels_is_refused(slide: Slide, width: int, height: int) -> None:
    with pytest.raises(ValueError, match="no pixel"):
        slide.read(0, 0, 0, width, height)
    with pytest.raises(ValueError, match="no pixel"):
        slide.read_region(0, 0, width, height, 1.0)


def test_an_unknown_resolution_names_the_override_and_obeys_it(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "unknown.tif", [textured()], mpp=None)
    with open_slide(path) as unknown:
        assert unknown.mpp is None
        assert unknown.thumbnail(64).shape == (48, 64, 3)
        with pytest.raises(UnknownResolutionError, match=r"unknown\.tif.*--mpp"):
            unknown.read_region(0, 0, 10, 10, 1.0)
    with open_slide(path, mpp=0.25) as known:
        assert known.require_mpp() == 0.25


def test_a_read_by_downsample_needs_no_resolution(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "unknown.tif", [gradient(960, 480), gradient(480, 240, 2)], mpp=None)
    with open_slide(path) as unknown, open_slide(path, mpp=MPP) as known:
        by_downsample = unknown.read_downsampled(-7.5, 20, 90, 80, 3.0)
        assert np.array_equal(by_downsample, known.read_region(-7.5, 20, 90, 80, 3 * MPP))


def test_the_override_wins_over_the_file(texture: tuple[Path, list[np.ndarray]]) -> None:
    with open_slide(texture[0], mpp=0.3) as slide:
        assert slide.require_mpp() == 0.3


def test_a_region_of_a_slide_is_a_slide_of_its_own(texture: tuple[Path, list[np.ndarray]]) -> None:
    path, levels = texture
    with open_slide(path, region=Rect(100, 60, 200, 120)) as part:
        assert part.size == Size(200, 120)
        assert part.bounds == Rect(100, 60, 200, 120)
        assert [level.size for level in part.levels] == [Size(200, 120), Size(100, 60), Size(50, 30)]
        assert np.array_equal(part.read(0, 0, 0, 200, 120), levels[0][60:180, 100:300])
        assert np.array_equal(part.read(2, 0, 0, 50, 30), levels[2][15:45, 25:75])
        assert np.array_equal(part.read_region(0, 0, 100, 60, 2 * MPP), levels[1][30:90, 50:150])
        assert (part.read(0, 200, 0, 5, 5) == 255).all()
        assert (part.read(0, -5, 0, 5, 5) == 255).all()


@pytest.mark.parametrize(
    "region", [Rect(0, 0, 641, 1), Rect(-1, 0, 5, 5), Rect(0, 480, 5, 5), Rect(1, 1, 0, 5), Rect(9000, 9000, 5, 5)]
)
def test_a_region_outside_the_slide_is_refused(texture: tuple[Path, list[np.ndarray]], region: Rect) -> None:
    with pytest.raises(ConfigError, match=r"texture\.tif.*640 x 480"):
        open_slide(texture[0], region=region)


def test_a_thumbnail_keeps_the_proportions_and_never_grows(slide: Slide) -> None:
    assert slide.thumbnail(100).shape == (75, 100, 3)
    assert slide.thumbnail(10_000).shape == (HEIGHT, WIDTH, 3)
    assert slide.thumbnail(1).shape == (1, 1, 3)


def test_a_thumbnail_is_the_picture_made_small(ramp: Slide) -> None:
    thumbnail = ramp.thumbnail(96).astype(float)
    assert np.abs(thumbnail[:, 1:-1, 0] - ((np.arange(96) + 0.5) * 10 / 4)[1:-1]).max() <= 1
    assert (thumbnail[..., 2] == 200).all(), "white from beyond the edge bled in"


def test_a_slide_survives_pickling(texture: tuple[Path, list[np.ndarray]]) -> None:
    with (
        open_slide(texture[0], mpp=0.3, region=Rect(10, 20, 300, 200)) as slide,
        pickle.loads(pickle.dumps(slide)) as copy,
    ):
        assert (copy.mpp, copy.bounds, copy.levels) == (slide.mpp, slide.bounds, slide.levels)
        assert np.array_equal(copy.read(0, 0, 0, 50, 50), slide.read(0, 0, 0, 50, 50))


def test_threads_may_read_one_slide_at_once(texture: tuple[Path, list[np.ndarray]], slide: Slide) -> None:
    wrong: list[int] = []

    def read_everywhere(seed: int) -> None:
        for x, y in np.random.default_rng(seed).integers(0, 380, (15, 2)):
            if not np.array_equal(slide.read(0, int(x), int(y), 100, 100), texture[1][0][y : y + 100, x : x + 100]):
                wrong.append(seed)

    threads = [threading.Thread(target=read_everywhere, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def checksum(slide: Slide) -> int:
    return int(slide.read(0, 0, 0, 64, 64).sum())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_process_reads_the_same_pixels(texture: tuple[Path, list[np.ndarray]], method: str) -> None:
    with open_slide(texture[0]) as slide, multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply_async(checksum, (slide,)).get(timeout=50) == checksum(slide)


def test_a_closed_slide_cannot_be_read(texture: tuple[Path, list[np.ndarray]]) -> None:
    slide = open_slide(texture[0])
    slide.close()
    slide.close()
    with pytest.raises(ValueError, match="closed"):
        slide.read(0, 0, 0, 5, 5)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_plain_image_is_a_slide_of_one_level(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"region{suffix}"
    Image.fromarray(gradient(300, 200)).save(path)
    with open_slide(path, mpp=1.0) as slide, Image.open(path) as image:
        assert slide.size == Size(300, 200)
        assert np.array_equal(slide.read(0, 0, 0, 300, 200), np.asarray(image))
