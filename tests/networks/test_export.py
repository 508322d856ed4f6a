"""Every network leaves Python as ONNX, for batches of any size, and says there what it says in torch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from monai.networks.nets import BasicUNet, SwinUNETR

from bundle.networks import UNet3Plus
from tests.cohort import INFERENCE, ROOT, command, finish, start

SMALL_UNET3PLUS = {"in_channels": 3, "out_channels": 4, "features": [4, 8, 16], "skip_channels": 4}

NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    "basic_unet": lambda: BasicUNet(spatial_dims=2, in_channels=3, out_channels=4, features=[8] * 6),
    # Two layers in the first stage, for windows are shifted in every other layer only.
    "swin_unetr": lambda: SwinUNETR(
        spatial_dims=2, in_channels=3, out_channels=4, feature_size=12, depths=(2, 1, 1, 1)
    ),
    "unet3plus": lambda: UNet3Plus(**SMALL_UNET3PLUS),
    "unet3plus as trained with both of the paper's extras": lambda: UNet3Plus(
        **SMALL_UNET3PLUS, deep_supervision=True, classification_guided=True
    ),
}


def largest_difference(path: Path, network: torch.nn.Module, batch_size: int) -> float:
    """Of ONNX Runtime's logits from torch's, as a part of the largest logit."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    image = torch.rand(batch_size, 3, 64, 64)
    with torch.inference_mode():
        expected = network(image).numpy()
    (found,) = session.run(["logits"], {"image": image.numpy()})
    assert found.shape == expected.shape == (batch_size, 4, 64, 64)
    return np.abs(found - expected).max() / np.abs(expected).max()


def lively(network: torch.nn.Module) -> torch.nn.Module:
    """The network in evaluation mode, its batch norms far from the identity that they begin as."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.eval()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning")  # torch's exporter
@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_gives_the_logits_of_torch_for_any_batch(name, tmp_path):
    # Measured: 1.0e-6 for BasicUNet, 8.4e-7 for SwinUNETR, 5.7e-7 for UNet 3+.
    torch.manual_seed(0)
    network = lively(NETWORKS[name]())
    axes = ({0: "batch"},)
    path = tmp_path / "network.onnx"
    names = {"input_names": ["image"], "output_names": ["logits"]}
    torch.onnx.export(network, (torch.rand(2, 3, 64, 64),), path, dynamo=True, dynamic_shapes=axes, **names)
    for batch_size in (1, 3):
        assert largest_difference(path, network, batch_size) < 1e-5


@pytest.mark.slow
def test_monai_s_command_exports_onnx_for_any_batch(tmp_path):
    torch.manual_seed(0)
    network = lively(UNet3Plus(**SMALL_UNET3PLUS))
    torch.save(network.state_dict(), tmp_path / "model.pt")
    files = {"ckpt_file": tmp_path / "model.pt", "filepath": tmp_path / "network.onnx"}
    axes = {"input_names": ["image"], "output_names": ["logits"], "dynamic_axes": {"image": {0: "batch"}}}
    shape = {"network_def__features": [4, 8, 16], "network_def__skip_channels": 4, "input_shape": [2, 3, 64, 64]}
    line = command(INFERENCE, ROOT / "configs/networks/unet3plus.yaml", **files, **shape, converter_kwargs=axes)
    line[line.index("run")] = "onnx_export"
    line.insert(line.index("onnx_export") + 1, "network_def")
    status, _, errors = finish(start(line))
    assert status == 0, errors
    assert largest_difference(tmp_path / "network.onnx", network, 3) < 1e-5
