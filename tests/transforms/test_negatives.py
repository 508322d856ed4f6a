"""Hard negatives: the picture changes, glomeruli and their labels do not, but for what lies over the whole tile."""

import numpy as np
import pytest

from bundle.transforms import RandHardNegatived

SIDE = 128
PAINTERS = ["_vessel", "_cast", "_infiltrate", "_fibrosis", "_fold", "_pen", "_edge"]


def tile():
    random = np.random.default_rng(1)
    image = np.clip(random.normal([[[180]], [[120]], [[170]]], 15, (3, SIDE, SIDE)), 0, 255).astype(np.uint8)
    label = np.zeros((1, SIDE, SIDE), np.uint8)
    label[0, 40:80, 40:80] = 1
    return {"image": image, "label": label}


def only(painter, seed, **options):
    transform = RandHardNegatived(["image", "label"], mpp=4.0, prob=1.0, **options)
    transform.shares = np.array([float(name == painter) for name in PAINTERS])
    transform.set_random_state(seed)
    return transform(tile())


@pytest.mark.parametrize("painter", PAINTERS)
def test_each_kind_changes_the_picture(painter):
    before = tile()["image"].astype(int)
    changes = [np.abs(only(painter, seed)["image"] - before).max() for seed in range(8)]
    assert max(changes) > 20


@pytest.mark.parametrize("painter", ["_vessel", "_cast", "_infiltrate", "_fibrosis"])
def test_lookalikes_spare_the_glomeruli(painter):
    before = tile()
    for seed in range(15):
        found = only(painter, seed)
        assert np.array_equal(found["label"], before["label"])
        inside = (slice(None), slice(44, 76), slice(44, 76))
        assert np.abs(found["image"][inside].astype(int) - before["image"][inside]).max() <= 2


@pytest.mark.parametrize("painter", ["_fold", "_pen"])
def test_what_lies_over_the_tissue_keeps_its_labels(painter):
    for seed in range(8):
        assert np.array_equal(only(painter, seed)["label"], tile()["label"])


def test_beyond_a_torn_edge_there_is_glass_and_background():
    removed = 0
    for seed in range(20):
        found = only("_edge", seed)
        gone = (tile()["label"] == 1) & (found["label"] == 0)
        removed += gone.sum()
        assert found["image"][:, gone[0]].min(initial=255) > 150
    assert removed > 0


def test_a_fold_is_darker():
    assert only("_fold", 0)["image"].mean() < tile()["image"].mean()


def test_blank_glass_stays_blank():
    transform = RandHardNegatived(["image", "label"], mpp=4.0, prob=1.0)
    blank = {"image": np.full((3, SIDE, SIDE), 240, np.uint8), "label": np.zeros((1, SIDE, SIDE), np.uint8)}
    assert np.array_equal(transform(blank)["image"], blank["image"])


def test_a_probability_of_zero_changes_nothing():
    transform = RandHardNegatived(["image", "label"], mpp=4.0, prob=0.0)
    assert np.array_equal(transform(tile())["image"], tile()["image"])
