"""Networks wrapped for inference: test-time augmentation turns with the tile, a temperature only changes how sure."""

import pytest
import torch
from torch import nn

from bundle.errors import ConfigError
from bundle.stream import DihedralMean, TemperatureScaled
from bundle.stream.prediction import class_probabilities


def network(channels: int) -> nn.Module:
    """A convolution that sees left and right, up and down, very differently."""
    torch.manual_seed(1)
    return nn.Conv2d(3, channels, 5, padding=2, padding_mode="reflect").eval()


@pytest.fixture
def tiles() -> torch.Tensor:
    return torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("flipped", [False, True])
def test_the_augmented_network_turns_and_flips_with_the_tile(tiles, channels, turns, flipped):
    def moved(image: torch.Tensor) -> torch.Tensor:
        return torch.rot90(image.flip(2) if flipped else image, turns, (2, 3))

    plain, augmented = network(channels), DihedralMean(network(channels))
    with torch.no_grad():
        torch.testing.assert_close(augmented(moved(tiles)), moved(augmented(tiles)), atol=1e-5, rtol=1e-5)
        if turns or flipped:
            assert (plain(moved(tiles)) - moved(plain(tiles))).abs().max() > 0.1


@pytest.mark.parametrize("channels", [1, 4])
def test_its_logits_are_those_of_the_mean_probability_of_eight_views(tiles, channels):
    plain = network(channels)
    views = [(lambda x, k=k: torch.rot90(x, k, (2, 3)), lambda x, k=k: torch.rot90(x, 4 - k, (2, 3))) for k in range(4)]
    views += [(lambda x, f=f: f(x).flip(2), lambda x, b=b: b(x.flip(2))) for f, b in views]
    with torch.no_grad():
        expected = sum(back(class_probabilities(plain(there(tiles)))) for there, back in views) / 8
        found = class_probabilities(DihedralMean(plain)(tiles))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(1), torch.ones(2, 12, 20))


def test_a_certain_network_stays_finite(tiles):
    class Certain(nn.Module):
        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            return torch.tensor([500.0, -500.0]).view(1, 2, 1, 1).expand(len(tiles), 2, *tiles.shape[2:])

    logits = DihedralMean(Certain())(tiles)
    assert logits.isfinite().all()
    assert (logits[:, 0] == 0).all()


def test_switched_off_both_give_the_network_s_own_logits(tiles):
    plain = network(4)
    assert torch.equal(TemperatureScaled(DihedralMean(plain, enabled=False), 1.0)(tiles), plain(tiles))


def test_a_temperature_divides_logits_and_changes_no_most_probable_class(tiles):
    plain = network(4)
    cooled = TemperatureScaled(plain, 2.5)(tiles)
    torch.testing.assert_close(cooled * 2.5, plain(tiles))
    assert torch.equal(cooled.argmax(1), plain(tiles).argmax(1))
    assert (cooled.softmax(1).amax(1) < plain(tiles).softmax(1).amax(1)).all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_is_above_zero(temperature):
    with pytest.raises(ConfigError, match="above 0"):
        TemperatureScaled(network(4), temperature)
