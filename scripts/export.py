"""Export the network for other programs: TorchScript, ONNX, OpenVINO, FastPathology and QuPath.

Examples:
    python scripts/export.py --output_dir exports
    python scripts/export.py --output_dir exports --formats onnx openvino --checkpoint runs/mine/model.pt
    python scripts/export.py --config configs/inference.yaml configs/networks/unet3plus.yaml --checkpoint unet3plus.pt

Every export takes RGB tiles (B, 3, h, w) in 0 to 1 at the model's resolution; `torchscript`, `onnx` and `openvino` give
logits (B, 4, h, w), `fastpathology` and `qupath` probabilities, as those programs expect. See docs/export.md.
"""

import argparse
import copy
import hashlib
import math
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from export_texts import MODEL_NAME, PROBABILITIES, bioimage_description, pipeline_text
from monai.bundle import ConfigParser
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from bundle.atomic import atomic_path
from bundle.backends.export import OUTPUT, detached, is_installed, to_onnx
from bundle.backends.runners import import_openvino
from bundle.classes import NUM_CLASSES
from bundle.errors import BackendError, BundleError, ConfigError
from bundle.grid import PhysicalTiles
from bundle.weights import load_weights

ROOT = Path(__file__).parents[1]
POOL_PX = 4


class PooledNorm(nn.Module):
    """An instance norm whose mean and variance are means of means of `POOL_PX` x `POOL_PX` pixels.

    OpenVINO and ONNX Runtime sum a whole map in float32, and so lose digits. Measured on the trained BasicUNet, largest
    difference of logits that spread over 25: the exporter's own form 9.3e-4 (OpenVINO) and 2.3e-4 (ONNX Runtime), this
    one 1.8e-5 and 3.4e-5, as far as torch is from float64 (2.0e-5). Nor is it the pattern that OpenVINO joins again.
    """

    def __init__(self, norm: nn.InstanceNorm2d) -> None:
        super().__init__()
        # Not the norm itself: it would be a child, and to_onnx gives each norm that it finds its own form.
        self.eps, self.weight, self.bias = norm.eps, norm.weight, norm.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize (B, C, h, w) over h and w."""
        x = x - _mean(x)
        x = x * torch.rsqrt(_mean(x * x) + self.eps)
        return x if self.weight is None else x * self.weight[:, None, None] + self.bias[:, None, None]


def _mean(x: torch.Tensor) -> torch.Tensor:
    while max(x.shape[-2:]) > 1:
        sides = [math.gcd(POOL_PX, length) for length in x.shape[-2:]]
        # A length that has no such factor is taken whole.
        x = functional.avg_pool2d(x, [s if s > 1 else n for s, n in zip(sides, x.shape[-2:], strict=True)])
    return x


def with_pooled_norms(module: nn.Module) -> nn.Module:
    """The same module with a `PooledNorm` for each instance norm without running statistics."""
    if isinstance(module, nn.InstanceNorm2d) and not module.track_running_stats:
        return PooledNorm(module)
    for name, child in module.named_children():
        setattr(module, name, with_pooled_norms(child))
    return module


class Probabilities(nn.Module):
    """A network followed by softmax over its channels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Probabilities (B, 4, h, w) of tiles (B, 3, h, w)."""
        return torch.softmax(self.network(x), 1)


class Export:
    """The network of an inference config and the formats that it can be written in; each method writes one.

    Raises:
        ConfigError: a config is missing, or of other tiles or classes than the exports take.
        WeightsError: the weights cannot be loaded.
        BackendError: the network, or what a format needs that is not installed, does not let it be exported.
        OutputError: a file cannot be written.
    """

    def __init__(self, configs: Sequence[Path], checkpoint: Path, folder: Path) -> None:
        parser = ConfigParser(_load_configs(configs))
        network = parser.get_parsed_content("network_def")
        load_weights(network, checkpoint)
        self.network = detached(network)
        tiles = parser.get_parsed_content("tiles")
        if not isinstance(tiles, PhysicalTiles) or parser.get("network_def")["out_channels"] != NUM_CLASSES:
            raise ConfigError(
                f"{configs[-1]}: exports need tiles in um and {NUM_CLASSES} channels, as inference.yaml has"
            )
        self.mpp = tiles.mpp
        self.tile_px = tiles.tile_px
        self.overlap = tiles.overlap_um / tiles.tile_um
        self.folder = folder

    def torchscript(self) -> None:
        """model.ts, of any tile size; `monai.bundle ckpt_export` writes the same with metadata."""
        self._script(self.network, self.folder / "model.ts")

    def onnx(self) -> None:
        """model.onnx: "image" in, "logits" out, any number of tiles of the config's size."""
        _write(self.folder / "model.onnx", self._onnx)

    def openvino(self) -> None:
        """openvino/model.xml and .bin, float32."""
        if not is_installed("openvino"):
            raise BackendError("openvino is not installed; pip install openvino onnx onnxscript")
        openvino = import_openvino()
        model = openvino.Core().read_model(self._onnx)
        with atomic_path(self.folder / "openvino" / "model.bin") as weights:
            # OpenVINO writes the pair NAME.xml and NAME.bin.
            openvino.save_model(model, weights.with_suffix(".xml"), compress_to_fp16=False)
            text = weights.with_suffix(".xml").read_bytes()
            weights.with_suffix(".xml").unlink()
        _write(self.folder / "openvino" / "model.xml", text)

    def fastpathology(self) -> None:
        """A FAST text pipeline and its model, laid out as FastPathology's own folders pipelines/ and models/."""
        folder = self.folder / "fastpathology"
        _write(folder / "models" / f"{MODEL_NAME}.onnx", self._onnx_probabilities())
        _write(folder / "pipelines" / f"{MODEL_NAME}.fpl", pipeline_text(self.mpp, self.tile_px, self.overlap).encode())

    def qupath(self) -> None:
        """A bioimage.io model: rdf.yaml, TorchScript, a test tile, for QuPath's Bioimage Model Zoo extension."""
        folder = self.folder / "qupath"
        network = Probabilities(self.network)
        self._script(network, folder / "model.ts")
        # The pattern is of no use as tissue, but has every grey value and all scales.
        ramp = np.add.outer(np.arange(self.tile_px) ** 2, np.arange(self.tile_px) * 3) % 256
        tile = np.stack([ramp, ramp.T, 255 - ramp])[None].astype(np.float32)
        with torch.inference_mode():
            answer = network(torch.from_numpy(tile) / 255).numpy()
        for name, array in (("test_input.npy", tile), ("test_output.npy", answer)):
            with atomic_path(folder / name) as temporary, open(temporary, "wb") as file:
                np.save(file, array, allow_pickle=False)
        with atomic_path(folder / "README.md") as temporary:
            shutil.copy(ROOT / "docs" / "README.md", temporary)
        digest = hashlib.sha256((folder / "model.ts").read_bytes()).hexdigest()
        description = bioimage_description(self.tile_px, digest)
        _write(folder / "rdf.yaml", yaml.safe_dump(description, sort_keys=False).encode())

    @cached_property
    def _onnx(self) -> bytes:
        # The norms are replaced in a copy, which the other formats do not see.
        network = with_pooled_norms(copy.deepcopy(self.network))
        return to_onnx(network, (3, self.tile_px, self.tile_px), torch.device("cpu"))

    def _onnx_probabilities(self) -> bytes:
        content = self._onnx
        import onnx

        model = onnx.load_from_string(content)
        model.graph.node.append(onnx.helper.make_node("Softmax", [OUTPUT], [PROBABILITIES], axis=1))
        model.graph.output[0].name = PROBABILITIES
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())

    def _script(self, network: nn.Module, path: Path) -> None:
        try:
            module = torch.jit.script(network)
        except RuntimeError:  # SwinUNETR, for one, only traces
            module = torch.jit.trace(network, torch.zeros(1, 3, self.tile_px, self.tile_px), check_trace=False)
        with atomic_path(path) as temporary:
            torch.jit.save(module, str(temporary))


def _load_configs(configs: Sequence[Path]) -> dict[str, Any]:
    for path in configs:
        if not path.is_file():
            raise ConfigError(f"{path}: no such config file; check the path")
    return dict(ConfigParser.load_config_files([str(path) for path in configs]))


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


FORMATS: dict[str, Callable[[Export], None]] = {
    "torchscript": Export.torchscript,
    "onnx": Export.onnx,
    "openvino": Export.openvino,
    "fastpathology": Export.fastpathology,
    "qupath": Export.qupath,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of the exports")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS), help="default all")
    parser.add_argument("--config", type=Path, nargs="+", default=[ROOT / "configs" / "inference.yaml"])
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "models" / "model.pt", help="weights of the network")
    options = parser.parse_args(arguments)
    try:
        export = Export(options.config, options.checkpoint, options.output_dir)
        for name in tqdm(options.formats, desc="exports"):
            FORMATS[name](export)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"written: {options.output_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
