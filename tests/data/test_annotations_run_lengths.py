"""HuBMAP's run-length masks: identical after decoding, and clear where they do not fit."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label as connected_parts

from bundle.classes import NORMAL
from bundle.data.annotations import read_annotation
from bundle.errors import AnnotationError
from bundle.geometry import Size
from tests.annotation_files import write_text


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
