"""Formats written here, and files that are broken: the right pixels, or a one-line error with the file's name."""

import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from bundle.errors import SlideReadError
from bundle.geometry import Size
from bundle.readers import open_reader
from bundle.readers.cucim_reader import cucim_reader
from bundle.readers.jpeg_tiff import jpeg_reader
from bundle.readers.openslide_reader import OpenSlideReader
from bundle.readers.tiff_reader import TiffReader
from bundle.slide import open_slide

APERIO = "Aperio Image Library v12.0.0\r\n520x390 [0,0 520x390] (128x128) JPEG/RGB Q=90|AppMag = 20|MPP = 0.4990"


def picture(width: int = 520, height: int = 390) -> np.ndarray:
    """Smooth, so that JPEG keeps it, and different everywhere."""
    y, x = np.mgrid[:height, :width]
    channels = (127 + 100 * np.sin(x / 30), 255 * y / height, 127 + 100 * np.cos((x + y) / 40))
    return np.stack(channels, axis=-1).astype(np.uint8)


def write_levels(path: Path, count: int = 3, *, description: str | None = None, **options: object) -> list[np.ndarray]:
    """A pyramid of top-level pages; returns the levels as tifffile decodes them from the file."""
    shared = {"tile": (128, 128), "photometric": "rgb", "compression": "adobe_deflate", "metadata": None, **options}
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False)) as tiff:
        shared.pop("bigtiff", None)
        for i in range(count):
            level = np.ascontiguousarray(picture()[:: 2**i, :: 2**i])
            tiff.write(level, subfiletype=int(i > 0), description=description if i == 0 else None, **shared)
    with tifffile.TiffFile(path) as tiff:
        return [level.asarray() for level in tiff.series[0].levels]


def assert_shows(path: Path, levels: list[np.ndarray], tolerance: int = 0) -> None:
    with open_slide(path) as slide:
        assert [level.size for level in slide.levels] == [Size(a.shape[1], a.shape[0]) for a in levels]
        for index, expected in enumerate(levels):
            height, width = expected.shape[:2]
            pixels = slide.read(index, 0, 0, width, height).astype(int)
            assert np.abs(pixels - expected).max() <= tolerance
            part = slide.read(index, 31, 17, 70, 50).astype(int)
            assert np.abs(part - expected[17:67, 31:101]).max() <= tolerance


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "jpeg", "photometric": "ycbcr"},
        {"compression": "jpeg"},
        {"compression": "jpeg2000"},
        {"compression": "lzw", "predictor": True},
        {"compression": "adobe_deflate", "predictor": True},
        {"compression": "none"},
        {"compression": "webp", "compressionargs": {"lossless": True}},
        {"compression": "zstd"},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"planarconfig": "contig", "tile": (256, 256)},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()),
)
def test_a_pyramid_in_any_compression_shows_what_was_written(tmp_path: Path, options: dict[str, object]) -> None:
    options = dict(options)
    byteorder = options.pop("byteorder", None)
    path = tmp_path / "pyramid.tif"
    if byteorder:
        with tifffile.TiffWriter(path, byteorder=byteorder) as tiff:
            tiff.write(picture(), tile=(128, 128), photometric="rgb", metadata=None)
        assert_shows(path, [picture()])
    else:
        assert_shows(path, write_levels(path, **options), tolerance=2)


def test_every_reader_that_opens_a_tiff_shows_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "pyramid.svs"
    write_levels(path, description=APERIO, compression="jpeg")
    reference, openslide = TiffReader(path), OpenSlideReader(path)
    readers = [openslide, cucim_reader(reference), jpeg_reader(reference)]
    for reader in (reader for reader in readers if reader is not None):
        for level, size in enumerate(reference.facts.level_sizes):
            everything = (level, 0, 0, size.width, size.height)
            assert np.abs(reader.read(*everything).astype(int) - reference.read(*everything)).max() <= 2
        reader.close()
    reference.close()


def test_jpeg_tiles_are_decoded_by_the_bundle_itself(tmp_path: Path) -> None:
    path = tmp_path / "pyramid.tif"
    write_levels(path, compression="jpeg")
    with open_slide(path) as slide:
        assert slide.reader == "libjpeg-turbo"


def test_cucim_is_used_for_jpeg_2000_where_it_is_installed(shared_data: Path) -> None:
    pytest.importorskip("cucim.clara", reason="cuCIM is not installed, or its dependency click is not")
    with open_slide(shared_data / "slides" / "vendor" / "tcga-no-mpp.svs") as slide:
        assert slide.reader == "cucim"


