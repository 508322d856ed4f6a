"""UNet 3+ is the network of the paper, at any depth, and leaves Python as TorchScript and ONNX."""

import pytest
import torch

from bundle.networks import UNet3Plus

SMALL = {"in_channels": 3, "out_channels": 4, "skip_channels": 4}


def millions(network: torch.nn.Module) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6


def test_it_has_as_many_parameters_as_the_paper_says() -> None:
    # Huang et al. 2020, table 1: 26.97 M without deep supervision, 26.99 M with; one channel in and out.
    assert millions(UNet3Plus(1, 1)) == pytest.approx(26.97, abs=0.005)
    assert millions(UNet3Plus(1, 1, deep_supervision=True)) == pytest.approx(26.99, abs=0.005)


def test_each_decoder_stage_joins_every_scale() -> None:
    network = UNet3Plus(1, 1)
    for stage in network.decoder:
        assert [branch[1].conv.out_channels for branch in stage.branches] == [64] * 5
        assert stage.fuse.conv.in_channels == stage.fuse.conv.out_channels == 320
    inputs = [[branch[1].conv.in_channels for branch in stage.branches] for stage in network.decoder]
    assert inputs == [
        [64, 128, 256, 512, 1024],
        [64, 128, 256, 320, 1024],
        [64, 128, 320, 320, 1024],
        [64, 320, 320, 320, 1024],
    ]


@pytest.mark.parametrize("features", [(4, 8), (4, 8, 16), (4, 8, 16, 24, 32, 40)])
def test_it_gives_logits_of_the_image_s_size_at_any_depth(features: tuple[int, ...]) -> None:
    network = UNet3Plus(features=features, **SMALL).eval()
    side = 2 ** (len(features) - 1)
    with torch.inference_mode():
        assert network(torch.rand(2, 3, 2 * side, 3 * side)).shape == (2, 4, 2 * side, 3 * side)


def test_deep_supervision_gives_every_stage_while_training_alone() -> None:
    network = UNet3Plus(features=(4, 8, 16), deep_supervision=True, **SMALL)
    image = torch.rand(2, 3, 16, 24)
    logits = network(image)
    assert logits.shape == (2, 3, 4, 16, 24)
    logits[:, 2].sum().backward()
    assert network.heads[2].weight.grad.abs().sum() > 0
    assert network.heads[0].weight.grad.abs().sum() == 0
    assert network.eval()(image).shape == (2, 4, 16, 24)


def test_classification_guidance_silences_an_image_without_objects() -> None:
    network = UNet3Plus(features=(4, 8, 16), classification_guided=True, **SMALL).eval()
    image = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        network.guide[1].bias.fill_(-50.0)
        assert network(image).abs().max() < 1e-12
        network.guide[1].bias.fill_(50.0)
        guided = network(image)
        network.guide = torch.nn.Sequential()
        torch.testing.assert_close(guided, network(image))


@pytest.mark.parametrize("options", [{}, {"deep_supervision": True, "classification_guided": True}])
def test_torchscript_gives_the_same_bits(options: dict[str, bool], tmp_path) -> None:
    network = UNet3Plus(features=(4, 8, 16), **SMALL, **options).eval()
    path = str(tmp_path / "network.ts")
    torch.jit.script(network).save(path)
    image = torch.rand(2, 3, 16, 32)
    with torch.inference_mode():
        assert torch.equal(torch.jit.load(path)(image), network(image))
