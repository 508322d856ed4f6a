"""Crops of annotated glomeruli."""

import json

import numpy as np
import pytest
from PIL import Image
from shapely.geometry import box, mapping

from bundle.data.crops import glomerulus_crops
from bundle.data.datalist import load_annotation
from bundle.errors import DatalistError, UnknownResolutionError
from bundle.geometry import Rect
from bundle.slide import open_slide

BOXES = {"normal": (50, 60, 70, 90), "global_sclerosis": (180, 5, 199, 30), "unclassified": (100, 100, 110, 110)}
"""Left, top, right, bottom, level-0 pixels of 2 um."""


@pytest.fixture
def item(tmp_path):
    Image.fromarray(np.full((150, 200, 3), 99, np.uint8)).save(tmp_path / "slide.png")
    features = [
        {
            "type": "Feature",
            "geometry": mapping(box(*bounds)),
            "properties": {"classification": {"name": name}},
        }
        for name, bounds in BOXES.items()
    ]
    (tmp_path / "slide.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return {
        "image": str(tmp_path / "slide.png"),
        "label": str(tmp_path / "slide.geojson"),
        "patient": "a",
        "stain": "PAS",
        "slide": "slide",
        "mpp": 2.0,
    }


def test_every_glomerulus_of_a_known_class_is_a_crop(item):
    crops = glomerulus_crops([item])
    assert [crop["crop"] for crop in crops] == ["1 normal", "2 global_sclerosis"]
    assert {(crop["patient"], crop["stain"], crop["slide"]) for crop in crops} == {("a", "PAS", "slide")}


def test_a_crop_is_the_box_with_a_margin_in_micrometres(item):
    region = glomerulus_crops([item], margin_um=20)[0]["region"]  # 10 pixels
    assert region.x == 40
    assert region.y == 50
    assert region.x + region.width == pytest.approx(80, abs=1)
    assert region.y + region.height == pytest.approx(100, abs=1)


def test_a_crop_ends_where_the_slide_ends(item):
    region = glomerulus_crops([item], margin_um=50)[1]["region"]
    assert (region.y, region.x + region.width) == (0, 200)
    with open_slide(item["image"], mpp=2.0, region=region) as crop:
        assert crop.size.height == region.height


def test_crops_of_a_region_are_in_pixels_of_the_slide(item):
    whole = glomerulus_crops([item], margin_um=20)[0]
    part = glomerulus_crops([{**item, "region": Rect(30, 40, 80, 80)}], margin_um=20)
    assert [crop["crop"] for crop in part] == ["1 normal"]
    assert part[0]["region"] == whole["region"]


def test_crops_of_a_region_end_where_the_region_ends(item):
    (crop,) = glomerulus_crops([{**item, "region": Rect(45, 55, 60, 60)}], margin_um=40)
    assert crop["region"].x == 45
    assert crop["region"].y == 55


def test_a_slide_without_resolution_is_refused(item):
    del item["mpp"]
    with pytest.raises(UnknownResolutionError, match="--mpp"):
        glomerulus_crops([item])


def test_a_slide_without_annotation_is_refused(item):
    del item["label"]
    with pytest.raises(DatalistError, match="no annotation"):
        glomerulus_crops([item])


def test_a_crop_knows_its_glomerulus_among_the_objects_that_reach_into_it(item):
    for margin_um in (5, 500):
        for crop in glomerulus_crops([item], margin_um=margin_um):
            with open_slide(item["image"], mpp=2.0, region=crop["region"]) as slide:
                annotation = load_annotation(crop, slide.size, slide.mpp)
            assert annotation.glomeruli[crop["glomerulus"] - 1].name == crop["crop"].split()[1]
            assert len(annotation.glomeruli) == (1 if margin_um == 5 else 3)
