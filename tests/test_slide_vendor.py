"""Real files of many vendors: size and pixels as OpenSlide, tifffile or Pillow show them, or a clear error."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from openslide import OpenSlide
from PIL import Image

from bundle.errors import SlideReadError, UnknownResolutionError
from bundle.geometry import Size
from bundle.slide import Slide, open_slide

# name -> (level-0 width, height, levels, mpp, objective)
READABLE = {
    "kidney/HE_I_1_S_3.tif": (7331, 6091, 4, 1.0, None),
    "kidney/HE_I_2_S_2.tif": (6717, 5885, 4, 1.0, None),
    "kidney/PAS_I_4_S_6.tif": (7058, 6270, 4, 1.0, None),
    "vendor/CMU-1-Small-Region.svs": (2220, 2967, 1, 0.499, 20),
    "vendor/small.svs": (16, 16, 1, 0.499, 20),
    "vendor/tcga-no-mpp.svs": (4443, 3567, 2, None, None),
    "vendor/fluorescence.ndpi": (3968, 4864, 7, 0.2281750559, 40),
    "vendor/boxes_0.dcm": (16, 16, 1, 0.499, 20),
    "vendor/boxes_1.dcm": (16, 16, 1, 0.499, 20),
}
REFUSED = {
    "RGB-8bit.czi": "OpenSlide cannot open it.*subblock dimension",
    "vsi-ets-test-jpg2k.vsi": "Olympus VSI.*OME-TIFF",
    "4D-series.ome.tiff": "4 dimensions.*not a brightfield RGB slide",
    "unopenable.tiff": "compression 52479",
    "_vsi-ets-test-jpg2k_": "folder without DICOM",
}


def shown_by_openslide(path: Path, x: int, y: int, width: int, height: int) -> np.ndarray:
    with OpenSlide(path) as other:
        return np.asarray(other.read_region((x, y), 0, (width, height)).convert("RGB")).astype(int)


def sample_corners(slide: Slide) -> list[tuple[int, int]]:
    width, height = slide.size.width, slide.size.height
    return [(0, 0), (width // 2, height // 3), (max(0, width - 200), max(0, height - 150)), (width // 5, height // 2)]


def test_every_vendor_file_is_accounted_for(shared_data: Path) -> None:
    names = {path.name for path in (shared_data / "slides" / "vendor").iterdir()}
    assert names == {Path(name).name for name in READABLE if name.startswith("vendor/")} | REFUSED.keys()


@pytest.mark.parametrize("name", READABLE)
def test_a_real_slide_opens_with_its_size_resolution_and_pixels(shared_data: Path, name: str) -> None:
    width, height, levels, mpp, power = READABLE[name]
    path = shared_data / "slides" / name
    with open_slide(path) as slide:
        assert slide.size == Size(width, height)
        assert len(slide.levels) == levels
        assert slide.mpp == (None if mpp is None else pytest.approx(mpp))
        assert slide.objective_power == power
        for x, y in sample_corners(slide):
            w, h = min(200, width - x), min(150, height - y)
            assert np.abs(slide.read(0, x, y, w, h) - shown_by_openslide(path, x, y, w, h)).max() <= 2


@pytest.mark.parametrize("name", [name for name in READABLE if not name.endswith(".dcm")])
def test_every_level_of_a_real_tiff_is_what_tifffile_decodes(shared_data: Path, name: str) -> None:
    path = shared_data / "slides" / name
    with open_slide(path) as slide, tifffile.TiffFile(path) as tiff:
        # tifffile finds no more than four of the seven levels of the NDPI.
        for index, level in list(enumerate(tiff.series[0].levels))[-3:]:
            pixels = level.asarray()
            size = slide.levels[index].size
            assert pixels.shape[:2] == (size.height, size.width)
            shown = slide.read(index, 0, 0, size.width, size.height).astype(int)
            assert np.abs(shown - pixels).max() <= 2


@pytest.mark.parametrize(("name", "says"), REFUSED.items())
def test_a_file_that_cannot_be_read_says_why(shared_data: Path, name: str, says: str) -> None:
    with pytest.raises(SlideReadError, match=says) as caught:
        open_slide(shared_data / "slides" / "vendor" / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_slide_without_resolution_asks_for_it(shared_data: Path) -> None:
    path = shared_data / "slides" / "vendor" / "tcga-no-mpp.svs"
    with open_slide(path) as slide, pytest.raises(UnknownResolutionError, match=r"tcga-no-mpp\.svs.*--mpp"):
        slide.read_region(0, 0, 10, 10, 0.5)


def test_a_folder_of_dicom_files_is_one_slide(shared_data: Path, tmp_path: Path) -> None:
    for name in ("boxes_0.dcm", "boxes_1.dcm"):
        shutil.copy(shared_data / "slides" / "vendor" / name, tmp_path)
    (tmp_path / "notes.txt").write_text("not a slide")
    with open_slide(tmp_path) as folder, open_slide(tmp_path / "boxes_0.dcm") as file:
        assert folder.size == Size(16, 16)
        assert np.array_equal(folder.read(0, 0, 0, 16, 16), file.read(0, 0, 0, 16, 16))


@pytest.mark.parametrize("percent", [1, 50, 99])
@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "tcga-no-mpp.svs", "fluorescence.ndpi", "boxes_0.dcm"])
def test_a_truncated_real_slide_is_refused(shared_data: Path, tmp_path: Path, name: str, percent: int) -> None:
    data = (shared_data / "slides" / "vendor" / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: len(data) * percent // 100])
    with pytest.raises(SlideReadError, match=name):
        open_slide(path)


def test_region_images_are_what_pillow_decodes(shared_data: Path) -> None:
    images = [path for path in sorted((shared_data / "regions").rglob("*.[pj][np]g")) if "mask" not in str(path)][:3]
    images += sorted((shared_data / "crops" / "images").glob("*.jpg"))[:2]
    assert len(images) >= 3
    for path in images:
        with open_slide(path) as slide, Image.open(path) as image:
            assert (slide.size.width, slide.size.height) == image.size
            expected = np.asarray(image.convert("RGB"))
            assert np.array_equal(slide.read(0, 0, 0, *image.size), expected)
