"""JPEG slides: every stored tile is decoded once, at the cheapest scale, and shows what it shows at full size."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.errors import SlideReadError
from bundle.geometry import Rect, Size
from bundle.grid import PhysicalTiles, PixelTiles, Tiles
from bundle.outputs.pyramid import write_pyramid
from bundle.phantom import Phantom, PhantomSpec
from bundle.readers.tile_cache import TileCache, process_cache
from bundle.slide import Slide, open_slide
from bundle.stream import TileSplitter

WIDTH, HEIGHT, MPP = 1500, 1100, 0.5
STORED = 128


@pytest.fixture(scope="module")
def kidney() -> np.ndarray:
    return Phantom(PhantomSpec(Size(WIDTH, HEIGHT), mpp=MPP, seed=3)).read(0, 0, WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def pyramid(kidney: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Levels of 1, 2, 4, 8, 16, as the bundle writes them."""
    path = tmp_path_factory.mktemp("pyramid") / "pyramid.tif"

    def read(x: int, y: int, width: int, height: int) -> np.ndarray:
        return kidney[y : y + height, x : x + width]

    write_pyramid(
        path, Size(WIDTH, HEIGHT), read, mpp=MPP, channels=3, tile_px=STORED, compression="jpeg", downsampling="mean"
    )
    return path


def write_jpeg(path: Path, levels: list[np.ndarray], **options: object) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for index, level in enumerate(levels):
            tiff.write(
                level,
                tile=(STORED, STORED),
                photometric="rgb",
                compression="jpeg",
                subfiletype=int(index > 0),
                metadata=None,
                resolution=(1e4 / MPP * level.shape[1] / levels[0].shape[1],) * 2,
                resolutionunit="CENTIMETER",
                **options,
            )
    return path


@pytest.fixture(scope="module")
def flat(kidney: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One level, its size no multiple of a stored tile."""
    return write_jpeg(tmp_path_factory.mktemp("flat") / "flat.tif", [kidney], compressionargs={"level": 90})


@pytest.fixture(scope="module")
def sparse(kidney: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Levels of 1 and 4 and 16, as Aperio's scanners write them."""
    levels = [np.ascontiguousarray(kidney[::step, ::step]) for step in (1, 4, 16)]
    return write_jpeg(tmp_path_factory.mktemp("sparse") / "sparse.tif", levels)


@pytest.fixture(scope="module")
def flat_slide(flat: Path) -> Iterator[Slide]:
    with open_slide(flat) as opened:
        yield opened


def stored_tiles(path: Path, level: int) -> int:
    with tifffile.TiffFile(path) as tiff:
        return len(tiff.series[0].levels[level].keyframe.dataoffsets)


def mean_of_blocks(path: Path, factor: int) -> np.ndarray:
    """Level 0 as tifffile decodes it in full, shrunk by a plain mean; blocks at the edge have what is inside."""
    full = tifffile.imread(path, key=0).astype(float)
    rows, columns = (np.arange(0, side, factor) for side in full.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(full, rows, axis=0), columns, axis=1)
    heights, widths = (np.diff([*starts, side]) for starts, side in zip((rows, columns), full.shape[:2], strict=True))
    return sums / (heights[:, None, None] * widths[None, :, None])


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    ("tiles", "level"),
    [
        (PixelTiles(320, 80, 100), 1),  # 3.2 level-0 px per px: from the level of 2
        (PixelTiles(320, 80, 160), 1),
        (PhysicalTiles(150, 40, 0.7), 0),
        (PhysicalTiles(256, 64, 4.0), 3),
    ],
)
def test_a_pass_over_a_pyramid_decodes_each_stored_tile_of_one_level_once(
    pyramid: Path, tiles: Tiles, level: int, workers: int
) -> None:
    with open_slide(pyramid) as slide:
        assert len(list(TileSplitter(tiles, lambda rgb: rgb, workers=workers)(slide))) > 1
        assert slide.decoded_tiles == stored_tiles(pyramid, level)


