"""Urinary space: the tuft shrinks, the capsule and its label stay."""

import numpy as np
import pytest
from skimage.draw import disk

from bundle.transforms import RandUrinarySpaced

SIDE, MPP = 100, 4.0
TISSUE, TUFT = (170, 90, 160), (90, 40, 120)
RADIUS = 25  # pixels: 200 um across


def tile(index=1, radius=RADIUS):
    image = np.empty((3, SIDE, SIDE), np.uint8)
    image[:] = np.array(TISSUE)[:, None, None]
    label = np.zeros((1, SIDE, SIDE), np.uint8)
    rows, columns = disk((50, 50), radius)
    image[:, rows, columns] = np.array(TUFT)[:, None]
    label[0, rows, columns] = index
    return {"image": image, "label": label}


def opened(sample, seed=0, **options):
    transform = RandUrinarySpaced(["image", "label"], mpp=MPP, **{"prob": 1.0, **options})
    transform.set_random_state(seed)
    return transform(sample)


def blank(found):
    return found["image"].min(axis=0) >= 195


@pytest.mark.parametrize("scale", [0.6, 0.8])
def test_the_space_has_the_area_that_the_tuft_has_lost(scale):
    for seed in range(10):
        found = opened(tile(), seed, tuft=(scale, scale), capsule_um=0.0)
        kept = (np.abs(found["image"].astype(int) - np.array(TUFT)[:, None, None]).max(axis=0) < 60).sum()
        assert kept == pytest.approx(np.pi * RADIUS**2 * scale**2, rel=0.08)
        assert blank(found).sum() == pytest.approx(np.pi * RADIUS**2 * (1 - scale**2), rel=0.25)


def test_label_and_all_outside_the_capsule_stay():
    sample = tile()
    for seed in range(10):
        found = opened(sample, seed)
        np.testing.assert_array_equal(found["label"], sample["label"])
        outside = sample["label"][0] == 0
        np.testing.assert_array_equal(found["image"][:, outside], sample["image"][:, outside])


def test_the_space_lies_on_any_side():
    sides = []
    for seed in range(40):
        rows, columns = np.nonzero(blank(opened(tile(), seed, tuft=(0.7, 0.7))))
        sides.append((rows.mean() > 50, columns.mean() > 50))
    assert len(set(sides)) == 4


@pytest.mark.parametrize(("index", "radius"), [(3, RADIUS), (255, RADIUS), (1, 5)])
def test_sclerosed_unknown_and_cut_glomeruli_have_no_space(index, radius):
    sample = tile(index, radius)
    np.testing.assert_array_equal(opened(sample)["image"], sample["image"])


def test_without_probability_nothing_changes_and_the_original_never_does():
    sample = tile()
    np.testing.assert_array_equal(opened(sample, prob=0.0)["image"], sample["image"])
    opened(sample)
    np.testing.assert_array_equal(sample["image"], tile()["image"])


def test_a_seed_gives_the_same_again():
    np.testing.assert_array_equal(opened(tile(), 3)["image"], opened(tile(), 3)["image"])
