"""Pasted glomeruli: real size, right label, no overlap, nothing else touched."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.draw import ellipse

from bundle.errors import DatalistError
from bundle.transforms import RandPasteGlomerulid

MPP = 4.0
DIAMETER_UM = {"normal": (140, 260), "segmental_sclerosis": (120, 240), "global_sclerosis": (80, 200)}
SIDE = 200
"""Side of a tile, pixels of 4 um."""

TISSUE = (200, 150, 180)
CROPS = {"normal": (30, 120, 60), "global_sclerosis": (60, 30, 140)}
"""Colour of the crop of each class, unlike any tissue."""


def write_crops(folder, crops, value=255):
    """A datalist of one crop an entry of `crops` (class, colour): an ellipse of the colour on black."""
    rows = []
    for number, (name, colour) in enumerate(crops):
        mask = np.zeros((90, 120), bool)
        mask[ellipse(45, 60, 30, 50)] = True
        image, label = f"{number}.png", f"{number}_mask.png"
        Image.fromarray((mask[..., None] * np.array(colour)).astype(np.uint8)).save(folder / image)
        Image.fromarray((mask * value).astype(np.uint8)).save(folder / label)
        rows.append({"image": image, "label": label, "patient": "a", "stain": "PAS", "mask_values": {str(value): name}})
    datalist = folder / "crops.json"
    datalist.write_text(json.dumps({"training": rows}))
    return datalist


@pytest.fixture
def datalist(tmp_path):
    return write_crops(tmp_path, CROPS.items())


def make(datalist, **options):
    """A transform that always pastes, in the crops' own colours."""
    given = {"prob": 1.0, "max_count": 1, "colour_match": 0.0, "feather_um": 0.0, **options}
    return RandPasteGlomerulid(["image", "label"], datalist, mpp=MPP, diameter_um=DIAMETER_UM, **given)


def tile(label=0):
    image = np.empty((3, SIDE, SIDE), np.uint8)
    image[:] = np.array(TISSUE)[:, None, None]
    return {"image": image, "label": np.full((1, SIDE, SIDE), label, np.uint8)}


def paste(transform, sample, seed):
    transform.set_random_state(seed)
    return transform(sample)


def equivalent_um(mask) -> float:
    return float(np.sqrt(4 * mask.sum() / np.pi)) * MPP


def touches_the_border(mask) -> bool:
    return bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())


def test_the_label_is_the_pasted_picture(datalist):
    transform, seen = make(datalist), set()
    for seed in range(30):
        found = paste(transform, tile(), seed)
        label = found["label"][0]
        assert found["image"].dtype == found["label"].dtype == np.uint8
        assert found["image"].shape == (3, SIDE, SIDE)
        (index,) = set(np.unique(label)) - {0}
        colour = np.array(CROPS[{1: "normal", 3: "global_sclerosis"}[index]])
        inside = ndimage.binary_erosion(label > 0, iterations=3)
        assert (np.abs(found["image"][:, inside] - colour[:, None].astype(int)) <= 1).all()
        seen.add(int(index))
    assert seen == {1, 3}


def test_colours_outside_are_untouched(datalist):
    transform = make(datalist)
    for seed in range(20):
        found = paste(transform, tile(), seed)
        outside = found["label"][0] == 0
        assert (found["image"][:, outside] == np.array(TISSUE)[:, None]).all()


def test_a_feather_blends_no_further_than_its_width(datalist):
    transform = make(datalist, feather_um=20.0)  # 5 pixels
    for seed in range(20):
        found = paste(transform, tile(), seed)
        distance = ndimage.distance_transform_edt(found["label"][0] == 0)
        changed = (found["image"] != np.array(TISSUE)[:, None, None]).any(axis=0)
        assert distance[changed].max() <= 5 * 1.1  # OpenCV's distances are off by a few percent
        assert changed[distance > 0].any()


def test_the_size_in_micrometres_is_in_the_range_of_the_class(datalist):
    transform, sizes = make(datalist), {1: [], 3: []}
    for seed in range(80):
        label = paste(transform, tile(), seed)["label"][0]
        index = int(label.max())
        low, high = DIAMETER_UM[{1: "normal", 3: "global_sclerosis"}[index]]
        assert equivalent_um(label > 0) <= high * 1.03
        if not touches_the_border(label > 0):
            assert equivalent_um(label > 0) >= low * 0.97
            sizes[index].append(equivalent_um(label > 0))
    for found in sizes.values():
        assert np.ptp(found) > 50