@pytest.mark.parametrize(
    ("downsample", "level"), [(1.5, 0), (2.0, 0), (3.2, 0), (4.0, 1), (7.9, 1), (9.0, 1), (15.0, 1), (16.0, 2)]
)
def test_a_pyramid_that_lacks_levels_is_decoded_once_from_the_nearest_finer_one(
    sparse: Path, downsample: float, level: int
) -> None:
    tiles = PixelTiles(round(64 * downsample), round(16 * downsample), 64)
    with open_slide(sparse) as slide:
        assert [level.downsample for level in slide.levels] == [1, 4, 16]
        assert list(TileSplitter(tiles, lambda rgb: rgb)(slide))
        assert slide.decoded_tiles == stored_tiles(sparse, level)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_missing_level_is_the_mean_of_the_pixels_within_a_few_grey_levels(flat: Path, factor: int) -> None:
    width, height = WIDTH // factor, HEIGHT // factor
    with open_slide(flat) as slide:
        off = np.abs(
            slide.read_downsampled(0, 0, width, height, factor) - mean_of_blocks(flat, factor)[:height, :width]
        )
    assert off.mean() < 0.6
    assert np.percentile(off, 99) <= 4
    assert off.max() <= {2: 20, 4: 10, 8: 4}[factor]


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_padding_in_the_tiles_at_the_edge_does_not_leak_into_the_picture(tmp_path: Path, factor: int) -> None:
    """Writers fill it with black; DCT scaling would spread that over a block."""
    path = write_jpeg(tmp_path / "white.tif", [np.full((203, 331, 3), 240, np.uint8)])
    padding = imagecodecs.jpeg8_decode(stored(path, -1))[-1, -1]
    assert padding.max() < 60
    width, height = -(-331 // factor), -(-203 // factor)
    with open_slide(path) as slide:
        shown = slide.read_downsampled(0, 0, width, height, factor)
    # The centre of the last px may be off the slide; of the full decode the px next to the padding ring, too.
    inside = shown[: 203 // factor, : 331 // factor]
    assert np.abs(inside - 240.0).max() <= np.abs(tifffile.imread(path) - 240.0).max()


def stored(path: Path, index: int) -> bytes:
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        start = page.dataoffsets[index]
        return path.read_bytes()[start : start + page.databytecounts[index]]


@settings(max_examples=40, deadline=None)
@given(
    x=st.floats(-100, 1400),
    y=st.floats(-100, 1000),
    downsample=st.floats(0.6, 14) | st.sampled_from([1.0, 2.0, 3.2, 4.0, 8.0]),
    widths=st.lists(st.integers(1, 50), min_size=1, max_size=3),
    heights=st.lists(st.integers(1, 50), min_size=1, max_size=3),
)
def test_tiles_equal_one_large_read_where_levels_are_missing(
    flat_slide: Slide, x: float, y: float, downsample: float, widths: list[int], heights: list[int]
) -> None:
    large = flat_slide.read_downsampled(x, y, sum(widths), sum(heights), downsample)
    lefts, tops = np.cumsum([0, *widths[:-1]]), np.cumsum([0, *heights[:-1]])
    for left, width in zip(lefts, widths, strict=True):
        for top, height in zip(tops, heights, strict=True):
            tile = flat_slide.read_downsampled(x + left * downsample, y + top * downsample, width, height, downsample)
            assert np.abs(tile.astype(int) - large[top : top + height, left : left + width]).max() <= 1


@pytest.fixture(scope="module")
def ramp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
    """Red is x / 4, green is y / 2 at every point of level 0; seen through a region that starts askew."""
    pixels = np.zeros((480, 960, 3))
    pixels[..., 0], pixels[..., 1] = (np.arange(960) + 0.5) / 4, ((np.arange(480) + 0.5) / 2)[:, None]
    path = write_jpeg(
        tmp_path_factory.mktemp("ramp") / "ramp.tif",
        [np.rint(pixels).astype(np.uint8)],
        subsampling=(1, 1),
        compressionargs={"level": 98},
    )
    with open_slide(path, region=Rect(13, 7, 900, 460)) as opened:
        yield opened


@settings(max_examples=40, deadline=None)
@given(x=st.floats(40, 300), y=st.floats(40, 100), downsample=st.floats(1, 20))
def test_a_missing_level_shows_the_right_place(ramp: Slide, x: float, y: float, downsample: float) -> None:
    width, height = (max(1, int(side / downsample)) for side in (300, 200))
    pixels = ramp.read_downsampled(x, y, width, height, downsample).astype(float)
    across = (13 + x + (np.arange(width) + 0.5) * downsample) / 4
    down = (7 + y + (np.arange(height) + 0.5) * downsample) / 2
    # Compared along whole columns and rows, as one value in a JPEG of this quality may be 2 grey levels off.
    assert np.abs(pixels[..., 0].mean(axis=0) - across).max() <= 1
    assert np.abs(pixels[..., 1].mean(axis=1) - down).max() <= 1


@pytest.mark.parametrize("name", ["pyramid", "flat", "sparse"])
def test_every_level_is_bit_for_bit_what_tifffile_decodes(name: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(name)
    with open_slide(path) as slide, tifffile.TiffFile(path) as tiff:
        for index, level in enumerate(tiff.series[0].levels):
            size = slide.levels[index].size
            assert np.array_equal(slide.read(index, 0, 0, size.width, size.height), level.asarray())


def write_like_aperio(path: Path, picture: np.ndarray) -> Path:
    """RGB components without Adobe's marker, which would tell a decoder so."""

    def tiles() -> Iterator[bytes]:
        for y in range(0, picture.shape[0], STORED):
            for x in range(0, picture.shape[1], STORED):
                tile = np.ascontiguousarray(picture[y : y + STORED, x : x + STORED])
                data = imagecodecs.jpeg8_encode(tile, 92, colorspace="RGB", outcolorspace="RGB")
                start = data.index(b"\xff\xee")
                yield data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4]) :]

    layout = {"shape": picture.shape, "dtype": np.uint8, "tile": (STORED, STORED), "photometric": "rgb"}
    tifffile.imwrite(path, tiles(), compression="jpeg", metadata=None, **layout)
    return path