def test_openslide_is_not_trusted_between_pixels(tmp_path: Path) -> None:
    """At a downsample of 2.004 it interpolates; the pixels must be the file's."""
    full = np.random.default_rng(3).integers(0, 256, (511, 513, 3), dtype=np.uint8)
    path = tmp_path / "odd.tif"
    with tifffile.TiffWriter(path) as tiff:
        for i, level in enumerate((full, full[:510:2, :512:2])):
            tiff.write(
                np.ascontiguousarray(level), tile=(128, 128), photometric="rgb", metadata=None, subfiletype=int(i > 0)
            )
    assert_shows(path, [full, full[:510:2, :512:2]])
    with open_slide(path) as slide:
        assert slide.levels[1].downsample == 2.0


def test_an_ome_tiff_with_subifd_levels_shows_all_levels_and_its_units(tmp_path: Path) -> None:
    path = tmp_path / "subifds.ome.tif"
    levels = [np.ascontiguousarray(picture()[:: 2**i, :: 2**i]) for i in range(3)]
    metadata = {"axes": "YXS", "PhysicalSizeX": 250.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.00025}
    metadata["PhysicalSizeYUnit"] = "mm"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(levels[0], subifds=2, tile=(128, 128), photometric="rgb", metadata=metadata)
        for level in levels[1:]:
            tiff.write(level, subfiletype=1, tile=(128, 128), photometric="rgb")
    assert_shows(path, levels)
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.25)


def test_an_aperio_slide_tells_its_resolution_and_objective(tmp_path: Path) -> None:
    path = tmp_path / "aperio.svs"
    write_levels(path, description=APERIO, compression="jpeg", resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.499), "the vendor's text wins over the tags"
        assert slide.objective_power == 20


@pytest.mark.parametrize(
    ("per_unit", "unit", "mpp"),
    [(20000, "CENTIMETER", 0.5), (50800, "INCH", 0.5), (72, "INCH", None), (300, "INCH", None), (20000, "NONE", None)],
)
def test_resolution_tags_count_only_when_a_microscope_could_mean_them(
    tmp_path: Path, per_unit: float, unit: str, mpp: float | None
) -> None:
    path = tmp_path / "tags.tif"
    write_levels(path, resolution=(per_unit, per_unit), resolutionunit=unit)
    with open_slide(path) as slide:
        assert slide.mpp == (None if mpp is None else pytest.approx(mpp))


def test_pixels_that_are_not_square_give_a_warning_and_the_mean(tmp_path: Path) -> None:
    path = tmp_path / "oblong.tif"
    write_levels(path, resolution=(10000, 40000), resolutionunit="CENTIMETER")
    with pytest.warns(UserWarning, match=r"oblong\.tif.*not square"):
        slide = open_slide(path)
    assert slide.mpp == pytest.approx(0.5)
    slide.close()
    with warnings.catch_warnings(), open_slide(path, mpp=0.3) as known:
        assert known.mpp == 0.3


