"""Annotation files of every program: read as QuPath would show them, written back without loss."""

import json

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label as connected_parts
from shapely.geometry import MultiPolygon, Point, Polygon, box

from bundle.classes import GLOBAL, NORMAL
from bundle.data.annotations import Annotation, Glomerulus, read_annotation, write_geojson
from bundle.errors import AnnotationError, ConfigError, UnknownClassError
from bundle.geometry import Size

SQUARE = [[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]


def feature(coordinates, name=None, kind="Polygon", **members):
    properties = {"classification": {"name": name, "color": [1, 2, 3]}} if name else {}
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties, **members}


def write_json(path, document):
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def write_text(path, text):
    path.write_text(text, encoding="utf-8")
    return path


# --- GeoJSON ---


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


# --- labelme ---


def test_labelme_polygons_rectangles_and_circles_are_read(tmp_path):
    shapes = [
        {"label": "gn", "points": [[0, 0], [4, 0], [4, 4]]},
        {"label": "gs", "points": [[8, 8], [4, 4]], "shape_type": "rectangle"},
        {"label": "gl", "points": [[50, 50], [50, 60]], "shape_type": "circle"},
    ]
    path = write_json(tmp_path / "a.json", {"imagePath": "a.jpg", "shapes": shapes})

    found = read_annotation(path).glomeruli

    assert [g.label for g in found] == [1, 3, 1]
    assert [g.polygon.area for g in found] == pytest.approx([8, 16, np.pi * 100], rel=0.01)


# --- ImageScope ---


def imagescope(layers):
    return f'<Annotations MicronsPerPixel="0.25">{layers}</Annotations>'


def region(points, **attributes):
    attributes = {"Id": "1", "Type": "0", **attributes}
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in points)
    head = " ".join(f'{key}="{value}"' for key, value in attributes.items())
    return f"<Region {head}><Vertices>{vertices}</Vertices></Region>"


def test_imagescope_layers_texts_attributes_and_holes_are_read(tmp_path):
    outer, inner = [(0, 0), (10, 0), (10, 10), (0, 10)], [(2, 2), (8, 2), (8, 8), (2, 8)]
    layers = (
        f'<Annotation Id="1" Name="Normal"><Regions>{region(outer)}{region(inner, NegativeROA="1")}'
        f"{region(outer, Text='GGS')}</Regions></Annotation>"
        f'<Annotation Id="2" Name=""><Attributes><Attribute Name="Description" Value="sgs"/></Attributes>'
        f"<Regions>{region([(20, 20), (30, 40)], Type='2')}{region([(0, 0), (9, 9)], Type='4')}</Regions></Annotation>"
    )
    path = write_text(tmp_path / "a.xml", imagescope(layers))

    found = read_annotation(path).glomeruli

    assert [g.label for g in found] == [1, 3, 2]
    assert found[0].polygon.area == 100 - 36
    assert found[2].polygon.area == pytest.approx(np.pi * 5 * 10, rel=0.01)
    assert found[2].polygon.bounds == pytest.approx((20, 20, 30, 40))


def test_an_imagescope_layer_without_a_name_is_mapped_by_its_number_or_colour(tmp_path):
    square = [(0, 0), (4, 0), (4, 4)]
    layers = "".join(
        f'<Annotation Id="{i}" LineColor="{colour}"><Regions>{region(square)}</Regions></Annotation>'
        for i, colour in ((2, 65280), (3, 255))
    )
    path = write_text(tmp_path / "a.xml", imagescope(layers))

    assert [g.label for g in read_annotation(path).glomeruli] == [255, 255]
    mapped = read_annotation(path, class_map={"layer 2": "normal", "#ff0000": "global_sclerosis"})
    assert [g.label for g in mapped.glomeruli] == [1, 3]


# --- ASAP ---


def asap(body):
    return f"<ASAP_Annotations><Annotations>{body}</Annotations><AnnotationGroups/></ASAP_Annotations>"


def test_asap_groups_are_classes_and_points_are_put_in_order(tmp_path):
    points = [(0, 0), (10, 0), (10, 10), (0, 10)]
    shuffled = "".join(f'<Coordinate Order="{i}" X="{points[i][0]}" Y="{points[i][1]}"/>' for i in (2, 0, 3, 1))
    body = "".join(
        f'<Annotation Name="A{i}" Type="{kind}" PartOfGroup="{group}">'
        f"<Coordinates>{shuffled}</Coordinates></Annotation>"
        for i, (kind, group) in enumerate([("Polygon", "Normal"), ("Spline", "Sclerotic"), ("Rectangle", "None")])
    )
    path = write_text(tmp_path / "a.xml", asap(body))

    found = read_annotation(path).glomeruli

    assert [(g.id, g.label, g.polygon.area) for g in found] == [("A0", 1, 100), ("A1", 3, 100), ("A2", 255, 100)]


def test_an_asap_dot_is_skipped_with_a_warning(tmp_path):
    body = '<Annotation Name="D" Type="Dot" PartOfGroup="Normal"><Coordinates/></Annotation>'

    with pytest.warns(UserWarning, match="'D' is a Dot"):
        assert read_annotation(write_text(tmp_path / "a.xml", asap(body))).glomeruli == ()


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
    '<Annotations><Annotation Name="&b;"/></Annotations>'
)
SPY = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/hostname">]><Annotations>&f;</Annotations>'


