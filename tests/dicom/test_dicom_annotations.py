"""Microscopy Bulk Simple Annotations, read back by highdicom and by pydicom alone, and checked by dciodvfy."""

import shutil
import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pytest
import shapely
from pydicom import dcmread

from bundle.classes import GLOBAL, NORMAL, SEGMENTAL, class_of_index
from bundle.data.annotations import Annotation, Glomerulus
from bundle.dicom import SaveDicomd
from bundle.slide import open_slide
from tests.dicom.dicom_slides import picture, write_dicom_slide

WIDTH, HEIGHT, MPP = 701, 503, 0.5


def glomerulus(label: int, polygon: shapely.Geometry, probability: float | None = 0.9) -> Glomerulus:
    measurements = {} if probability is None else {"measurements": {"Probability": probability}}
    return Glomerulus(polygon, label, class_of_index(label).name, "", measurements)


def disc(x: float, y: float, radius: float) -> shapely.Polygon:
    return shapely.Point(x, y).buffer(radius)


GLOMERULI = Annotation(
    (
        glomerulus(GLOBAL.index, disc(400.25, 300, 80), 0.75),
        glomerulus(NORMAL.index, disc(100.5, 90, 60)),
        glomerulus(NORMAL.index, disc(600, 100, 50), None),
    )
)


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dicom_slide(tmp_path_factory.mktemp("slide"), picture(WIDTH, HEIGHT), MPP)


def save(slide_file: Path, glomeruli: Annotation, folder: Path, **options: object) -> Path:
    with open_slide(slide_file) as slide:
        SaveDicomd("glomeruli", folder, **options)({"image": slide, "glomeruli": glomeruli})
    return folder / "annotations.dcm"


