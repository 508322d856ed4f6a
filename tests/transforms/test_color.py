"""Colour augmentation keeps what must be kept."""

import numpy as np
import pytest
import torch

from bundle.transforms import RandHueSaturationd, RandStaind

TRANSFORMS = [RandHueSaturationd, RandStaind]
each = pytest.mark.parametrize("transform", TRANSFORMS)


@pytest.fixture
def image():
    """Pink tissue and some glass, float32 (3, H, W) in [0, 1], extremes included."""
    rgb = np.random.default_rng(0).uniform(0, 1, (3, 40, 50)).astype(np.float32)
    rgb[:, :4], rgb[:, 4:8], rgb[:, 8:30] = 1.0, 0.0, np.array([0.8, 0.5, 0.7])[:, None, None]
    return rgb


def augment(transform, image, seed=0, **options):
    made = transform(keys="image", prob=1.0, **options)
    made.set_random_state(seed)
    return made({"image": image})["image"]


@each
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_shape_type_and_range_are_kept(transform, kind, image):
    for seed in range(20):
        found = torch.as_tensor(augment(transform, kind(image), seed))
        assert found.shape == image.shape
        assert found.dtype == torch.float32
        assert found.isfinite().all()
        assert found.min() >= 0
        assert found.max() <= 1


@each
def test_colours_change_and_the_original_does_not(transform, image):
    before = image.copy()
    assert np.abs(np.asarray(augment(transform, image)) - image).max() > 0.01
    np.testing.assert_array_equal(image, before)


@each
def test_probability_0_changes_nothing(transform, image):
    assert transform(keys="image", prob=0.0)({"image": image})["image"] is image


@each
def test_strength_0_changes_almost_nothing(transform, image):
    options = {"hue": 0, "saturation": 0} if transform is RandHueSaturationd else {"scale": 0, "shift": 0}
    np.testing.assert_allclose(augment(transform, image, **options), image, atol=2e-3)


@each
def test_a_seed_gives_the_same_colours_again(transform, image):
    np.testing.assert_array_equal(augment(transform, image, 7), augment(transform, image, 7))
    assert not np.array_equal(augment(transform, image, 7), augment(transform, image, 8))


@each
def test_other_keys_are_left_alone(transform, image):
    label = np.ones((1, 40, 50), np.uint8)
    assert transform(keys="image", prob=1.0)({"image": image, "label": label})["label"] is label


def test_the_hue_turns_by_no_more_than_asked_for(image):
    red = np.zeros((3, 2, 2), np.float32)
    red[0] = 1.0
    for seed in range(20):
        turned = np.asarray(augment(RandHueSaturationd, red, seed, hue=0.04, saturation=0.0))
        # On the way from red to yellow or magenta, 1/6 of the circle, one channel rises from 0 to 1.
        assert turned[0] == pytest.approx(1.0, abs=1e-4)
        assert turned[1:].max() <= 0.04 * 6 + 1e-4


def test_grey_has_no_hue_to_turn(image):
    grey = np.full((3, 4, 4), 0.5, np.float32)
    np.testing.assert_allclose(augment(RandHueSaturationd, grey), grey, atol=1e-5)


def test_more_stain_is_darker_and_less_is_lighter(image):
    tissue = np.broadcast_to(np.array([0.8, 0.5, 0.7], np.float32)[:, None, None], (3, 8, 8))
    means = [augment(RandStaind, tissue, seed, scale=0.5, shift=0.0).mean().item() for seed in range(40)]
    assert min(means) < tissue.mean() < max(means)


def test_glass_without_stain_stays_white(image):
    white = np.ones((3, 4, 4), np.float32)
    np.testing.assert_allclose(augment(RandStaind, white, shift=0.0), white, atol=1e-4)


def test_the_green_of_a_silver_stain_stays_green():
    green = np.broadcast_to(np.array([0.55, 0.75, 0.6], np.float32)[:, None, None], (3, 4, 4))
    for seed in range(20):
        changed = np.asarray(augment(RandStaind, green, seed, shift=0.0)).mean((1, 2))
        assert changed.argmax() == 1
        np.testing.assert_allclose(changed, green[:, 0, 0], atol=0.15)
