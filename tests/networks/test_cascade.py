"""A cheap network proposes, a costly one decides."""

import json
import logging

import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import nn

from bundle.errors import ConfigError, WeightsError
from bundle.networks import Cascade
from tests.cohort import INFERENCE, ROOT, TINY_NETWORK, workflow, write_cohort


class RedProposer(nn.Module):
    """Probability of a glomerulus = the red channel; one channel of logits."""

    def forward(self, tiles):
        return tiles[:, :1].logit(eps=1e-6)


class Decider(nn.Module):
    """Every pixel is global sclerosis; counts the tiles it saw."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, tiles):
        self.seen += len(tiles)
        return torch.tensor([0.0, 0.0, 0.0, 9.0])[:, None, None].expand(len(tiles), 4, *tiles.shape[2:])


@pytest.fixture
def tiles():
    """Four tiles: blank, a faint spot, too small a spot, all red."""
    found = torch.zeros(4, 3, 32, 32)
    found[1, 0, 4:9, 4:9] = 0.2
    found[2, 0, 0, :3] = 1.0
    found[3, 0] = 1.0
    return found


def test_the_decider_sees_the_tiles_that_may_hold_a_glomerulus_and_no_other(tiles, caplog):
    cascade = Cascade(RedProposer(), Decider(), threshold=0.1, least_px=20)
    logits = cascade(tiles)
    assert cascade.decider.seen == cascade.tiles_passed == 2
    assert logits.argmax(1).unique(dim=0).shape[0] == 2
    assert [set(tile.unique().tolist()) for tile in logits.argmax(1)] == [{0}, {3}, {0}, {3}]
    assert logits.softmax(1)[0, 1:].sum(0).max() < 1e-6
    with caplog.at_level(logging.INFO, logger="bundle.networks.cascade"):
        cascade.report()
    assert "2 of 4 tiles passed (50.0 %)" in caplog.text


def test_a_threshold_of_0_is_the_decider_alone(tiles):
    cascade = Cascade(RedProposer(), Decider(), threshold=0.0)
    assert torch.equal(cascade(tiles), Decider()(tiles))


def test_the_proposer_sees_tiles_at_its_own_resolution(tiles):
    class Sized(RedProposer):
        def forward(self, tiles):
            assert tiles.shape[2:] == (8, 8)
            return super().forward(tiles)

    # The faint spot of 5 x 5 pixels is 1 or 2 pixels wide now.
    cascade = Cascade(Sized(), Decider(), threshold=0.05, least_px=1, proposer_downsample=4.0)
    logits = cascade(tiles)
    assert logits.shape == (4, 4, 32, 32)
    assert [int(tile.max()) for tile in logits.argmax(1)][0::3] == [0, 3]
    assert int(logits[1].argmax(0).max()) == 3


def test_blank_tiles_never_wake_the_decider(tiles):
    cascade = Cascade(RedProposer(), Decider())
    assert cascade(tiles[:1]).argmax(1).max() == 0
    assert cascade.decider.seen == 0


@pytest.mark.parametrize(
    "wrong", [{"threshold": -0.1}, {"threshold": 1.5}, {"least_px": 0}, {"proposer_downsample": 0.5}]
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match="cascade"):
        Cascade(RedProposer(), Decider(), **wrong)


def test_missing_weights_of_the_proposer_are_an_error(tmp_path):
    with pytest.raises(WeightsError, match="no such weight file"):
        Cascade(RedProposer(), Decider(), proposer_weights=tmp_path / "nothing.pt")


def test_the_config_segments_a_slide_and_a_proposer_that_passes_all_changes_nothing(tmp_path):
    torch.manual_seed(0)
    network = BasicUNet(spatial_dims=2, in_channels=3, out_channels=4, features=TINY_NETWORK)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    write_cohort(tmp_path / "slides", {"test": [("a", "PAS")]})
    options = {"slide": str(tmp_path / "slides" / "test_0.tif"), "checkpoint": str(tmp_path / "model.pt")}
    for name, files, more in (
        ("alone", [INFERENCE], {}),
        (
            "cascade",
            [INFERENCE, ROOT / "configs" / "cascade.yaml"],
            {
                "proposer_def__features": TINY_NETWORK,
                "proposer_checkpoint": str(tmp_path / "model.pt"),
                "cascade_threshold": 0.0,
            },
        ),
    ):
        with workflow(*files, kind="inference", output_dir=str(tmp_path / name), **options, **more) as inference:
            inference.run()
            inference.finalize()
    alone, cascade = (json.loads((tmp_path / name / "glomeruli.geojson").read_text()) for name in ("alone", "cascade"))
    assert alone == cascade
