"""DICOM results as a user gets them: from the config, from the command, or a clear word why not."""

import json
import sys
from pathlib import Path

import highdicom
import numpy as np
import pytest
import shapely
import tifffile
from shapely.geometry import shape

from bundle.classes import NORMAL
from bundle.command_line import user_message
from bundle.data.annotations import Annotation, Glomerulus, write_geojson
from bundle.dicom import RequireDicomd, SaveDicomd
from bundle.errors import ConfigError, OutputError
from bundle.geometry import Rect, Size
from bundle.phantom import Phantom, PhantomSpec
from bundle.slide import open_slide
from scripts import to_dicom
from tests.dicom.dicom_slides import picture, write_dicom_slide
from tests.oracle import run_config

DISC = Glomerulus(
    shapely.Point(120, 90).buffer(40), NORMAL.index, "normal", "a", {"measurements": {"Probability": 0.8}}
)
CONFIGS = ["inference.yaml", "dicom.yaml"]


def write_tiff(path: Path) -> Path:
    rgb = np.full((64, 64, 3), 230, np.uint8)
    tifffile.imwrite(path, rgb, tile=(64, 64), photometric="rgb", resolution=(1e4, 1e4), resolutionunit="CENTIMETER")
    return path


def outlines(path: Path) -> dict[str, list[np.ndarray]]:
    groups = highdicom.ann.annread(path).get_annotation_groups()
    return {group.label: group.get_graphic_data("2D") for group in groups}


def test_inference_of_a_dicom_slide_leaves_dicom_results_that_agree_with_the_others(tmp_path: Path) -> None:
    spec = PhantomSpec(Size(801, 603), oracle=True, mpp=2.0, glomeruli_per_mm2=12.0, class_fractions=(1, 1, 1))
    slide = write_dicom_slide(tmp_path / "slide", Phantom(spec).read(0, 0, 801, 603), 2.0, levels=2)
    out = tmp_path / "out"
    run_config(CONFIGS, {"slide": str(slide.parent), "output_dir": str(out), "segmentation_mpp": None})
    features = json.loads((out / "glomeruli.geojson").read_text(encoding="utf-8"))["features"]
    found = outlines(out / "annotations.dcm")
    assert set(found) == {f["properties"]["classification"]["name"] for f in features}
    assert sum(len(rings) for rings in found.values()) == len(features) > 2
    for label, rings in found.items():
        polygons = [shape(f["geometry"]) for f in features if f["properties"]["classification"]["name"] == label]
        for polygon, points in zip(polygons, rings, strict=True):
            assert shapely.Polygon(points).hausdorff_distance(polygon) < 1e-3
    matrix = highdicom.seg.segread(out / "segmentation.dcm").get_total_pixel_matrix(combine_segments=True)
    np.testing.assert_array_equal(matrix, tifffile.imread(out / "mask.tif", key=0))


def test_a_slide_that_is_not_dicom_is_refused_before_it_is_segmented(tmp_path: Path) -> None:
    slide = write_tiff(tmp_path / "slide.tif")
    with pytest.raises(RuntimeError) as caught:
        run_config(CONFIGS, {"slide": str(slide), "output_dir": str(tmp_path / "out")})
    assert "slide.tif: is no DICOM slide" in str(user_message(caught.value))
    assert not (tmp_path / "out").exists()


def test_a_region_s_outlines_are_placed_in_the_whole_matrix(tmp_path: Path) -> None:
    slide_file = write_dicom_slide(tmp_path / "slide", picture(400, 300), 0.5)
    with open_slide(slide_file, region=Rect(70, 60, 200, 200)) as region:
        SaveDicomd("glomeruli", tmp_path)({"image": region, "glomeruli": Annotation((DISC,))})
    (points,) = outlines(tmp_path / "annotations.dcm")["normal"]
    assert shapely.Polygon(points).centroid.coords[0] == pytest.approx((190, 150), abs=1e-3)


def test_a_slide_without_glomeruli_leaves_no_object_not_even_an_old_one(tmp_path: Path) -> None:
    slide_file = write_dicom_slide(tmp_path / "slide", picture(200, 150), 0.5)
    saver = SaveDicomd("glomeruli", tmp_path / "out")
    with open_slide(slide_file) as slide:
        saver({"image": slide, "glomeruli": Annotation((DISC,))})
        assert len(list((tmp_path / "out").iterdir())) == 2
        saver({"image": slide, "glomeruli": Annotation(())})
    assert list((tmp_path / "out").iterdir()) == []


def test_a_series_without_its_finest_image_is_refused(tmp_path: Path) -> None:
    slide_file = write_dicom_slide(tmp_path / "slide", picture(200, 150), 0.5)
    with open_slide(slide_file.parent) as slide:
        slide_file.unlink()
        with pytest.raises(OutputError, match="finest DICOM image is missing"):
            SaveDicomd("glomeruli", tmp_path)({"image": slide, "glomeruli": Annotation((DISC,))})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"segmentation_type": "FRACTIONAL"}, "neither BINARY nor LABELMAP"),
        ({"generation": "GUESSED"}, "none of AUTOMATIC"),
        ({"codes": {"nephron": ["1", "SCT", "Nephron"]}}, "no class 'nephron'"),
        ({"codes": {"normal": "84924000"}}, "give .value, coding scheme, meaning"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused_before_the_run(options: dict, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        SaveDicomd("glomeruli", tmp_path, **options)


def test_without_highdicom_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ConfigError, match=r"\[dicom\]"):
        SaveDicomd("glomeruli", tmp_path)
    with open_slide(write_tiff(tmp_path / "slide.tif")) as slide, pytest.raises(ConfigError, match=r"\[dicom\]"):
        RequireDicomd("image")({"image": slide})


def test_the_command_writes_corrected_glomeruli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slide_file = write_dicom_slide(tmp_path / "slide", picture(400, 300), 0.5)
    write_geojson(Annotation((DISC,)), tmp_path / "corrected.geojson")
    (tmp_path / "codes.yaml").write_text("normal: ['N1', '99MINE', 'Normal glomerulus']\n")
    glomeruli = ["--glomeruli", f"{tmp_path}/corrected.geojson", "--codes", f"{tmp_path}/codes.yaml"]
    line = ["--slide", str(slide_file), *glomeruli, "--output_dir", str(tmp_path), "--generation", "SEMIAUTOMATIC"]
    assert to_dicom.main(line) == 0
    assert "annotations.dcm" in capsys.readouterr().out
    (group,) = highdicom.ann.annread(tmp_path / "annotations.dcm").get_annotation_groups()
    assert (group.AnnotationGroupGenerationType, group.annotated_property_type.value) == ("SEMIAUTOMATIC", "N1")
    assert (tmp_path / "segmentation.dcm").is_file()


def test_the_command_says_in_one_line_why_it_cannot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_geojson(Annotation((DISC,)), tmp_path / "g.geojson")
    slide = write_tiff(tmp_path / "slide.tif")
    line = ["--slide", str(slide), "--glomeruli", f"{tmp_path}/g.geojson", "--output_dir", str(tmp_path)]
    assert to_dicom.main(line) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {slide}: is no DICOM slide")
    assert len(said.splitlines()) == 1
