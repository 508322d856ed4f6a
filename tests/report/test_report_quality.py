"""Warnings: each artefact is painted onto a slide and found, and nothing is found where there is none."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
import tifffile

from bundle.report.quality import Finding, QualityCheck
from bundle.slide import open_slide

MPP = 2.0
SIDE_PX = 1400
TISSUE = np.s_[200:1200, 200:1200]


def tissue() -> np.ndarray:
    """Glass with a square of pink tissue of 2 x 2 mm, full of purple nuclei of 8 µm."""
    rng = np.random.default_rng(0)
    rgb = np.full((SIDE_PX, SIDE_PX, 3), 245, np.uint8)
    rgb[TISSUE] = (222, 168, 205)
    for x, y in rng.integers(205, 1195, (9000, 2)):
        cv2.circle(rgb, (int(x), int(y)), 2, (110, 60, 140), -1)
    return rgb


def findings(rgb: np.ndarray, folder: Path, count: int = 12, mpp: float | None = MPP) -> dict[str, Finding]:
    tags = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    path = folder / "slide.tif"
    tifffile.imwrite(path, rgb, tile=(256, 256), photometric="rgb", compression="adobe_deflate", metadata=None, **tags)
    polygons = [shapely.Point(300 + 60 * i, 300).buffer(20) for i in range(count)]
    with open_slide(path) as slide:
        return {finding.name: finding for finding in QualityCheck()(slide, polygons)}


def area_mm2(finding: Finding) -> float:
    return float(finding.text.split()[0])


def test_a_good_slide_has_no_warning(tmp_path: Path) -> None:
    assert {f.status for f in findings(tissue(), tmp_path).values()} == {"good"}


def test_a_slide_out_of_focus_is_blurred(tmp_path: Path) -> None:
    blurred = findings(cv2.GaussianBlur(tissue(), (0, 0), 4.0 / MPP), tmp_path)
    assert blurred["Blur"].status == "warning"
    assert {name for name, f in blurred.items() if f.status == "warning"} == {"Blur"}


def test_a_slide_half_out_of_focus_has_half_its_fields_blurred(tmp_path: Path) -> None:
    rgb = tissue()
    rgb[:, :700] = cv2.GaussianBlur(rgb, (0, 0), 4.0 / MPP)[:, :700]
    blurred, fields = (int(word) for word in findings(rgb, tmp_path)["Blur"].text.split() if word.isdigit())
    assert blurred / fields == pytest.approx(0.5, abs=0.15)


def test_two_layers_of_tissue_are_a_fold(tmp_path: Path) -> None:
    rgb = tissue()
    fold = np.s_[600:1000, 500:560]  # 400 x 60 px = 0.096 mm²
    rgb[fold] = (rgb[fold].astype(float) ** 2.2 / 255**1.2).astype(np.uint8)  # Beer-Lambert: a bit over two layers
    found = findings(rgb, tmp_path)
    assert found["Folds"].status == "warning"
    assert area_mm2(found["Folds"]) == pytest.approx(0.096, rel=0.3)
    assert found["Pen"].status == "good"


def test_a_dense_glomerulus_is_no_fold(tmp_path: Path) -> None:
    rgb = tissue()
    for i in range(12):
        cv2.circle(rgb, (300 + 60 * i, 300), 20, (120, 20, 90), -1)
    assert findings(rgb, tmp_path)["Folds"].status == "good"


@pytest.mark.parametrize("ink", [(20, 60, 170), (20, 140, 60), (30, 120, 160)], ids=["blue", "green", "turquoise"])
def test_a_line_of_pen_is_found_on_glass_and_tissue(tmp_path: Path, ink: tuple[int, int, int]) -> None:
    rgb = tissue()
    cv2.line(rgb, (50, 100), (900, 100), ink, 60)  # 850 x 60 px and round ends: 0.215 mm²
    cv2.line(rgb, (700, 700), (1000, 1000), ink, 40)
    found = findings(rgb, tmp_path)
    assert found["Pen"].status == "warning"
    assert area_mm2(found["Pen"]) == pytest.approx(0.29, rel=0.2)


@pytest.mark.parametrize(("count", "status"), [(9, "warning"), (10, "good")])
def test_fewer_than_ten_glomeruli_are_few(tmp_path: Path, count: int, status: str) -> None:
    assert findings(tissue(), tmp_path, count)["Number of glomeruli"].status == status


def test_a_slide_of_unknown_resolution_is_not_judged(tmp_path: Path) -> None:
    found = findings(tissue(), tmp_path, mpp=None)
    assert {name: f.status for name, f in found.items()} == {
        "Number of glomeruli": "good",
        "Blur": "unknown",
        "Folds": "unknown",
        "Pen": "unknown",
    }


def test_blank_glass_is_not_judged_as_tissue(tmp_path: Path) -> None:
    found = findings(np.full((600, 600, 3), 245, np.uint8), tmp_path, 0)
    assert (found["Blur"].status, found["Pen"].status) == ("unknown", "good")
