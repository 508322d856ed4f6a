"""Features of tiles: what counts, and what a network's layer gives."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import nn

from bundle.errors import ConfigError
from bundle.geometry import Rect
from bundle.prompts.cutting import PromptTile
from bundle.prompts.features import ColourTexture, EncoderFeatures, tile_features


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8)


@pytest.fixture
def known():
    mask = np.zeros((32, 32), bool)
    mask[8:24, 8:24] = True
    return mask


def repainted(image, known):
    return np.where(known, image, 0).astype(np.uint8)


def scaled(image):
    return image / 255


def test_colour_is_the_mean_and_spread_of_lab_over_known_pixels(image, known):
    lab = rgb2lab(image.transpose(1, 2, 0))[8:24, 8:24].reshape(-1, 3)
    found = ColourTexture()(image, known)
    np.testing.assert_allclose(found[:6], [*lab.mean(0), *lab.std(0)])


def test_padding_is_no_feature(image, known):
    np.testing.assert_array_equal(ColourTexture()(image, known), ColourTexture()(repainted(image, known), known))


def test_fine_texture_is_told_from_coarse(known):
    fine = np.indices((32, 32)).sum(0) % 2 * 255
    coarse = (np.indices((32, 32)) // 8).sum(0) % 2 * 255
    fine, coarse = (ColourTexture()(np.stack([i] * 3).astype(np.uint8), known)[6:] for i in (fine, coarse))
    assert fine[0] > fine[2]
    assert coarse[2] > fine[2]


class Pyramid(nn.Module):
    """Red and the sum of the channels, at half the size."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv2d(3, 2, 2, stride=2, bias=False)
        self.drop = nn.Dropout(0.9)
        self.pair = nn.Identity()
        weight = torch.zeros(2, 3, 2, 2)
        weight[0, 0], weight[1] = 0.25, 0.25
        self.encoder.weight = nn.Parameter(weight)

    def forward(self, x):
        return self.pair((self.drop(self.encoder(x)), x))[0]


def test_a_layers_map_is_averaged_over_the_known_pixels(image, known):
    found = EncoderFeatures(Pyramid(), "encoder", scaled)(image, known)
    inside = image[:, 8:24, 8:24] / 255
    np.testing.assert_allclose(found, [inside[0].mean(), inside.sum(0).mean()], rtol=1e-5)


def test_known_pixels_count_by_their_share_of_a_map_pixel(image):
    odd = np.zeros((32, 32), bool)
    odd[:, :3] = True  # one map pixel and a half
    found = EncoderFeatures(Pyramid(), "encoder", scaled)(image, odd)
    red = image[0, :, :4].reshape(16, 2, 2, 2).mean((1, 3)) / 255
    np.testing.assert_allclose(found[0], (red * [2 / 3, 1 / 3]).sum(1).mean(), rtol=1e-5)


def test_features_do_not_depend_on_dropout(image, known):
    features = EncoderFeatures(Pyramid().train(), "drop", scaled)
    np.testing.assert_array_equal(features(image, known), features(image, known))


@pytest.mark.parametrize(
    ("layer", "message"), [("down_9", "has no layer 'down_9'; it has encoder"), ("pair", "gives no feature map")]
)
def test_a_layer_that_gives_no_map_is_named(image, known, layer, message):
    with pytest.raises(ConfigError, match=message):
        EncoderFeatures(Pyramid(), layer, scaled)(image, known)


def test_every_tile_has_a_row(image, known):
    label = np.where(known, 1, 255).astype(np.uint8)
    tiles = [
        PromptTile(i, label, Rect(0, 0, 32, 32), 1.0, 1, "", 1.0) for i in (image, repainted(image, known), ~image)
    ]
    rows = tile_features(iter(tiles), ColourTexture())
    assert rows.shape == (3, 9)
    np.testing.assert_array_equal(rows[0], rows[1])
    assert not np.allclose(rows[0], rows[2])