def test_glomeruli_that_are_there_are_not_touched(datalist):
    transform = make(datalist, max_count=3)
    pasted = 0
    for seed in range(30):
        sample = tile()
        sample["label"][0, 60:140, 60:140] = 2
        sample["label"][0, :30, :30] = 255
        found = paste(transform, sample, seed)
        was = sample["label"] > 0
        np.testing.assert_array_equal(found["label"][was], sample["label"][was])
        np.testing.assert_array_equal(found["image"][:, was[0]], sample["image"][:, was[0]])
        pasted += bool((found["label"] != sample["label"]).any())
    assert pasted > 10


def test_nothing_is_pasted_where_nothing_is_known(datalist):
    sample = tile(label=255)
    assert (paste(make(datalist), sample, 0)["label"] == 255).all()


def test_nothing_is_pasted_on_glass(datalist):
    sample = tile()
    sample["image"][:] = 240
    assert not paste(make(datalist), sample, 0)["label"].any()


def test_a_glomerulus_is_pasted_once(tmp_path):
    transform = make(write_crops(tmp_path, [("normal", (30, 120, 60))]), max_count=5)
    for seed in range(30):
        _, count = ndimage.label(paste(transform, tile(), seed)["label"][0])
        assert count <= 1


def test_several_are_pasted_apart(tmp_path):
    crops = [("global_sclerosis", (20 * i, 30, 140)) for i in range(6)]
    transform = make(write_crops(tmp_path, crops), max_count=4)
    counts = [ndimage.label(paste(transform, tile(), seed)["label"][0])[1] for seed in range(40)]
    assert max(counts) >= 3
    assert max(counts) <= 4


def test_classes_are_pasted_evenly_however_many_crops_they_have(tmp_path):
    crops = [("normal", (10 * i, 120, 60)) for i in range(9)] + [("global_sclerosis", (60, 30, 140))]
    transform = make(write_crops(tmp_path, crops))
    labels = [paste(transform, tile(), seed)["label"].max() for seed in range(120)]
    assert 40 < labels.count(3) < 80


def test_a_class_may_be_pasted_more_often_or_never(datalist):
    often = make(datalist, class_shares={"normal": 0.25, "global_sclerosis": 1.0})
    labels = [paste(often, tile(), seed)["label"].max() for seed in range(150)]
    assert 100 < labels.count(3) < 140  # 120 expected
    never = make(datalist, class_shares={"normal": 0.0})
    assert {paste(never, tile(), seed)["label"].max() for seed in range(30)} == {3}


def test_a_faded_scar_keeps_its_mean_colour_and_loses_texture(tmp_path):
    folder = write_crops(tmp_path, [("global_sclerosis", (100, 100, 100))]).parent
    mask = np.array(Image.open(folder / "0_mask.png")) > 0
    noise = np.random.default_rng(0).normal(0, 25, mask.shape)[..., None]
    Image.fromarray(((100 + noise).clip(0, 255) * mask[..., None]).astype(np.uint8).repeat(3, 2)).save(folder / "0.png")

    def inside(fade, seed):
        found = paste(make(folder / "crops.json", fade=fade), tile(), seed)
        return found["image"][:, ndimage.binary_erosion(found["label"][0] == 3, iterations=3)]

    plain = [inside(0.0, seed) for seed in range(12)]
    faded = [inside(1.0, seed) for seed in range(12)]
    assert all(abs(found.mean() - 100) < 4 for found in plain + faded)
    assert np.mean([found.std() for found in faded]) < 0.8 * np.mean([found.std() for found in plain])


def test_colour_matching_moves_a_crop_towards_the_tissue(datalist):
    shifts = []
    for seed in range(20):
        found = paste(make(datalist, colour_match=1.0), tile(), seed)
        inside = ndimage.binary_erosion(found["label"][0] > 0, iterations=3)
        own = np.array(CROPS[{1: "normal", 3: "global_sclerosis"}[int(found["label"].max())]])
        pasted = found["image"][:, inside].mean(1)
        # A part of the way from the crop's colour to the tissue's, the same in each channel.
        parts = (pasted - own) / (np.array(TISSUE) - own)
        assert np.ptp(parts) < 0.1  # rounding to whole grey levels
        shifts.append(parts.mean())
    assert 0 <= min(shifts) < 0.3
    assert 0.7 < max(shifts) <= 1.03  # one grey level of the 30 to 140 between the two colours


