"""scripts/shift_logits.py: the network's logits move by what was asked, and nothing else changes."""

import sys

import pytest
import torch
from monai.networks.nets import BasicUNet

from scripts.shift_logits import main
from tests.cohort import ROOT


def network():
    return BasicUNet(2, 3, 4, features=[8, 8, 8, 8, 8, 8]).eval()


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["shift_logits.py", *map(str, arguments)])
    return main()


def test_each_class_s_logit_moves_by_its_number(monkeypatch, tmp_path):
    torch.manual_seed(0)
    before, after = network(), network()
    torch.save(before.state_dict(), tmp_path / "a.pt")
    assert run(monkeypatch, tmp_path / "a.pt", tmp_path / "b.pt", "--shift", 0, 0.5, -2, 1) == 0
    after.load_state_dict(torch.load(tmp_path / "b.pt", weights_only=True))
    image = torch.rand(1, 3, 32, 32)
    moved = (after(image) - before(image)).mean((0, 2, 3))
    torch.testing.assert_close(moved, torch.tensor([0, 0.5, -2, 1]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--shift", "1"], "has 4 classes, --shift 1"), (["--shift", "1", "--bias", "last"], "has no last")],
)
def test_what_does_not_fit_is_one_error(monkeypatch, capsys, tmp_path, options, message):
    assert run(monkeypatch, ROOT / "models" / "model.pt", tmp_path / "b.pt", *options) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "b.pt").exists()
