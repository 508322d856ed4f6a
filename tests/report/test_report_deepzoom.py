"""The tiles of a page: which there are, what they show, how many fit."""

import base64
import io
import itertools
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import openslide
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image

from bundle.geometry import Size
from bundle.report.deepzoom import DeepZoom, embed, tile_jpeg
from bundle.slide import open_slide

SIDE = st.integers(1, 70_000)


@pytest.fixture(scope="module")
def slide_path(segmented: Path) -> Path:
    return segmented / "slide.tif"


@settings(deadline=None, max_examples=50)
@given(width=SIDE, height=SIDE)
def test_levels_halve_down_to_one_pixel(width: int, height: int) -> None:
    zoom = DeepZoom(Size(width, height))
    sizes = [zoom.level_size(level) for level in range(zoom.max_level + 1)]
    assert sizes[0] == Size(1, 1)
    assert sizes[-1] == Size(width, height)
    for small, large in itertools.pairwise(sizes):
        assert small == Size((large.width + 1) // 2, (large.height + 1) // 2)


@settings(deadline=None, max_examples=50)
@given(width=st.integers(1, 90), height=st.integers(1, 90), tile=st.integers(2, 70), overlap=st.integers(0, 2))
def test_tiles_without_their_overlap_cover_every_pixel_once(width: int, height: int, tile: int, overlap: int) -> None:
    zoom = DeepZoom(Size(width, height), tile, overlap)
    seen = np.zeros((height, width), int)
    for column, row in zoom.tiles(zoom.max_level):
        place = zoom.place(zoom.max_level, column, row)
        assert place is not None
        left, top = column * tile, row * tile
        assert (place.x, place.y) == (max(0, left - overlap), max(0, top - overlap))
        assert place.x + place.width == min(width, left + tile + overlap)
        seen[top : top + tile, left : left + tile] += 1
    assert (seen == 1).all()


def test_tiles_are_those_of_openslide_s_generator(slide_path: Path) -> None:
    with openslide.OpenSlide(slide_path) as reference, open_slide(slide_path) as slide:
        theirs, ours = DeepZoomGenerator(reference, tile_size=510, overlap=1), DeepZoom(slide.size)
        assert ours.max_level + 1 == theirs.level_count
        for level in (ours.max_level, ours.max_level - 1, ours.max_level - 2):
            columns, rows = theirs.level_tiles[level]
            assert list(ours.tiles(level)) == [(c, r) for r in range(rows) for c in range(columns)]
            last = (columns - 1, rows - 1)
            picture = Image.open(io.BytesIO(tile_jpeg(slide, ours, level, *last) or b""))
            expected = theirs.get_tile(level, last).convert("RGB")
            assert picture.size == expected.size
            difference = np.abs(np.asarray(picture).astype(int) - np.asarray(expected).astype(int))
            assert difference.mean() < 6  # JPEG, and another filter where levels are made


def test_there_is_no_tile_outside_of_the_slide(slide_path: Path) -> None:
    with open_slide(slide_path) as slide:
        zoom = DeepZoom(slide.size)
        for place in [(zoom.max_level + 1, 0, 0), (-1, 0, 0), (11, 4, 0), (11, 0, 3), (11, -1, 0)]:
            assert tile_jpeg(slide, zoom, *place) is None


def test_the_descriptor_states_the_slide_s_size() -> None:
    root = ElementTree.fromstring(DeepZoom(Size(1700, 1300)).descriptor())
    assert root.attrib == {"Format": "jpeg", "Overlap": "1", "TileSize": "510"}
    assert root[0].attrib == {"Width": "1700", "Height": "1300"}


def test_a_page_holds_the_levels_that_its_budget_allows(slide_path: Path) -> None:
    with open_slide(slide_path) as slide:
        zoom = DeepZoom(slide.size)
        whole = embed(slide, zoom, 50_000_000)
        assert whole.max_level == zoom.max_level
        size = sum(map(len, whole.pictures))
        assert embed(slide, zoom, size) == whole
        assert embed(slide, zoom, size - 1).max_level == zoom.max_level - 1
        less = embed(slide, zoom, size // 2)
        assert less.max_level == zoom.max_level - 1
        assert sum(map(len, less.pictures)) <= size // 2
        assert embed(slide, zoom, 0).tiles.keys() == {f"{less.min_level}/0_0"}
        levels = range(less.min_level, less.max_level + 1)
        assert less.tiles.keys() == {f"{level}/{c}_{r}" for level in levels for c, r in zoom.tiles(level)}


def test_embedded_tiles_show_the_slide(slide_path: Path) -> None:
    with open_slide(slide_path) as slide:
        pyramid = embed(slide, DeepZoom(slide.size), 0)
        picture = base64.b64decode(pyramid.pictures[pyramid.tiles[f"{pyramid.min_level}/0_0"]])
        shown = np.asarray(Image.open(io.BytesIO(picture))).astype(int)
        expected = slide.thumbnail(shown.shape[1])[: len(shown)].astype(int)
        assert np.abs(shown[: len(expected)] - expected).mean() < 6
