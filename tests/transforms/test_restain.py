"""Stains made to look like others: structures stay where they are, colours change, glass stays glass."""

import numpy as np
import pytest
import torch
from skimage.color import rgb_from_hpx

from bundle.transforms import RandRestaind
from bundle.transforms.restain import LOOKS

SIDE = 96


def tissue(seed=0):
    """PAS by Beer and Lambert: nuclei in a row of dots, cytoplasm in stripes, membranes between; a glass corner."""
    random = np.random.default_rng(seed)
    nuclei = (random.random((SIDE, SIDE)) < 0.15).astype(float)
    rest = 0.2 + 0.6 * (np.arange(SIDE) % 12 < 3)[None].repeat(SIDE, 0)
    amounts = np.stack([nuclei, rest * (1 - nuclei)])
    amounts[:, :24, :24] = 0
    rgb = 10 ** -np.einsum("shw,sc->chw", amounts, rgb_from_hpx[:2])
    label = np.zeros((1, SIDE, SIDE), np.uint8)
    label[0, 50:80, 50:80] = 1
    return {"image": torch.tensor(rgb, dtype=torch.float32), "label": torch.tensor(label), "stain": "PAS"}


def restain(sample, seed=0, **options):
    transform = RandRestaind(["image", "label"], **{"prob": 1.0, "contrast": 0.0, **options})
    transform.set_random_state(seed)
    return transform(sample)


@pytest.mark.parametrize("look", LOOKS)
def test_each_look_gives_an_image_of_the_same_shape_with_bright_glass(look):
    found = restain(tissue(), looks=[look], glass=0.9)["image"]
    assert found.shape == (3, SIDE, SIDE)
    assert found.dtype == torch.float32
    assert 0 <= float(found.min()) < 0.8
    assert float(found[:, 2:20, 2:20].min()) > 0.8


def test_the_label_is_not_touched():
    sample = tissue()
    assert torch.equal(restain(sample)["label"], sample["label"])


def test_silver_turns_membranes_black_and_leaves_them_darker_than_cytoplasm():
    for seed in range(10):
        found = restain(tissue(), seed, looks=["PAMS"])["image"][:, 24:].mean(0)
        brightness = torch.stack([found[:, column::12].mean() for column in range(12)])
        assert brightness[:3].max() < brightness[3:].min() * 0.7


def test_sirius_red_is_no_longer_purple():
    red, green, blue = restain(tissue(), looks=["Sirius red"], glass=1.0)["image"][:, 24:].mean((1, 2))
    assert red > blue
    assert red > green


def test_draws_differ_and_repeat_with_their_seed():
    first, again, other = (restain(tissue(), seed)["image"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.02)


def test_contrast_changes_glomeruli_and_places_without_one_alike():
    # The draws before the places are the same: with and without contrast only the places differ.
    inside, outside = [], []
    for seed in range(20):
        transform = RandRestaind(["image", "label"], prob=1.0, contrast=0.5)
        transform.set_random_state(seed)
        places = transform._places(tissue()["label"].numpy()[0])
        inside.append(places[55:75, 55:75].mean())
        places[45:85, 45:85] = 0
        outside.append(places.sum() > 20)
    assert min(inside) > 0.95
    assert np.mean(outside) > 0.7


def test_a_stain_that_cannot_be_unmixed_stays_as_it_is():
    sample = tissue() | {"stain": "PAMS"}
    assert torch.equal(restain(sample)["image"], sample["image"])


def test_an_empty_tile_stays_empty():
    blank = tissue() | {"image": torch.full((3, SIDE, SIDE), 0.95)}
    found = restain(blank, glass=1.0)["image"]
    assert float(found.min()) > 0.85
