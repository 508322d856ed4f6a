"""Mask images: what they say survives the way through polygons, pixel by pixel."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from bundle.data.annotations import mask_outline, mask_size, read_annotation
from bundle.errors import AnnotationError, ConfigError, UnknownClassError

MASKS = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.sampled_from([0, 0, 1, 2, 3])
)


def write_png(path, array):
    Image.fromarray(np.asarray(array, np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    return tmp_path_factory.mktemp("masks") / "mask.png"


@given(mask=MASKS, downsample=st.sampled_from([1.0, 4.0, 0.33, 3.031]))
@settings(max_examples=150, deadline=None)
def test_an_index_mask_comes_back_identical_through_its_polygons(png, mask, downsample):
    annotation = read_annotation(write_png(png, mask), mask_downsample=downsample)

    height, width = mask.shape
    np.testing.assert_array_equal(annotation.rasterize(0, 0, width, height, downsample), mask)
    assert all(g.polygon.is_valid for g in annotation.glomeruli)


@pytest.mark.parametrize(
    "rows",
    [
        ["1"],
        ["10", "01"],  # touch by a corner
        ["111", "101", "111"],  # a hole of one pixel
        ["11111", "10001", "10101", "10001", "11111"],  # an islet in a hole
        ["1102", "1022"],  # two classes touch
        ["1120", "1220"],
    ],
)
def test_awkward_shapes_come_back_identical(tmp_path, rows):
    mask = np.array([list(map(int, row)) for row in rows], np.uint8)

    annotation = read_annotation(write_png(tmp_path / "m.png", mask))

    np.testing.assert_array_equal(annotation.rasterize(0, 0, mask.shape[1], mask.shape[0], 1.0), mask)


def test_pixels_that_touch_by_a_corner_are_one_object():
    mask = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]], bool)

    assert mask_outline(mask, 0, 0, 1.0).geom_type == "Polygon"


def test_objects_below_the_minimum_area_are_left_out(tmp_path):
    mask = np.zeros((20, 20), np.uint8)
    mask[2:10, 2:10] = 1
    mask[15, 15] = 1

    assert len(read_annotation(write_png(tmp_path / "m.png", mask)).glomeruli) == 2
    assert len(read_annotation(tmp_path / "m.png", min_area_px=2).glomeruli) == 1


def test_values_are_named_by_the_table_and_255_is_ignored(tmp_path):
    path = write_png(tmp_path / "m.png", [[1, 0, 2, 0, 255]])

    table = {1: "normal", 2: "global_sclerosis", 255: "ignore"}
    assert read_annotation(path, mask_values=table).rasterize(0, 0, 5, 1, 1.0).tolist() == [[1, 0, 3, 0, 255]]


def test_each_value_of_an_instance_mask_is_one_object_even_in_two_parts(tmp_path):
    path = write_png(tmp_path / "m.png", [[1, 1, 2, 2, 0, 7, 0, 7]])

    annotation = read_annotation(path, mask_values={"instances": "normal"})

    assert [g.id for g in annotation.glomeruli] == ["1", "2", "7"]
    assert annotation.glomeruli[2].polygon.geom_type == "MultiPolygon"
    assert annotation.rasterize_instances(0, 0, 8, 1, 1.0).tolist() == [[1, 1, 2, 2, 0, 3, 0, 3]]


def test_colours_are_named_by_hex_codes(tmp_path):
    red, green, black = (255, 0, 0), (0, 128, 0), (0, 0, 0)
    path = write_png(tmp_path / "m.png", [[red, red, black, green]])

    annotation = read_annotation(path, mask_values={"#ff0000": "Sclerotic", "#008000": "Normal"})

    assert annotation.rasterize(0, 0, 4, 1, 1.0).tolist() == [[3, 3, 0, 1]]


def test_a_grey_mask_with_soft_borders_is_cut_at_a_brightness(tmp_path):
    path = write_png(tmp_path / "m.png", [[(v, v, v) for v in (0, 100, 127, 128, 255)]])

    annotation = read_annotation(path, mask_values={">127": "global_sclerosis"})

    assert annotation.rasterize(0, 0, 5, 1, 1.0).tolist() == [[0, 0, 0, 3, 3]]


def test_value_zero_is_an_object_only_where_the_table_names_it(tmp_path):
    path = write_png(tmp_path / "m.png", [[0, 0, 1]])

    annotation = read_annotation(path, mask_values={"0": "normal", "1": "background"})

    assert annotation.rasterize(0, 0, 3, 1, 1.0).tolist() == [[1, 1, 0]]


def test_a_palette_png_is_read_by_its_indices(tmp_path):
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "m.png")

    assert read_annotation(tmp_path / "m.png").rasterize(0, 0, 3, 1, 1.0).tolist() == [[0, 1, 2]]


def test_a_tiled_tiff_mask_with_a_pyramid_is_read_at_its_largest_level(tmp_path):
    mask = np.zeros((64, 96), np.uint8)
    mask[10:40, 20:70] = 3
    with tifffile.TiffWriter(tmp_path / "m.tif") as tiff:
        tiff.write(mask, tile=(16, 16), subifds=1)
        tiff.write(mask[::2, ::2], tile=(16, 16), subfiletype=1)

    assert mask_size(tmp_path / "m.tif") == (96, 64)
    np.testing.assert_array_equal(read_annotation(tmp_path / "m.tif").rasterize(0, 0, 96, 64, 1.0), mask)


def test_a_value_without_a_class_is_an_error_that_names_it(tmp_path):
    path = write_png(tmp_path / "m.png", [[0, 1, 9]])

    with pytest.raises(UnknownClassError, match=r"m\.png: mask value 9 .*mask_values"):
        read_annotation(path)
    assert len(read_annotation(path, mask_values={1: "normal", "*": "background"}).glomeruli) == 1


def test_a_colour_image_is_no_index_mask(tmp_path):
    path = write_png(tmp_path / "m.png", [[(1, 2, 3)]])

    with pytest.raises(AnnotationError, match="#rrggbb"):
        read_annotation(path)


@pytest.mark.parametrize("table", [{"one": "normal"}, {"instances": "normal", "1": "normal"}, {">x": "normal"}])
def test_a_senseless_table_is_refused(tmp_path, table):
    path = write_png(tmp_path / "m.png", [[0]])

    with pytest.raises(ConfigError, match="mask_values"):
        read_annotation(path, mask_values=table)


def test_a_mask_too_large_to_load_says_what_to_give_instead(tmp_path):
    huge = tifffile.memmap(tmp_path / "huge.tif", shape=(30000, 30000), dtype=np.uint8)
    del huge

    with pytest.raises(AnnotationError, match=r"30000 x 30000.*GeoJSON"):
        read_annotation(tmp_path / "huge.tif")


def test_a_damaged_mask_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "m.png").write_bytes(b"no png")

    with pytest.raises(AnnotationError, match=r"m\.png"):
        read_annotation(tmp_path / "m.png")


def test_every_region_mask_comes_back_identical_and_counts_its_glomeruli(shared_data):
    masks = sorted((shared_data / "regions" / "masks").glob("*.png"))
    assert masks
    for path in masks[::8]:
        mask = np.asarray(Image.open(path))
        annotation = read_annotation(path, mask_values={1: "normal", 2: "global_sclerosis"})
        height, width = mask.shape
        expected = np.array([0, 1, 3], np.uint8)[mask]
        np.testing.assert_array_equal(annotation.rasterize(0, 0, width, height, 1.0), expected)


def test_the_instance_masks_hold_229_glomeruli(shared_data):
    masks = sorted((shared_data / "fields" / "masks").glob("*.png"))

    assert sum(len(read_annotation(m, mask_values={"instances": "normal"}).glomeruli) for m in masks) == 229