@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 16}, {"rowsperstrip": 390, "compression": "jpeg"}])
def test_a_tiff_of_strips_is_read_too(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "strips.tif"
    tifffile.imwrite(path, picture(), photometric="rgb", **options)
    assert_shows(path, [tifffile.imread(path)])


def test_gray_alpha_and_planar_pixels_become_rgb_on_white(tmp_path: Path) -> None:
    gray, planar, alpha = (tmp_path / f"{name}.tif" for name in ("gray", "planar", "alpha"))
    tifffile.imwrite(gray, picture()[..., 0], photometric="minisblack", tile=(128, 128))
    assert_shows(gray, [np.repeat(picture()[..., :1], 3, axis=2)])
    tifffile.imwrite(planar, np.moveaxis(picture(), 2, 0), photometric="rgb", planarconfig="separate", tile=(128, 128))
    assert_shows(planar, [picture()])
    half = np.full((390, 520, 1), 128, np.uint8)
    rgba = np.concatenate([picture(), half], axis=2)
    tifffile.imwrite(alpha, rgba, photometric="rgb", extrasamples=["unassalpha"], tile=(128, 128))
    assert_shows(alpha, [np.rint(picture() * (128 / 255) + 127).astype(int)], tolerance=1)


@pytest.mark.parametrize(
    ("shape", "dtype", "photometric", "says"),
    [
        ((64, 80), np.uint16, "minisblack", "uint16"),
        ((64, 80, 3), np.uint16, "rgb", "uint16"),
        ((5, 64, 80), np.uint8, "minisblack", "3 dimensions"),
        ((4, 5, 64, 80), np.uint8, "minisblack", "4 dimensions"),
    ],
)
def test_what_is_no_brightfield_slide_is_named_as_what_it_is(
    tmp_path: Path, shape: tuple[int, ...], dtype: type, photometric: str, says: str
) -> None:
    path = tmp_path / "stack.ome.tif"
    data = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    tifffile.imwrite(path, data, photometric=photometric)
    with pytest.raises(SlideReadError, match=rf"stack\.ome\.tif: has .*{says}.*8-bit brightfield RGB"):
        open_slide(path)


def assert_clear_error(path: Path) -> None:
    """Opening or, where only the decoder can tell, reading fails with one line that names the file."""
    with pytest.raises(SlideReadError) as caught:  # noqa: SIM117
        with open_slide(path) as slide:
            slide.read(0, 0, 0, slide.size.width, slide.size.height)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("percent", [1, 50, 90, 99])
@pytest.mark.parametrize("kind", ["pages", "subifds", "bigtiff", "aperio", "strips", "png", "jpg"])
def test_a_truncated_file_is_refused(tmp_path: Path, kind: str, percent: int) -> None:
    path = tmp_path / f"cut.{kind if kind in ('png', 'jpg') else 'tif'}"
    if kind in ("png", "jpg"):
        Image.fromarray(picture()).save(path)
    elif kind == "strips":
        tifffile.imwrite(path, picture(), photometric="rgb")
    elif kind == "subifds":
        with tifffile.TiffWriter(path, ome=True) as tiff:
            tiff.write(picture(), subifds=1, tile=(128, 128), photometric="rgb", metadata={"axes": "YXS"})
            tiff.write(picture()[::2, ::2], subfiletype=1, tile=(128, 128), photometric="rgb")
    else:
        write_levels(path, bigtiff=kind == "bigtiff", description=APERIO if kind == "aperio" else None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * percent // 100])
    with pytest.raises(SlideReadError, match=path.name):
        open_slide(path)
    assert_clear_error(path)


def test_a_truncated_pyramid_tells_how_many_bytes_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "cut.tif"
    write_levels(path, compression="none")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SlideReadError, match=rf"cut\.tif: truncated: .* byte {size}, the file has {size - 100} bytes"):
        open_slide(path)


@pytest.mark.parametrize("damage", ["zeros", "noise", "cut"])
@pytest.mark.parametrize("compression", ["jpeg", "lzw", "adobe_deflate"])
def test_damaged_tiles_are_an_error_and_not_a_picture(tmp_path: Path, compression: str, damage: str) -> None:
    path = tmp_path / "damaged.tif"
    write_levels(path, 1, compression=compression)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        start, count = tiff.pages[0].dataoffsets[1], tiff.pages[0].databytecounts[1]
    begin = start + count // 2 if damage == "cut" else start
    length = start + count - begin
    data[begin : begin + length] = np.random.default_rng(5).bytes(length) if damage == "noise" else bytes(length)
    path.write_bytes(data)
    assert_clear_error(path)


def test_left_out_tiles_are_white(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    black = zlib.compress(bytes(128 * 128 * 3))
    tiles = (black if i % 2 else b"" for i in range(4))
    layout = {"shape": (256, 256, 3), "dtype": np.uint8, "tile": (128, 128), "photometric": "rgb"}
    tifffile.imwrite(path, tiles, compression="adobe_deflate", **layout)
    with tifffile.TiffFile(path) as tiff:
        assert 0 in tiff.pages[0].databytecounts
    with open_slide(path) as slide:
        assert (slide.read(0, 0, 0, 128, 256) == 255).all()
        assert (slide.read(0, 128, 0, 128, 256) == 0).all()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.svs", b""),
        ("text.svs", b"this is not a slide\n" * 50),
        ("zeros.ndpi", bytes(5000)),
        ("header.tif", b"II*\0"),
        ("loop.tif", b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0"),
        ("nonsense.tif", b"II*\0\x08\0\0\0" + bytes(range(1, 250)) * 3),
        ("nonsense.png", b"\x89PNG\r\n\x1a\n" + bytes(range(250))),
    ],
)
def test_a_file_that_is_no_slide_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert_clear_error(tmp_path / name)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert_clear_error(tmp_path / "missing.svs")
    (tmp_path / "folder.svs").mkdir()
    assert_clear_error(tmp_path / "folder.svs")


def test_a_huge_plain_image_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "huge.png"
    Image.fromarray(picture()).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(SlideReadError, match=r"huge\.png: too large.*pyramidal TIFF"):
        open_slide(path)


def test_a_huge_untiled_tiff_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "huge.tif"
    tifffile.imwrite(path, picture(), photometric="rgb")
    monkeypatch.setattr("bundle.readers.tiff_reader.UNTILED_LIMIT_PX", 1000)
    with pytest.raises(SlideReadError, match=r"huge\.tif: is not tiled.*pyramidal"):
        open_slide(path)


def test_hostile_xml_is_refused_and_not_expanded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.ome.tif"
    lines = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    xml = f'<?xml version="1.0"?>{lines}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">&b;</OME>'
    tifffile.imwrite(path, picture(), photometric="rgb", tile=(128, 128), description=xml, metadata=None)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
    assert_clear_error(path)


def test_an_opened_reader_says_which_library_it_is(tmp_path: Path) -> None:
    path = tmp_path / "plain.png"
    Image.fromarray(picture()).save(path)
    reader = open_reader(path)
    assert reader.name == "pillow"
    reader.close()