@pytest.mark.parametrize("downsample", [1, 2, 4, 8])
def test_colours_are_right_where_the_components_are_rgb(tmp_path: Path, kidney: np.ndarray, downsample: int) -> None:
    path = write_like_aperio(tmp_path / "aperio.tif", kidney[: 4 * STORED, : 6 * STORED])
    with open_slide(path) as slide:
        shown = slide.read_downsampled(0, 0, 768 // downsample, 512 // downsample, downsample)
    off = np.abs(shown - mean_of_blocks(path, downsample))
    assert off.max() <= 2 if downsample == 1 else off.mean() < 1
    assert np.abs(shown.mean(axis=(0, 1)) - kidney[:512, :768].mean(axis=(0, 1))).max() < 2


@pytest.mark.parametrize("factor", [2, 8])
def test_a_real_slide_without_levels_is_close_to_the_mean(shared_data: Path, factor: int) -> None:
    path = shared_data / "slides" / "vendor" / "CMU-1-Small-Region.svs"
    expected = mean_of_blocks(path, factor)[:200, :250]
    with open_slide(path) as slide:
        assert slide.reader == "libjpeg-turbo"
        off = np.abs(slide.read_downsampled(0, 0, 250, 200, factor) - expected)
    assert off.mean() < 1
    assert np.percentile(off, 99.9) <= 10


@pytest.mark.parametrize("downsample", [1.0, 2.5, 8.0])
@pytest.mark.parametrize("damage", ["zeros", "noise", "cut"])
def test_a_damaged_tile_is_an_error_at_every_scale(tmp_path: Path, flat: Path, damage: str, downsample: float) -> None:
    data = bytearray(flat.read_bytes())
    with tifffile.TiffFile(flat) as tiff:
        start, count = tiff.pages[0].dataoffsets[1], tiff.pages[0].databytecounts[1]
    begin = start + count // 2 if damage == "cut" else start
    length = start + count - begin
    data[begin : begin + length] = np.random.default_rng(5).bytes(length) if damage == "noise" else bytes(length)
    path = tmp_path / "damaged.tif"
    path.write_bytes(data)
    with open_slide(path) as slide:
        assert slide.read_downsampled(0, 0, 16, 16, 1).shape == (16, 16, 3)
        for _ in range(2):  # the failure is not remembered as a tile
            with pytest.raises(SlideReadError, match=r"damaged\.tif: level 0 at .*copy the file again"):
                slide.read_downsampled(STORED, 0, 12, 12, downsample)


@pytest.mark.parametrize("downsample", [1, 4])
def test_left_out_jpeg_tiles_are_white(tmp_path: Path, downsample: int) -> None:
    dark = imagecodecs.jpeg8_encode(np.full((STORED, STORED, 3), 20, np.uint8), 90)
    path = tmp_path / "left_out.tif"
    layout = {"shape": (256, 256, 3), "dtype": np.uint8, "tile": (STORED, STORED), "photometric": "ycbcr"}
    tifffile.imwrite(path, iter([b"", dark, b"", dark]), compression="jpeg", metadata=None, **layout)
    with open_slide(path) as slide:
        side = 256 // downsample
        shown = slide.read_downsampled(0, 0, side, side, downsample)
        assert (shown[:, : side // 2] == 255).all()
        assert np.abs(shown[:, side // 2 :] - 20.0).max() <= 2
        assert slide.decoded_tiles == 2


def test_a_closed_slide_leaves_nothing_in_memory(pyramid: Path) -> None:
    before = process_cache().bytes
    with open_slide(pyramid) as slide:
        slide.thumbnail(1000)
        assert process_cache().bytes > before
    assert process_cache().bytes == before


def test_memory_follows_the_width_of_a_slide_and_not_its_height(
    tmp_path: Path, kidney: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = TileCache()
    monkeypatch.setattr("bundle.readers.jpeg_tiff.process_cache", lambda: cache)
    tile = imagecodecs.jpeg8_encode(np.ascontiguousarray(kidney[300:428, 300:428]), 80)

    def most_bytes(width: int, height: int) -> int:
        path = tmp_path / f"{width}x{height}.tif"
        layout = {"shape": (height, width, 3), "dtype": np.uint8, "tile": (STORED, STORED), "photometric": "ycbcr"}
        count = (width // STORED) * (height // STORED)
        tifffile.imwrite(path, iter([tile] * count), compression="jpeg", metadata=None, **layout)
        with open_slide(path) as slide:
            splitter = TileSplitter(PixelTiles(160, 40, 80), lambda rgb: rgb)
            held = max(cache.bytes for _ in splitter(slide))
            assert slide.decoded_tiles == count
        return held

    low, high, wide = most_bytes(5120, 1280), most_bytes(5120, 2560), most_bytes(10240, 1280)
    assert high == low
    assert low < wide <= 2 * low
    # Rows of 64 x 64 px at half size: a tile of 160 level-0 px touches at most 3.
    assert high <= 3 * (5120 // STORED + 16) * 64 * 64 * 3


def checksum(slide: Slide) -> int:
    return int(slide.read_downsampled(0, 0, 100, 100, 3.2).sum())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_worker_has_a_cache_of_its_own(flat_slide: Slide) -> None:
    expected = checksum(flat_slide)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(checksum, (flat_slide,)).get(timeout=50) == expected
