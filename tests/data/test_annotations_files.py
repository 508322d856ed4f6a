"""GeoJSON annotations: read as QuPath would show them, written back without loss."""

import json

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Point, Polygon, box

from bundle.classes import GLOBAL
from bundle.data.annotations import Annotation, Glomerulus, read_annotation, write_geojson
from bundle.errors import AnnotationError, ConfigError, UnknownClassError
from tests.annotation_files import write_json, write_text

SQUARE = [[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]


def feature(coordinates, name=None, kind="Polygon", **members):
    properties = {"classification": {"name": name, "color": [1, 2, 3]}} if name else {}
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties, **members}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Normal", 1),
        ("glom", 1),
        ("gn", 1),
        ("gm", 1),
        ("gl", 1),
        ("Non-sclerotic", 1),
        ("Partially_sclerotic", 2),
        ("partially sclerotic", 2),
        ("SGS", 2),
        ("FSGS", 2),
        ("Sclerotic", 3),
        ("GGS", 3),
        ("Global sclerosis", 3),
        ("globally-sclerotic", 3),
        ("obsolescent", 3),
        ("Ignore*", 255),
        (None, 255),
    ],
)
def test_class_names_are_understood_in_any_spelling(tmp_path, name, label):
    path = write_json(tmp_path / "a.geojson", {"features": [feature([SQUARE], name)]})

    assert [g.label for g in read_annotation(path).glomeruli] == [label]


def test_an_unknown_class_names_the_file_the_class_and_the_cure(tmp_path):
    path = write_json(tmp_path / "a.geojson", {"features": [feature([SQUARE], "Tubule")]})

    with pytest.raises(UnknownClassError, match=r"a\.geojson.*'Tubule'.*normal.*class_map"):
        read_annotation(path)
    assert read_annotation(path, class_map={"tubule": "background"}).glomeruli == ()
    assert read_annotation(path, class_map={"TUBULE": "ignore"}).glomeruli[0].label == 255


def test_a_class_map_to_no_class_is_refused(tmp_path):
    path = write_json(tmp_path / "a.geojson", {"features": [feature([SQUARE], "Tubule")]})

    with pytest.raises(ConfigError, match="sclerosis"):
        read_annotation(path, class_map={"Tubule": "sclerosis"})


def test_holes_parts_foreign_members_and_measurements_survive_writing(tmp_path):
    ring = [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]], [[2, 2], [2, 8], [8, 8], [8, 2], [2, 2]]]
    islet = [[[4.25, 4], [6, 4], [6, 6.125], [4.25, 4]]]
    first = feature([ring, islet], "Sclerotic", "MultiPolygon", id="a-1", nucleusGeometry={"x": 1})
    first["properties"] |= {"objectType": "detection", "isLocked": True, "measurements": [{"name": "Area", "value": 3}]}
    first["geometry"]["plane"] = {"c": -1, "z": 0, "t": 0}
    second = feature([SQUARE], "Region*")
    path = write_json(tmp_path / "a.geojson", {"type": "FeatureCollection", "features": [first, second]})

    write_geojson(read_annotation(path), tmp_path / "b.geojson")

    written = json.loads((tmp_path / "b.geojson").read_text())["features"]
    assert json.loads(json.dumps(written[0])) == first
    assert written[1]["properties"] == second["properties"] | {"objectType": "annotation"}
    assert "id" not in written[1]
    assert read_annotation(tmp_path / "b.geojson") == read_annotation(path)


COORDINATE = st.floats(-1e6, 1e6, allow_nan=False).filter(lambda v: v == 0 or abs(v) > 1e-6)


@st.composite
def glomeruli(draw):
    x, y = draw(COORDINATE), draw(COORDINATE)
    size = draw(st.floats(3, 1e4))
    shell = box(x, y, x + size, y + size)
    shape = draw(st.sampled_from([shell, Polygon(shell.exterior, [shell.centroid.buffer(size / 4).exterior])]))
    shape = draw(st.sampled_from([shape, MultiPolygon([shape, box(x + 2 * size, y, x + 3 * size, y + size)])]))
    name, label = draw(st.sampled_from([("Normal", 1), ("normal", 1), ("SGS", 2), ("Sclerotic", 3), ("", 255)]))
    extra = draw(st.dictionaries(st.sampled_from(["isLocked", "note"]), st.text(max_size=5)))
    return Glomerulus(shape, label, name, draw(st.text(max_size=8)), extra)


@given(objects=st.lists(glomeruli(), max_size=4))
@settings(max_examples=60, deadline=None)
def test_reading_what_was_written_gives_the_same_annotation(tmp_path_factory, objects):
    path = tmp_path_factory.mktemp("json") / "a.geojson"
    annotation = Annotation(tuple(objects))

    write_geojson(annotation, path)

    assert read_annotation(path) == annotation


def test_objects_of_no_file_get_the_colour_of_their_class(tmp_path):
    write_geojson(Annotation((Glomerulus(box(0, 0, 1, 1), GLOBAL.index, GLOBAL.name),)), tmp_path / "a.geojson")

    properties = json.loads((tmp_path / "a.geojson").read_text())["features"][0]["properties"]
    assert properties["objectType"] == "annotation"
    assert properties["classification"] == {"name": GLOBAL.name, "color": list(GLOBAL.rgb)}


