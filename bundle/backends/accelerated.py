"""The network that a slide inferer calls: exported on first use, checked against torch, kept for the next run."""

import logging
from collections.abc import Hashable
from pathlib import Path

import torch
from torch import nn

from bundle.backends.cache import ExportCache, export_key
from bundle.backends.export import detached, is_installed, to_onnx
from bundle.backends.runners import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    TENSORRT_PROVIDER,
    OnnxRunner,
    OpenVinoRunner,
    Runner,
    TorchRunner,
    tensorrt_options,
)
from bundle.errors import BackendError, ConfigError

logger = logging.getLogger(__name__)

FASTEST = {"cpu": ("openvino", "onnxruntime")}
"""By device, what `auto` takes if it is installed, the fastest first; then torch."""
PRECISIONS = {
    "torch": ("float32", "bfloat16", "float16"),
    "openvino": ("float32", "bfloat16"),
    "onnxruntime": ("float32",),
    "tensorrt": ("float32", "bfloat16", "float16"),
}
PACKAGE = {"openvino": "openvino", "onnxruntime": "onnxruntime", "tensorrt": "onnxruntime"}
DEVICES = {"openvino": ("cpu",), "onnxruntime": ("cpu", "cuda"), "tensorrt": ("cuda",)}
TOLERANCE = {"float32": 1e-2, "bfloat16": 1e-1, "float16": 1e-1}
ROUNDING = 1e-4
"""Difference of logits that is let pass however small their spread."""
SHAPES_KEPT = 4


class Accelerated(nn.Module):
    """A network that runs by the fastest backend; in training mode it is the network itself.

    Its submodule is the network, so weights may be loaded into that at any time: the first call after it exports the
    network anew, or finds the export in the cache. In evaluation mode only torch gives gradients.

    Args:
        network: maps float tiles (B, 3, h, w) in 0..1 to logits (B, C, h, w). With an attribute `exportable = False`,
            its own or of a part, it always runs in torch.
        backend: "auto", "torch", "openvino", "onnxruntime" or "tensorrt". "auto" is the fastest that is installed, and
            torch where the network cannot be exported or the backend errs.
        device: where tiles come from and torch runs.
        precision: "float32", "bfloat16" or "float16"; see docs/backends.md for what each backend has.
        threads: of the backend; all cores by default.
        cache_dir: folder of exported networks; the user's cache folder by default.
        tolerance: largest difference from torch's logits, as a part of their spread; 0.01 in float32, else 0.1.

    Raises:
        ConfigError: an argument has no meaning, or two do not fit together.
    """

    def __init__(
        self,
        network: nn.Module,
        backend: str = "auto",
        device: torch.device | str = "cpu",
        precision: str = "float32",
        threads: int | None = None,
        cache_dir: Path | str | None = None,
        tolerance: float | None = None,
    ) -> None:
        super().__init__()
        self.device = torch.device(device)
        self.network = network
        self.backend = backend
        self.precision = precision
        self.threads = threads
        self.cache = ExportCache(cache_dir)
        _check_arguments(backend, precision, self.device)
        self.tolerance = TOLERANCE[precision] if tolerance is None else tolerance
        self._state: Hashable = None
        self._runners: dict[tuple[int, ...], Runner] = {}

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Logits (B, C, h, w), float32, of tiles (B, 3, h, w); on the CPU, or on the tiles' device where torch runs.

        Raises:
            BackendError: the backend that was asked for by name is not installed, cannot run the network, or says
                something else than torch.
        """
        if self.training:
            return self.network(tiles)
        state = _weights_state(self.network)
        if state != self._state:
            self._runners.clear()
            self._state = state
        shape = tuple(tiles.shape[1:])
        if shape not in self._runners:
            if len(self._runners) >= SHAPES_KEPT:
                self._runners.pop(next(iter(self._runners)))
            self._runners[shape] = self._prepare(tiles[:1])
        return self._runners[shape](tiles)

    def _prepare(self, tile: torch.Tensor) -> Runner:
        try:
            name = self._choose()
            if name != "torch":
                return self._accelerate(name, tile)
        except BackendError as error:
            if self.backend != "auto":
                raise
            logger.warning("the network runs in torch: %s", error)
        return TorchRunner(self.network, self.precision, self.threads)

    def _choose(self) -> str:
        """The backend asked for, or the fastest that is installed."""
        fastest = [name for name in FASTEST.get(self.device.type, ()) if self.precision in PRECISIONS[name]]
        candidates = fastest if self.backend == "auto" else [self.backend]
        for name in candidates:
            if name == "torch" or is_installed(PACKAGE[name]):
                return name
        if not candidates:
            return "torch"
        packages = " or ".join(PACKAGE[name] for name in candidates)
        raise BackendError(f"{packages} is not installed; pip install {PACKAGE[candidates[0]]}")

    def _accelerate(self, name: str, tile: torch.Tensor) -> Runner:
        shape = tuple(tile.shape[1:])
        network = detached(self.network)
        model = self.cache.get(export_key(network, shape), lambda: to_onnx(network, shape, tile.device))
        runner = self._runner(name, model, shape)
        self._compare(name, runner, tile)
        return runner

    def _runner(self, name: str, model: bytes, shape: tuple[int, ...]) -> Runner:
        if name == "openvino":
            return OpenVinoRunner(model, shape, self.precision, self.threads)
        if name == "tensorrt":
            return OnnxRunner(model, TENSORRT_PROVIDER, tensorrt_options(self.precision), self.threads)
        provider = CUDA_PROVIDER if self.device.type == "cuda" else CPU_PROVIDER
        return OnnxRunner(model, provider, {}, self.threads)

    def _compare(self, name: str, runner: Runner, tile: torch.Tensor) -> None:
        """Run one tile both ways."""
        with torch.no_grad():
            expected = self.network(tile).float().cpu()
        found = runner(tile).cpu()
        if found.shape != expected.shape:
            raise BackendError(f"{name} gives logits of shape {tuple(found.shape)}, torch of {tuple(expected.shape)}")
        difference = float((found - expected).abs().max())
        spread = float(expected.max() - expected.min())
        # "not <=": a difference that is no number is too large.
        if not difference <= ROUNDING + self.tolerance * spread:
            raise BackendError(
                f"{name}'s logits differ from torch's by {difference:.2g} of a spread of {spread:.2g}, more than "
                f"tolerance {self.tolerance:g}; choose backend: torch or precision: float32"
            )
        logger.info(
            "the network runs in %s, %s: on a tile its logits differ from torch's by at most %.2g, of a spread of %.2g",
            name,
            self.precision,
            difference,
            spread,
        )


def _check_arguments(backend: str, precision: str, device: torch.device) -> None:
    names = ("auto", *PRECISIONS)
    if backend not in names:
        raise ConfigError(f"backend: must be one of {', '.join(names)}, not {backend}")
    precisions = PRECISIONS.get(backend, PRECISIONS["torch"])
    if precision not in precisions:
        raise ConfigError(f"backend: {backend} has precision {', '.join(precisions)}, not {precision}")
    devices = DEVICES.get(backend, (device.type,))
    if device.type not in devices:
        raise ConfigError(f"backend: {backend} runs on {' or '.join(devices)}, not on {device.type}; see --device")


def _weights_state(network: nn.Module) -> Hashable:
    """Changes whenever an operation of torch has changed, moved or replaced a parameter or buffer."""
    tensors = (*network.parameters(), *network.buffers())
    return tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)
