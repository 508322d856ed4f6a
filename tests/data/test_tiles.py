"""Training tiles: reproducible, balanced, inside the slide, with the label that belongs to the picture."""

import itertools
import json
import warnings
from collections import Counter

import numpy as np
import pytest
from monai.data import DataLoader
from monai.transforms import CastToTyped, Compose, RandFlipd, RandRotate90d, RandScaleIntensityd
from PIL import Image
from scipy import ndimage
from scipy.stats import chisquare
from shapely.geometry import box, mapping

from bundle.classes import CLASS_NAMES, IGNORE_INDEX
from bundle.data.datalist import read_datalist
from bundle.data.tiles import TileDataset
from bundle.errors import ConfigError, DatalistError
from bundle.geometry import Rect, Size
from bundle.grid import PhysicalTiles
from bundle.phantom import ORACLE_RGB, Phantom, PhantomSpec, write_phantom

SIDE_PX = 200
"""Side of the flat slides, pixels of 1 um."""

SMALL = PhysicalTiles(tile_um=16, overlap_um=0, mpp=1.0)


@pytest.fixture
def make_item(tmp_path):
    """A function that makes a slide of one colour, which tells the slides apart, with square glomeruli of 6 um."""
    numbers = itertools.count(1)

    def make(stain="PAS", patient="a", glomeruli=(1,), side=SIDE_PX, **more):
        number = next(numbers)
        image, label = tmp_path / f"{number}.png", tmp_path / f"{number}.geojson"
        Image.fromarray(np.full((side, side, 3), (10 * number, 40, 80), np.uint8)).save(image)
        centres = [(20 + 25 * (i % 7), 20 + 25 * (i // 7)) for i in range(len(glomeruli))]
        features = [
            {
                "type": "Feature",
                "geometry": mapping(box(x - 3, y - 3, x + 3, y + 3)),
                "properties": {"classification": {"name": CLASS_NAMES[index - 1]}},
            }
            for index, (x, y) in zip(glomeruli, centres, strict=True)
        ]
        label.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        return {"image": str(image), "label": str(label), "stain": stain, "patient": patient, "mpp": 1.0, **more}

    return make


def centre(tile) -> int:
    """Label in the middle of a tile."""
    return int(tile["label"][0, tile["label"].shape[1] // 2, tile["label"].shape[2] // 2])


def slide_number(tile) -> int:
    """Which of the flat slides a tile shows."""
    return int(tile["image"][0, 8, 8]) // 10


def draws(items, length=600, tiles=SMALL, **options):
    return list(map(TileDataset(items, tiles, length, jitter=0.0, **options).__getitem__, range(length)))


def assert_shares(found: Counter, shares: dict) -> None:
    """The counts are a sample of the shares: a deviation of less than one in ten thousand fails."""
    assert set(found) <= set(shares)
    total = sum(shares.values())
    expected = [sum(found.values()) * share / total for share in shares.values()]
    assert chisquare([found[key] for key in shares], expected).pvalue > 1e-4, found


@pytest.mark.parametrize(("balance", "shares"), [(1.0, (1, 1)), (0.0, (1, 5)), (0.5, (1, 5**0.5))])
def test_stains_are_drawn_by_the_balance(make_item, balance, shares):
    items = [make_item("HE"), *(make_item("PAS", f"p{i}") for i in range(5))]
    found = Counter(tile["stain"] for tile in draws(items, stain_balance=balance))
    assert_shares(found, dict(zip(("HE", "PAS"), shares, strict=True)))


@pytest.mark.parametrize(("balance", "shares"), [(1.0, (1, 1)), (0.0, (16, 1)), (0.5, (4, 1))])
def test_classes_are_drawn_by_the_balance(make_item, balance, shares):
    items = [make_item(glomeruli=[1] * 16 + [3])]
    found = Counter(map(centre, draws(items, class_balance=balance, background_fraction=0.0)))
    assert_shares(found, dict(zip((1, 3), shares, strict=True)))


def test_patients_are_drawn_evenly_however_many_slides_and_glomeruli_they_have(make_item):
    items = [make_item(patient="a", glomeruli=[1] * 12), make_item(patient="a"), make_item(patient="b")]
    found = Counter(items[slide_number(tile) - 1]["patient"] for tile in draws(items, background_fraction=0.0))
    assert_shares(found, {"a": 1, "b": 1})


def test_glomeruli_of_a_patient_are_drawn_evenly(make_item):
    items = [make_item(glomeruli=[1] * 5), make_item(glomeruli=[1])]
    found = Counter(map(slide_number, draws(items, background_fraction=0.0)))
    assert_shares(found, {1: 5, 2: 1})


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_background_has_its_share(make_item, fraction):
    found = Counter(centre(tile) > 0 for tile in draws([make_item()], background_fraction=fraction))
    # A tile drawn anywhere hits the one glomerulus of 6 x 6 um with its centre once in a thousand times.
    assert found[True] / 600 == pytest.approx(1 - fraction, abs=0.07)


def test_a_stain_without_glomeruli_gives_background(make_item):
    tiles = draws([make_item("HE", glomeruli=()), make_item("PAS")], length=40, background_fraction=0.0)
    assert {centre(tile) for tile in tiles if tile["stain"] == "HE"} == {0}
    assert {centre(tile) for tile in tiles if tile["stain"] == "PAS"} == {1}


def random_transform():
    return Compose(
        [
            CastToTyped("image", np.float32),
            RandFlipd(["image", "label"], prob=0.5, spatial_axis=0),
            RandRotate90d(["image", "label"], prob=0.5),
            RandScaleIntensityd("image", factors=0.5, prob=0.5),
        ]
    )


def epoch(items, number, workers=0, seed=0) -> list[np.ndarray]:
    """Images and labels of an epoch, by a data loader as in the config."""
    dataset = TileDataset(items, SMALL, 12, transform=random_transform(), seed=seed)
    dataset.set_epoch(number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons dislike forks beside threads
        loader = DataLoader(dataset, batch_size=4, num_workers=workers)
        return [np.asarray(batch[key]) for batch in loader for key in ("image", "label")]


@pytest.fixture
def two_items(make_item):
    return [make_item("HE", glomeruli=[1, 2, 3]), make_item("PAS", "b", glomeruli=[1, 1])]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(two_items, workers):
    for alone, shared in zip(epoch(two_items, 3), epoch(two_items, 3, workers), strict=True):
        np.testing.assert_array_equal(alone, shared)


def test_a_tile_does_not_depend_on_those_before_it(two_items):
    one, other = (TileDataset(two_items, SMALL, 20, transform=random_transform()) for _ in range(2))
    forwards = [one[i] for i in range(20)]
    backwards = [other[i] for i in reversed(range(20))][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        np.testing.assert_array_equal(a["label"], b["label"])


def test_epochs_and_seeds_draw_other_tiles(two_items):
    first = epoch(two_items, 1)
    for other in (epoch(two_items, 2), epoch(two_items, 1, seed=1)):
        assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    """A phantom whose colours are its labels, 1.6 x 1.2 mm at 2 um, and its datalist item."""
    phantom = Phantom(
        PhantomSpec(Size(800, 600), mpp=2.0, glomeruli_per_mm2=12, class_fractions=(1, 1, 1), oracle=True)
    )
    slide = write_phantom(phantom, tmp_path_factory.mktemp("oracle"))
    return {"image": str(slide), "label": str(slide.with_suffix(".geojson")), "stain": "PAS", "patient": "a"}


def assert_colours_are_labels(tile) -> None:
    """Away from borders, the picture has the colour of the label."""
    image, label = tile["image"], tile["label"][0]
    flat = np.ptp([ndimage.minimum_filter(image, (1, 3, 3)), ndimage.maximum_filter(image, (1, 3, 3))], axis=0)
    inside = (flat <= 1).all(axis=0) & (ndimage.minimum_filter(label, 3) == ndimage.maximum_filter(label, 3))
    assert inside.mean() > 0.5
    for index in (1, 2, 3):
        is_colour = (np.abs(image.astype(int) - np.array(ORACLE_RGB[index])[:, None, None]) <= 1).all(axis=0)
        np.testing.assert_array_equal(is_colour[inside], (label == index)[inside])


@pytest.mark.parametrize("mpp", [2.0, 4.0, 3.3])
def test_the_label_belongs_to_the_picture(oracle, mpp):
    dataset = TileDataset([oracle], PhysicalTiles(400, 0, mpp), 30)
    found = set()
    for tile in map(dataset.__getitem__, range(30)):
        side = round(400 / mpp)
        assert tile["image"].shape == (3, side, side)
        assert tile["label"].shape == (1, side, side)
        assert tile["image"].dtype == tile["label"].dtype == np.uint8
        assert_colours_are_labels(tile)
        found |= set(np.unique(tile["label"]))
    assert found == {0, 1, 2, 3}


def test_a_region_is_a_slide_of_its_own(oracle):
    phantom_item = {**oracle, "region": Rect(300, 150, 350, 300)}
    dataset = TileDataset([phantom_item], PhysicalTiles(300, 0, 2.0), 30)
    labels = []
    for tile in map(dataset.__getitem__, range(30)):
        assert_colours_are_labels(tile)
        labels.append(np.unique(tile["label"]))
    assert max(map(max, labels)) > 0


def test_off_the_glomeruli_of_a_partly_annotated_slide_nothing_is_known(oracle):
    for tile in draws([{**oracle, "complete": False}], length=20, tiles=PhysicalTiles(400, 0, 4.0)):
        assert 0 not in tile["label"]
        assert IGNORE_INDEX in tile["label"]
        assert_colours_are_labels(tile)


def test_a_partly_annotated_slide_gives_no_background_tiles(make_item):
    tiles = draws([make_item(complete=False)], length=50, background_fraction=0.9)
    assert {centre(tile) for tile in tiles} == {1}
    assert set().union(*(np.unique(tile["label"]) for tile in tiles)) == {1, IGNORE_INDEX}


def test_tiles_stay_inside_a_slide_that_holds_them(make_item):
    tiles = PhysicalTiles(100, 0, 1.0)
    item = make_item(glomeruli=[1] * 49)
    for i in range(50):
        assert TileDataset([item], tiles, 50, jitter=0.5)[i]["image"].max() < 255


def test_a_slide_smaller_than_a_tile_is_in_it_whole_on_white(make_item):
    item = make_item(side=50, glomeruli=[1])
    for tile in draws([item], length=20, tiles=PhysicalTiles(80, 0, 1.0)):
        is_slide = (tile["image"] == np.array([10, 40, 80])[:, None, None]).all(axis=0)
        assert is_slide.sum() == 50 * 50
        assert (tile["image"][:, ~is_slide] == 255).all()
        assert (tile["label"] == 1).sum() == 36
        assert (tile["label"][0][~is_slide] == IGNORE_INDEX).all()


def test_glomeruli_that_a_region_cuts_are_known_inside_it_alone_and_not_drawn_by_themselves(make_item):
    # The region holds the first glomerulus, from 17 to 23, and a sliver of the second, from 42 to 48.
    item = make_item(glomeruli=[1, 3], region=Rect(10, 10, 33, 20))
    for tile in draws([item], length=30, tiles=PhysicalTiles(60, 0, 1.0), background_fraction=0.0):
        is_region = tile["image"].max(axis=0) < 255
        assert is_region.sum() == 33 * 20
        assert (tile["label"][0][~is_region] == IGNORE_INDEX).all()
        assert (tile["label"] == 1).sum() == 36
        assert (tile["label"] == 3).sum() == 6
    assert {centre(tile) for tile in draws([item], length=30, background_fraction=0.0)} == {1}


def test_jitter_moves_glomeruli_off_the_centre(make_item):
    dataset = TileDataset([make_item()], SMALL, 200, background_fraction=0.0, jitter=0.4)
    places = [ndimage.center_of_mass(dataset[i]["label"][0]) for i in range(200)]
    assert np.std(places, axis=0).min() > 2
    assert all(dataset[i]["label"].any() for i in range(200))


def test_the_length_of_an_epoch_is_what_was_asked_for(make_item):
    assert len(TileDataset([make_item()], SMALL, 7)) == 7


def test_without_annotated_slides_training_is_refused(make_item):
    item = make_item()
    del item["label"]
    with pytest.raises(DatalistError, match="no annotated slide"):
        TileDataset([item], SMALL, 1)


def test_slides_that_give_nothing_to_draw_are_refused(make_item):
    with pytest.raises(DatalistError, match="nothing can be drawn"):
        TileDataset([make_item(glomeruli=(), complete=False)], SMALL, 1)


def test_slides_without_annotation_are_left_out(make_item):
    bare = make_item()
    del bare["label"]
    tiles = draws([bare, make_item()], length=20)
    assert set(map(slide_number, tiles)) == {2}


def test_items_come_from_a_datalist(make_item, tmp_path):
    item = make_item()
    (tmp_path / "datalist.json").write_text(json.dumps({"training": [item]}))
    (tile,) = draws(read_datalist(tmp_path / "datalist.json", "training"), length=1)
    assert tile["stain"] == "PAS"


def test_variants_are_cut_once_and_shown_again(make_item, monkeypatch):
    items = [make_item(glomeruli=(1, 3)), make_item(patient="b")]
    flip = Compose([RandFlipd(["image", "label"], prob=0.5, spatial_axis=0), RandScaleIntensityd("image", 0.5, 1.0)])

    def tiles(**options):
        return TileDataset(items, SMALL, 200, flip, background_fraction=0.3, **options)

    kept = tiles(variants=2)
    shown = [kept[i] for i in range(200)]
    # Three glomeruli and two slides' tissue, two variants each.
    assert len({np.asarray(tile["image"]).tobytes() for tile in shown}) == 10
    assert len({np.asarray(tile["image"]).tobytes() for tile in map(tiles().__getitem__, range(200))}) > 150
    again = tiles(variants=2)
    again.set_epoch(1)
    assert {np.asarray(again[i]["image"]).tobytes() for i in range(200)} == {
        np.asarray(tile["image"]).tobytes() for tile in shown
    }
    monkeypatch.setattr("bundle.data.tiles._open", lambda item: pytest.fail("cut anew"))
    assert all((np.asarray(kept[i]["image"]) == np.asarray(shown[i]["image"])).all() for i in range(200))


def test_no_variants_are_refused(make_item):
    with pytest.raises(ConfigError, match="variants must be 1 or more, or null, not 0"):
        TileDataset([make_item()], SMALL, 10, variants=0)