def test_a_seed_pastes_the_same_again(datalist):
    first, again = (paste(make(datalist, max_count=3), tile(), 5) for _ in range(2))
    np.testing.assert_array_equal(first["image"], again["image"])
    np.testing.assert_array_equal(first["label"], again["label"])


def test_the_original_is_not_changed(datalist):
    sample = tile()
    paste(make(datalist), sample, 0)
    np.testing.assert_array_equal(sample["image"], tile()["image"])
    assert not sample["label"].any()


@pytest.mark.parametrize("options", [{"datalist": None}, {"prob": 0.0}])
def test_without_crops_or_probability_nothing_changes(datalist, options):
    transform = make(**{"datalist": datalist, **options})
    sample = tile()
    found = paste(transform, sample, 0)
    assert found["image"] is sample["image"]
    assert found["label"] is sample["label"]


def test_a_crop_without_a_known_glomerulus_is_refused_by_name(tmp_path):
    with pytest.raises(DatalistError, match=r"0_mask\.png: no glomerulus of a known class"):
        make(write_crops(tmp_path, [("ignore", (0, 0, 0))]))


def test_segmental_glomeruli_are_made_of_a_normal_one_and_a_scar(datalist):
    transform = make(datalist, segmental=True)
    shares = []
    for seed in range(60):
        found = paste(transform, tile(), seed)
        inside = ndimage.binary_erosion(found["label"][0] == 2, iterations=3)
        if not inside.any() or touches_the_border(found["label"][0] == 2):
            continue
        pixels = found["image"][:, inside].astype(int)
        # The scar's colour moves up to all of the way to the normal crop's.
        off_normal = np.abs(pixels - np.array(CROPS["normal"])[:, None]).sum(0)
        shares.append(float((off_normal > 15).mean()))
    assert len(shares) > 5
    assert max(shares) > 0.25
    assert max(shares) < 0.7


def test_a_bent_glomerulus_keeps_its_picture_under_its_label(datalist):
    found = paste(make(datalist, warp=0.1), tile(), 3)
    (index,) = set(np.unique(found["label"])) - {0}
    inside = ndimage.binary_erosion(found["label"][0] > 0, iterations=4)
    colour = np.array(CROPS[{1: "normal", 3: "global_sclerosis"}[int(index)]])
    assert (np.abs(found["image"][:, inside] - colour[:, None].astype(int)) <= 2).all()


def test_decoys_change_the_picture_and_not_the_label(datalist):
    random = np.random.default_rng(0)
    sample = tile() | {"image": random.integers(90, 200, (3, SIDE, SIDE)).astype(np.uint8)}
    plain = paste(make(datalist), sample, 5)
    decoyed = [paste(make(datalist, decoys=4), sample, seed) for seed in range(10)]
    changed = [(found["image"] != sample["image"]).any(0) & (found["label"][0] == 0) for found in decoyed]
    assert not ((plain["image"] != sample["image"]).any(0) & (plain["label"][0] == 0)).any()
    assert max(mask.sum() for mask in changed) * MPP**2 > np.pi / 4 * 80**2
    for found in decoyed:
        assert set(np.unique(found["label"])) <= {0, 1, 3}


def test_a_bare_tile_shows_one_glomerulus_on_white_and_asks_for_nothing_around_it(datalist):
    transform, seen = make(datalist, bare_prob=1.0), set()
    for seed in range(8):
        found = paste(transform, tile(label=1), seed)
        image, label = found["image"], found["label"][0]
        assert image.shape == (3, SIDE, SIDE)
        assert label.shape == (SIDE, SIDE)
        (index,) = set(np.unique(label)) - {0, 255}
        name = {1: "normal", 3: "global_sclerosis"}[int(index)]
        seen.add(name)
        assert (image[:, label == 255] == 255).all()
        inside = ndimage.binary_erosion(label == index, iterations=2)
        assert (np.abs(image[:, inside] - np.array(CROPS[name])[:, None]) <= 2).all()
        assert (image[:, ndimage.binary_erosion(label == 0, iterations=2)] == 0).all()
        low, high = DIAMETER_UM[name]
        assert low - MPP <= equivalent_um(label == index) <= high + MPP
    assert seen == set(CROPS)
