"""Our GeoJSON keeps QuPath's rules, and what QuPath writes is read."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import shapely

from bundle.classes import GLOBAL, GLOMERULUS_CLASSES, NORMAL
from bundle.data.annotations import Annotation, Glomerulus, read_annotation, write_geojson
from bundle.errors import UnknownClassError
from tests.oracle import run_config, write_oracle
from tests.qupath.qupath_rules import problems

ELLIPSE = [[16.25, 24], [13.25, 28], [10.25, 24], [13.25, 20], [16.25, 24]]
WRITTEN_BY_QUPATH = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "id": "cd383ea1-8116-499a-a899-74d2efc43cac",
            "geometry": {"type": "Polygon", "coordinates": [ELLIPSE], "isEllipse": True},
            "properties": {
                "objectType": "annotation",
                "name": "one",
                "classification": {"name": "global_sclerosis", "color": [200, 30, 60]},
                "isLocked": True,
                "measurements": {"Probability": "NaN", "Area µm^2": 12.5},
            },
        },
        {
            "type": "Feature",
            "id": "c0a94ace-855f-41c8-bf39-2731dc8f1ae7",
            "geometry": {"type": "Polygon", "coordinates": [[[9, 2], [15, 2], [15, 4], [9, 4], [9, 2]]]},
            "properties": {
                "objectType": "annotation",
                "classification": {"names": ["Glomerulus", "Sclerotic"], "color": [2, 44, 118]},
                "metadata": {"seen": "yes"},
            },
        },
        {
            "type": "Feature",
            "id": "9e6162b6-2f8e-4788-8214-6865c181a3ab",
            "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [500, 0], [500, 400], [0, 400], [0, 0]]]},
            "properties": {"objectType": "annotation"},
        },
    ],
}
"""As QuPath 0.5.1 writes a locked ellipse, a derived class with metadata, an annotation without class."""


def in_memory(annotation: Annotation, folder: Path) -> dict:
    write_geojson(annotation, folder / "written.geojson")
    return json.loads((folder / "written.geojson").read_text(encoding="utf-8"))


def test_what_inference_writes_keeps_qupath_s_rules(tmp_path: Path) -> None:
    write_oracle(tmp_path / "slide.tif", 801, 603, glomeruli_per_mm2=12.0, class_fractions=(1, 1, 1))
    run_config("inference.yaml", {"slide": str(tmp_path / "slide.tif"), "output_dir": str(tmp_path / "out")})
    document = json.loads((tmp_path / "out" / "glomeruli.geojson").read_text(encoding="utf-8"))
    assert len(document["features"]) > 2
    assert problems(document) == []


def test_glomeruli_of_several_parts_with_holes_keep_the_rules(tmp_path: Path) -> None:
    ring = shapely.Point(100, 100).buffer(40).difference(shapely.Point(100, 100).buffer(10))
    parts = shapely.MultiPolygon([ring, shapely.box(300, 300, 310.123456, 320)])
    made = in_memory(Annotation((Glomerulus(parts, GLOBAL.index, GLOBAL.name),)), tmp_path)
    assert made["features"][0]["geometry"]["type"] == "MultiPolygon"
    assert problems(made) == []


def test_real_annotations_that_are_read_and_written_keep_the_rules(shared_data: Path, tmp_path: Path) -> None:
    found = sorted((shared_data / "slides" / "kidney").glob("*.geojson"))
    assert found
    for path in found:
        assert problems(in_memory(read_annotation(path), tmp_path)) == []


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: f["properties"]["classification"].pop("color"), "no colour"),
        (lambda f: f["properties"]["classification"].update(name="a: b"), "QuPath splits"),
        (lambda f: f["properties"]["classification"].update(name=""), "no name"),
        (lambda f: f["properties"].update(name=None), "name is no text"),
        (lambda f: f["properties"].update(measurements={"Area": None}), "measurement is no number"),
        (lambda f: f["properties"].update(objectType="glomerulus"), "objectType is unknown"),
        (lambda f: f.update(properties=None), "no object"),
        (lambda f: f.update(id="glomerulus 1"), "no UUID"),
        (lambda f: f["geometry"].update(type="Point"), "no area"),
        (lambda f: f["geometry"]["coordinates"][0].pop(), "open"),
        (lambda f: f["geometry"].update(coordinates=[[[0, 0], [4, 4], [4, 0], [0, 4], [0, 0]]]), "invalid"),
        (lambda f: f["geometry"].update(coordinates=[[[0, 0], [1e-3, 0], [1e-3, 1e-3], [0, 0]]]), "0.01 px"),
    ],
)
def test_the_rules_are_not_kept_by_anything(spoil: Callable[[dict], object], says: str, tmp_path: Path) -> None:
    glomerulus = Glomerulus(shapely.box(1, 1, 50, 40), NORMAL.index, NORMAL.name)
    document = in_memory(Annotation((glomerulus,)), tmp_path)
    assert problems(document) == []
    spoiled = copy.deepcopy(document)
    spoil(spoiled["features"][0])
    (problem,) = problems(spoiled)
    assert says in problem


@pytest.mark.parametrize("as_written", [WRITTEN_BY_QUPATH, WRITTEN_BY_QUPATH["features"]], ids=["collection", "list"])
def test_what_qupath_writes_is_read_with_its_classes(tmp_path: Path, as_written: object) -> None:
    path = tmp_path / "qupath.geojson"
    path.write_text(json.dumps(as_written), encoding="utf-8")
    with pytest.raises(UnknownClassError, match="Glomerulus: Sclerotic"):
        read_annotation(path)
    read = read_annotation(path, class_map={"Glomerulus: Sclerotic": "segmental_sclerosis"})
    assert [g.label for g in read.glomeruli] == [3, 2, 255]
    assert read.glomeruli[0].polygon.equals(shapely.Polygon(ELLIPSE))
    assert in_memory(read, tmp_path) == WRITTEN_BY_QUPATH


def test_every_class_has_its_colour_in_qupath(tmp_path: Path) -> None:
    boxes = [shapely.box(10 * c.index, 0, 10 * c.index + 5, 5) for c in GLOMERULUS_CLASSES]
    glomeruli = tuple(Glomerulus(b, c.index, c.name) for b, c in zip(boxes, GLOMERULUS_CLASSES, strict=True))
    made = in_memory(Annotation(glomeruli), tmp_path)
    shown = [feature["properties"]["classification"] for feature in made["features"]]
    assert shown == [{"name": c.name, "color": list(c.rgb)} for c in GLOMERULUS_CLASSES]
