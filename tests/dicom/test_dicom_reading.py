"""DICOM slides of several levels are read as OpenSlide's peers read them: sizes, resolution and every pixel."""

from pathlib import Path

import numpy as np
import pytest
import wsidicom
from pydicom import dcmread, dcmwrite
from pydicom.uid import RLELossless

from bundle.dicom.source import level_for, source_levels
from bundle.errors import OutputError, SlideReadError
from bundle.geometry import Size
from bundle.slide import open_slide
from tests.dicom.dicom_slides import picture, write_dicom_slide

WIDTH, HEIGHT, MPP = 331, 203, 0.5
SIZES = [Size(331, 203), Size(166, 102), Size(83, 51)]


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dicom_slide(tmp_path_factory.mktemp("dicom"), picture(WIDTH, HEIGHT), MPP)


def test_the_slide_under_test_is_a_slide_to_wsidicom_too(slide_file: Path) -> None:
    with wsidicom.WsiDicom.open(slide_file.parent) as slide:
        assert (slide.size.width, slide.size.height, slide.mpp.width) == (WIDTH, HEIGHT, MPP)
        pixels = np.asarray(slide.read_region((0, 0), 0, (WIDTH, HEIGHT)))
    np.testing.assert_array_equal(pixels[..., :3], picture(WIDTH, HEIGHT))


@pytest.mark.parametrize("name", [".", "level_0.dcm", "level_2.dcm"])
def test_a_series_opens_by_its_folder_or_by_any_of_its_files(slide_file: Path, name: str) -> None:
    with open_slide(slide_file.parent / name) as slide:
        assert [level.size for level in slide.levels] == SIZES
        assert slide.mpp == pytest.approx(MPP)
        assert slide.objective_power == 20


def test_every_pixel_of_every_level_is_the_one_that_was_written(slide_file: Path) -> None:
    rgb = picture(WIDTH, HEIGHT)
    with open_slide(slide_file) as slide:
        for index, level in enumerate(slide.levels):
            shown = slide.read(index, 0, 0, level.size.width, level.size.height)
            np.testing.assert_array_equal(shown, rgb[:: 2**index, :: 2**index])


def test_a_window_across_tiles_and_edges_is_where_it_belongs(slide_file: Path) -> None:
    with open_slide(slide_file) as slide:
        shown = slide.read_region(300, 180, 60, 40, MPP)
    expected = np.full((40, 60, 3), 255, np.uint8)
    expected[:23, :31] = picture(WIDTH, HEIGHT)[180:, 300:]
    np.testing.assert_array_equal(shown, expected)


def test_a_compression_that_openslide_lacks_is_refused_with_the_file_s_name(slide_file: Path, tmp_path: Path) -> None:
    image = dcmread(slide_file)
    image.compress(RLELossless)
    dcmwrite(tmp_path / "strange.dcm", image)
    with pytest.raises(SlideReadError, match=r"strange\.dcm"):
        open_slide(tmp_path / "strange.dcm")


def test_the_source_of_results_is_every_level_with_the_finest_first(slide_file: Path) -> None:
    for path in (slide_file, slide_file.parent, slide_file.with_name("level_1.dcm")):
        levels = source_levels(path)
        assert [level.size for level in levels] == SIZES
        assert [level.mpp for level in levels] == [(MPP, MPP), (2 * MPP, 2 * MPP), (4 * MPP, 4 * MPP)]


def test_other_series_and_files_in_the_folder_are_no_levels(slide_file: Path, tmp_path: Path) -> None:
    first = write_dicom_slide(tmp_path, picture(WIDTH, HEIGHT), MPP, name="first")
    write_dicom_slide(tmp_path, picture(700, 500), MPP, name="second")
    (tmp_path / "notes.txt").write_text("no DICOM")
    assert [level.size for level in source_levels(first)] == SIZES


def test_the_label_of_the_glass_is_no_level(tmp_path: Path) -> None:
    path = write_dicom_slide(tmp_path, picture(WIDTH, HEIGHT), MPP)
    label = dcmread(path)
    label.ImageType = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
    label.TotalPixelMatrixColumns = 5000
    dcmwrite(tmp_path / "label.dcm", label)
    assert [level.size for level in source_levels(path)] == SIZES


@pytest.mark.parametrize(("mpp", "size"), [(None, 331), (0.4, 331), (0.5, 331), (1.0, 166), (1.9, 166), (50.0, 83)])
def test_a_segmentation_s_level_is_the_coarsest_that_is_fine_enough(
    slide_file: Path, mpp: float | None, size: int
) -> None:
    assert level_for(source_levels(slide_file), mpp).size.width == size


def test_a_slide_that_is_not_dicom_says_how_to_make_it_so(tmp_path: Path) -> None:
    (tmp_path / "slide.svs").write_bytes(b"II*\0")
    for path in (tmp_path / "slide.svs", tmp_path):
        with pytest.raises(OutputError, match=r"is no DICOM slide.*convert the slide to DICOM"):
            source_levels(path)


@pytest.mark.parametrize("missing", ["FrameOfReferenceUID", "SpecimenDescriptionSequence", "TotalPixelMatrixRows"])
def test_an_attribute_that_results_must_repeat_is_named(tmp_path: Path, missing: str) -> None:
    path = write_dicom_slide(tmp_path, picture(100, 80), MPP, levels=1)
    image = dcmread(path)
    del image[missing]
    dcmwrite(path, image)
    with pytest.raises(OutputError, match=rf"level_0\.dcm: lacks {missing}"):
        source_levels(path)


def test_a_patient_that_a_converter_left_out_is_empty(tmp_path: Path) -> None:
    path = write_dicom_slide(tmp_path, picture(100, 80), MPP, levels=1)
    image = dcmread(path)
    del image.PatientBirthDate
    dcmwrite(path, image)
    assert source_levels(path)[0].header.PatientBirthDate is None


def test_a_slide_without_pixel_spacing_cannot_hold_results(tmp_path: Path) -> None:
    path = write_dicom_slide(tmp_path, picture(100, 80), MPP, levels=1)
    image = dcmread(path)
    del image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    dcmwrite(path, image)
    with pytest.raises(OutputError, match="PixelSpacing"):
        source_levels(path)


def test_real_dicom_files_are_the_levels_of_one_slide(shared_data: Path) -> None:
    path = shared_data / "slides" / "vendor" / "boxes_0.dcm"
    levels = source_levels(path)
    assert [level.size for level in levels] == [Size(16, 16)]
    assert levels[0].mpp == pytest.approx((0.499, 0.499))