@pytest.mark.parametrize("text", [BOMB, SPY])
def test_xml_entities_are_refused(tmp_path, text):
    with pytest.raises(AnnotationError, match=r"a\.xml: declares XML entities"):
        read_annotation(write_text(tmp_path / "a.xml", text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<Annotations>",
        "<svg/>",
        imagescope(
            '<Annotation><Regions><Region><Vertices><Vertex X="a" Y="1"/></Vertices></Region></Regions></Annotation>'
        ),
        asap(
            '<Annotation Name="A" Type="Polygon">'
            '<Coordinates><Coordinate Order="x" X="1" Y="1"/></Coordinates></Annotation>'
        ),
    ],
)
def test_damaged_xml_is_an_error_that_names_the_file(tmp_path, text):
    with pytest.raises(AnnotationError, match=r"a\.xml: "):
        read_annotation(write_text(tmp_path / "a.xml", text))


@pytest.mark.parametrize("reader_input", ["imagescope", "asap", "labelme"])
def test_other_formats_become_geojson_without_loss(tmp_path, reader_input):
    square = [(0, 0), (10, 0), (10.5, 10), (0, 10)]
    coordinates = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(square))
    text = {
        "imagescope": imagescope(f'<Annotation Name="Normal"><Regions>{region(square)}</Regions></Annotation>'),
        "asap": asap(
            f'<Annotation Name="A" Type="Polygon" PartOfGroup="SGS"><Coordinates>{coordinates}'
            "</Coordinates></Annotation>"
        ),
        "labelme": json.dumps({"shapes": [{"label": "gs", "points": square, "group_id": 3}]}),
    }[reader_input]
    annotation = read_annotation(write_text(tmp_path / f"a.{'json' if reader_input == 'labelme' else 'xml'}", text))

    write_geojson(annotation, tmp_path / "b.geojson")

    assert len(annotation.glomeruli) == 1
    assert read_annotation(tmp_path / "b.geojson") == annotation


# --- HuBMAP ---


def encode(mask):
    """HuBMAP's encoding, as its competition defines it: pixels numbered from 1, down the columns."""
    flat = np.concatenate([[0], mask.T.ravel(), [0]])
    edges = np.flatnonzero(np.diff(flat)) + 1
    edges[1::2] -= edges[::2]
    return " ".join(map(str, edges))


@given(
    mask=st.integers(1, 9).flatmap(
        lambda h: st.lists(st.lists(st.integers(0, 1), min_size=h, max_size=h), min_size=1, max_size=9)
    )
)
@settings(max_examples=120, deadline=None)
def test_a_run_length_mask_comes_back_identical_and_in_connected_parts(tmp_path_factory, mask):
    mask = np.array(mask, np.uint8).T
    path = tmp_path_factory.mktemp("rle") / "train.csv"
    path.write_text(f"id,encoding\nslide,{encode(mask)}\nother,1 1\n")

    annotation = read_annotation(path, slide_id="slide", slide_size=Size(mask.shape[1], mask.shape[0]))

    np.testing.assert_array_equal(annotation.rasterize(0, 0, mask.shape[1], mask.shape[0], 1.0), mask)
    assert len(annotation.glomeruli) == connected_parts(mask, np.ones((3, 3)))[1]
    assert {g.label for g in annotation.glomeruli} <= {NORMAL.index}


@pytest.mark.parametrize(
    ("slide_id", "size", "message"),
    [
        ("x", Size(4, 4), "no slide 'x'.*give `slide_id` as one of a, b"),
        (None, Size(4, 4), "give `slide_id`"),
        ("a", None, "slide_size"),
        ("a", Size(2, 2), "2 x 2; check slide id and size"),
        ("b", Size(4, 4), "pairs of numbers"),
    ],
)
def test_run_lengths_that_do_not_fit_are_errors_that_say_what_to_give(tmp_path, slide_id, size, message):
    path = write_text(tmp_path / "train.csv", "id,encoding\na,3 5\nb,3 5 1\n")

    with pytest.raises(AnnotationError, match=message):
        read_annotation(path, slide_id=slide_id, slide_size=size)


# --- real files ---


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


def test_hubmap_run_lengths_decode_to_glomeruli_that_hubmaps_own_tile_masks_show(shared_data):
    folder = shared_data / "annotations" / "hubmap"
    size = Size(25794, 31278)  # the file does not state it; a wrong height shows below

    annotation = read_annotation(folder / "train.csv", slide_id="2f6ecfcdf", slide_size=size)
    small = annotation.rasterize(0, 0, size.width // 16, size.height // 16, 16.0)

    solidity = [g.polygon.area / g.polygon.convex_hull.area for g in annotation.glomeruli]
    assert min(solidity) > 0.9  # a wrong height would shear the glomeruli
    tiles = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((folder / "masks_256_red16").glob("*.png"))]
    full = [tile.astype(np.float32) for tile in tiles if tile.sum() > 500]  # the others hold none, or a corner of one
    found = [cv2.matchTemplate(small.astype(np.float32), tile, cv2.TM_SQDIFF_NORMED).min() for tile in full]
    assert len(full) == 4
    assert max(found) < 0.1