@pytest.fixture(scope="module")
def saved(slide_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(slide_file, GLOMERULI, tmp_path_factory.mktemp("out"))


def groups(path: Path) -> dict[str, highdicom.ann.AnnotationGroup]:
    return {group.label: group for group in highdicom.ann.annread(path).get_annotation_groups()}


def measured(group: highdicom.ann.AnnotationGroup) -> dict[str, np.ndarray]:
    names, values, units = group.get_measurements()
    return {f"{n.meaning} [{u.value}]": values[:, i] for i, (n, u) in enumerate(zip(names, units, strict=True))}


def test_each_class_is_a_group_with_its_outlines(saved: Path) -> None:
    found = groups(saved)
    assert {label: group.NumberOfAnnotations for label, group in found.items()} == {"normal": 2, "global_sclerosis": 1}
    for label, group in found.items():
        given = [g.polygon for g in GLOMERULI.glomeruli if g.name == label]
        for polygon, points in zip(given, group.get_graphic_data("2D"), strict=True):
            assert shapely.Polygon(points).symmetric_difference(polygon).area < 0.1


def test_area_and_certainty_are_measured_in_um2_and_per_cent(saved: Path) -> None:
    found = groups(saved)
    normal, sclerotic = measured(found["normal"]), measured(found["global_sclerosis"])
    areas = [g.polygon.area * MPP**2 for g in GLOMERULI.glomeruli]
    assert normal["Area [um2]"] == pytest.approx(areas[1:], rel=1e-5)
    assert sclerotic["Area [um2]"] == pytest.approx(areas[:1], rel=1e-5)
    assert sclerotic["Certainty of Finding [%]"] == pytest.approx([75])
    assert normal["Certainty of Finding [%]"] == pytest.approx([90, np.nan], nan_ok=True)


def test_outlines_lie_in_the_bytes_that_the_standard_names(saved: Path) -> None:
    group = dcmread(saved).AnnotationGroupSequence[0]
    points = np.frombuffer(group.PointCoordinatesData, "<f4").reshape(-1, 2)
    starts = np.frombuffer(group.LongPrimitivePointIndexList, "<i4")
    first, second = points[: (starts[1] - 1) // 2], points[(starts[1] - 1) // 2 :]
    assert starts[0] == 1
    assert shapely.Polygon(first).centroid.coords[0] == pytest.approx((100.5, 90), abs=1e-3)
    assert shapely.Polygon(second).centroid.coords[0] == pytest.approx((600, 100), abs=1e-3)
    assert not np.array_equal(first[0], first[-1])  # DICOM leaves polygons open


def test_results_belong_to_the_slide_s_patient_study_and_finest_image(saved: Path, slide_file: Path) -> None:
    made, source = dcmread(saved), dcmread(slide_file, stop_before_pixels=True)
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyID", "ContainerIdentifier"):
        assert made[keyword].value == source[keyword].value
    assert made.SeriesInstanceUID != source.SeriesInstanceUID
    assert made.SOPClassUID.name == "Microscopy Bulk Simple Annotations Storage"
    assert (made.AnnotationCoordinateType, made.PixelOriginInterpretation) == ("2D", "VOLUME")
    assert [item.ReferencedSOPInstanceUID for item in made.ReferencedImageSequence] == [source.SOPInstanceUID]


def test_classes_are_coded_coloured_and_made_by_a_named_algorithm(saved: Path, slide_file: Path) -> None:
    weights = saved.parent / "weights.bin"
    weights.write_bytes(b"weights")
    made = groups(save(slide_file, GLOMERULI, saved.parent / "weighted", checkpoint=weights))
    sclerotic = made["global_sclerosis"]
    assert (sclerotic.annotated_property_type.value, sclerotic.annotated_property_type.scheme_designator) == (
        "global_sclerosis",
        "99GLOMERULI",
    )
    assert sclerotic.annotated_property_category.meaning == "Morphologically Abnormal Structure"
    assert made["normal"].annotated_property_category.meaning == "Anatomical Structure"
    assert sclerotic.AnatomicRegionSequence[0].CodeMeaning == "Kidney"
    rgb = highdicom.color.CIELabColor.from_dicom_value(sclerotic.RecommendedDisplayCIELabValue).to_rgb()
    assert rgb == pytest.approx(GLOBAL.rgb, abs=1)
    algorithm = sclerotic.algorithm_identification
    assert algorithm.name == "glomeruli-bundle"
    assert algorithm.parameters["weights_sha256"].startswith("9a129038")


def test_an_archive_s_own_codes_replace_the_private_ones(slide_file: Path, tmp_path: Path) -> None:
    own = {"global_sclerosis": ["197661001", "SCT", "Glomerulosclerosis"]}
    made = groups(save(slide_file, GLOMERULI, tmp_path, codes=own))
    assert made["global_sclerosis"].annotated_property_type.value == "197661001"
    assert made["normal"].annotated_property_type.scheme_designator == "99GLOMERULI"


def test_what_a_person_drew_names_no_algorithm(slide_file: Path, tmp_path: Path) -> None:
    group = groups(save(slide_file, GLOMERULI, tmp_path, generation="MANUAL"))["normal"]
    assert group.AnnotationGroupGenerationType == "MANUAL"
    assert group.algorithm_identification is None


def test_parts_are_annotations_of_their_own_and_holes_are_filled(slide_file: Path, tmp_path: Path) -> None:
    ring = disc(100, 100, 40).difference(disc(100, 100, 10))
    two = shapely.MultiPolygon([disc(300, 100, 30), disc(300, 180, 20)])
    path = save(slide_file, Annotation((glomerulus(SEGMENTAL.index, ring), glomerulus(SEGMENTAL.index, two))), tmp_path)
    group = groups(path)["segmental_sclerosis"]
    expected = [disc(100, 100, 40), disc(300, 100, 30), disc(300, 180, 20)]
    for polygon, points in zip(expected, group.get_graphic_data("2D"), strict=True):
        assert shapely.Polygon(points).symmetric_difference(polygon).area < 0.1
    assert measured(group)["Area [um2]"] == pytest.approx([p.area * MPP**2 for p in expected], rel=1e-5)


DCIODVFY_IS_WRONG = ("CommonZCoordinateValue(006a,0010)> - Only valid for AnnotationCoordinateType of 3D",)
"""It reports this of every 2D object, also where the attribute is absent, as it must be."""


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
def test_dciodvfy_finds_no_error(saved: Path) -> None:
    assert all("CommonZCoordinateValue" not in group for group in dcmread(saved).AnnotationGroupSequence)
    told = subprocess.run(["dciodvfy", "-new", saved], capture_output=True, text=True, check=False).stderr
    assert "MicroscopyBulkSimpleAnnotations" in told
    errors = [line for line in told.splitlines() if line.startswith("Error")]
    assert [line for line in errors if not line.endswith(DCIODVFY_IS_WRONG)] == []
