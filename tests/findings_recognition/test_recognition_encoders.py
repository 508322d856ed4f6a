"""Encoders: what of a crop counts, and what a network's layers give."""

import numpy as np
import pytest
import torch
from torch import nn

from bundle.errors import ConfigError, WeightsError
from bundle.findings.encoders import ColourTextureEncoder, NetworkEncoder


class Pyramid(nn.Module):
    """Red and the sum of the channels at half the size, blue at a quarter; a decoder that must not run."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 2, 2, stride=2, bias=False)
        self.second = nn.Conv2d(3, 1, 4, stride=4, bias=False)
        self.decoder = nn.Dropout(0.5)
        first, second = torch.zeros(2, 3, 2, 2), torch.zeros(1, 3, 4, 4)
        first[0, 0], first[1], second[0, 2] = 0.25, 0.25, 1 / 16
        self.first.weight, self.second.weight = nn.Parameter(first), nn.Parameter(second)

    def forward(self, x):
        self.first(x)
        self.second(x)
        raise AssertionError("the decoder ran")


def scaled(image):
    return image / 255


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)


@pytest.fixture
def masks():
    found = np.zeros((2, 16, 16), bool)
    found[:, 4:12, 4:12] = True
    return found


def test_layers_are_pooled_over_the_glomerulus(images, masks):
    found = NetworkEncoder(Pyramid(), None, ["first", "second"], 16, scaled)(images, masks)
    inside = images[:, 4:12, 4:12].reshape(2, 4, 2, 4, 2, 3).mean((2, 4)) / 255
    red, total = inside[..., 0].reshape(2, -1), inside.sum(-1).reshape(2, -1)
    blue = images[:, 4:12, 4:12, 2].reshape(2, 2, 4, 2, 4).mean((2, 4)).reshape(2, -1) / 255
    expected = [red.mean(1), total.mean(1), red.std(1), total.std(1), blue.mean(1), blue.std(1)]
    np.testing.assert_allclose(found, np.stack(expected, 1), rtol=1e-4, atol=1e-5)


def test_without_deviations_there_are_means_alone(images, masks):
    both = NetworkEncoder(Pyramid(), None, ["first"], 16, scaled)(images, masks)
    means = NetworkEncoder(Pyramid(), None, ["first"], 16, scaled, deviations=False)(images, masks)
    np.testing.assert_array_equal(means, both[:, :2])


def test_a_crop_without_mask_counts_as_a_whole(images, masks):
    encoder = NetworkEncoder(Pyramid(), None, ["first"], 16, scaled)
    np.testing.assert_allclose(encoder(images, np.zeros_like(masks)), encoder(images, np.ones_like(masks)), rtol=1e-6)


@pytest.mark.parametrize("encoder", [ColourTextureEncoder(16), NetworkEncoder(Pyramid(), None, ["first"], 16, scaled)])
def test_what_lies_around_the_glomerulus_is_no_feature(images, masks, encoder):
    painted = np.where(masks[..., None], images, 7).astype(np.uint8)
    np.testing.assert_allclose(encoder(painted, masks), encoder(images, masks), rtol=1e-5)


def test_crops_of_any_size_are_seen_at_the_encoder_s(images, masks):
    large, large_masks = (np.kron(a, np.ones((1, 2, 2, 1)[: a.ndim], a.dtype)) for a in (images, masks))
    encoder = NetworkEncoder(Pyramid(), None, ["first"], 8, scaled)
    np.testing.assert_allclose(encoder(large, large_masks), encoder(images, masks), rtol=0.1, atol=0.05)


def test_an_unknown_layer_is_an_error_that_names_the_known_ones():
    with pytest.raises(ConfigError, match="no layer 'third'; it has first, second, decoder"):
        NetworkEncoder(Pyramid(), None, ["third"], 16, scaled)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="another network"):
        NetworkEncoder(Pyramid(), tmp_path / "model.pt", ["first"], 16, scaled)


def test_the_description_tells_weights_and_settings_apart(tmp_path):
    torch.save(Pyramid().state_dict(), tmp_path / "model.pt")
    first = NetworkEncoder(Pyramid(), tmp_path / "model.pt", ["first"], 16, scaled).describe()
    assert first == NetworkEncoder(Pyramid(), tmp_path / "model.pt", ["first"], 16, scaled).describe()
    assert first != NetworkEncoder(Pyramid(), tmp_path / "model.pt", ["first"], 8, scaled).describe()
    assert first != NetworkEncoder(Pyramid(), None, ["first"], 16, scaled).describe()
