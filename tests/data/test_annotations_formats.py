"""Annotations of LabelMe, ImageScope and ASAP, and XML that would do harm."""

import json

import numpy as np
import pytest

from bundle.data.annotations import read_annotation, write_geojson
from bundle.errors import AnnotationError
from tests.annotation_files import write_json, write_text

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