def test_a_bow_tie_is_mended_to_both_wings_and_written_as_it_was_drawn(tmp_path):
    bow_tie = [[0, 0], [4, 4], [4, 0], [0, 4], [0, 0]]
    path = write_json(tmp_path / "a.geojson", {"features": [feature([bow_tie], "Normal")]})

    annotation = read_annotation(path)
    write_geojson(annotation, tmp_path / "b.geojson")

    assert annotation.glomeruli[0].polygon.is_valid
    assert annotation.glomeruli[0].polygon.area == pytest.approx(8)
    assert json.loads((tmp_path / "b.geojson").read_text())["features"][0]["geometry"]["coordinates"] == [bow_tie]
    assert read_annotation(tmp_path / "b.geojson") == annotation


def test_a_loop_that_was_drawn_twice_is_filled(tmp_path):
    twice = [[0, 0], [8, 0], [8, 8], [0, 8], [0, 1], [7, 1], [7, 7], [1, 7], [1, 0], [0, 0]]
    path = write_json(tmp_path / "a.geojson", {"features": [feature([twice], "Normal")]})

    assert read_annotation(path).glomeruli[0].polygon.contains(Point(4, 4))


@pytest.mark.parametrize(
    ("coordinates", "kind"),
    [
        ([[[0, 0], [1, 1]]], "Polygon"),
        ([[[0, 0], [1, 1], [0, 0]]], "Polygon"),
        ([[[0, 0], [1, 1], [2, 2], [0, 0]]], "Polygon"),
        ([], "Polygon"),
        ([3, 4], "Point"),
        ([[0, 0], [5, 5]], "LineString"),
    ],
)
def test_an_object_without_area_is_skipped_with_a_warning(tmp_path, coordinates, kind):
    features = [feature(coordinates, "Normal", kind, id="thin"), feature([SQUARE], "Normal")]
    path = write_json(tmp_path / "a.geojson", {"features": features})

    with pytest.warns(UserWarning, match=r"a\.geojson.*thin.*skipped"):
        assert len(read_annotation(path).glomeruli) == 1


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[" * 100_000,
        "3",
        '{"a": 1}',
        "[1]",
        '[{"type": "Feature", "geometry": null}]',
        '[{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [NaN, 1], [1, 1]]]}}]',
        '[{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1e999, 1], [1, 1]]]}}]',
        '[{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], ["x", 1], [1, 1]]]}}]',
        '[{"geometry": {"type": "Polygon", "coordinates": [[0, 0], [1, 1]]}}]',
        '[{"geometry": {"type": "Polygon", "coordinates": [3]}}]',
        '[{"geometry": {"type": "Polygon", "coordinates": 3}}]',
        '[{"geometry": {"type": "GeometryCollection", "geometries": [3]}}]',
        '[{"geometry": {"type": "Polygon", "coordinates": [[[0,0],[1,0],[1,1]]]}, "properties": 3}]',
        '{"shapes": [3]}',
        '{"shapes": [{"label": "gn", "points": [[1, 2], [3, 4]], "shape_type": "line"}]}',
    ],
)
def test_damaged_json_is_an_error_that_names_the_file(tmp_path, text):
    path = write_text(tmp_path / "broken.json", text)

    with pytest.raises(AnnotationError, match=r"broken\.json: "):
        read_annotation(path)


def test_a_missing_or_unknown_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(AnnotationError, match=r"gone\.geojson: no such"):
        read_annotation(tmp_path / "gone.geojson")
    with pytest.raises(AnnotationError, match=r"a\.docx: unknown annotation format"):
        read_annotation(write_text(tmp_path / "a.docx", ""))


def test_every_real_json_annotation_is_read_and_written_back_without_loss(shared_data, tmp_path):
    annotations = shared_data / "annotations"
    files = [
        *(annotations / "qupath").glob("*.geojson"),
        *(annotations / "hubmap").glob("*.json"),
        *(shared_data / "stains").glob("*.json"),
        *(shared_data / "slides" / "kidney").glob("*.geojson"),
    ]
    assert len(files) == 16 + 3 + 38 + 3
    for path in files:
        annotation = read_annotation(path)
        document = json.loads(path.read_text())
        objects = document if isinstance(document, list) else document.get("features", document.get("shapes"))
        assert len(annotation.glomeruli) == len(objects), path

        write_geojson(annotation, tmp_path / "copy.geojson")
        assert read_annotation(tmp_path / "copy.geojson") == annotation, path

        for written, original in zip(
            json.loads((tmp_path / "copy.geojson").read_text())["features"], objects, strict=True
        ):
            if "geometry" in original:
                assert shapely.geometry.shape(written["geometry"]).equals_exact(
                    shapely.geometry.shape(original["geometry"]), 0
                )
                assert original["properties"].items() <= written["properties"].items()
                assert original.get("id") == written.get("id")


def test_the_qupath_files_hold_the_classes_that_their_annotators_drew(shared_data):
    labels = [
        g.label
        for path in (shared_data / "annotations" / "qupath").glob("*.geojson")
        for g in read_annotation(path).glomeruli
    ]

    assert {label: labels.count(label) for label in sorted(set(labels))} == {1: 414, 2: 2, 3: 102, 255: 10}
