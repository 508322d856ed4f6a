"""Run an exported network: each runner maps float32 tiles (B, 3, h, w) to float32 logits (B, C, h, w)."""

import sys
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bundle.backends.export import INPUT, OUTPUT
from bundle.errors import BackendError

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
CPU_PROVIDER, CUDA_PROVIDER, TENSORRT_PROVIDER = (
    f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt")
)  # names of ONNX Runtime


class Runner(Protocol):
    """The network as a callable."""

    def __call__(self, tiles: torch.Tensor) -> torch.Tensor:
        """Logits (B, C, h, w), float32, of tiles (B, 3, h, w) in 0..1."""
        ...


class TorchRunner:
    """Torch itself; on CUDA with channels last, below float32 with autocast. Logits stay on the device."""

    def __init__(self, network: nn.Module, precision: str, threads: int | None) -> None:
        self.network = network
        self.dtype = DTYPES.get(precision)
        if threads is not None:
            torch.set_num_threads(threads)

    def __call__(self, tiles: torch.Tensor) -> torch.Tensor:
        """See `Runner`."""
        if tiles.is_cuda:
            tiles = tiles.contiguous(memory_format=torch.channels_last)
        with torch.autocast(tiles.device.type, self.dtype, enabled=self.dtype is not None):
            return self.network(tiles).float()


def import_openvino() -> Any:
    """The package openvino, which then reports nothing to its makers: a slide is nobody else's business."""
    # It has a stub for where its telemetry is not installed.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


class OpenVinoRunner:
    """OpenVINO on the CPU, in throughput mode: as many tiles at once as it has streams, each tile a request.

    Measured on two cores, it is at least as fast as whole batches, and its memory does not depend on the batch.

    Raises:
        BackendError: the processor lacks the precision, or OpenVINO cannot run the network.
    """

    def __init__(self, model: bytes, shape: tuple[int, ...], precision: str, threads: int | None) -> None:
        ov = import_openvino()
        core = ov.Core()
        if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise BackendError("openvino: this processor has no bfloat16; choose precision: float32")
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        }
        # As many as torch, which follows OMP_NUM_THREADS: by itself OpenVINO takes all cores, in each of many workers.
        settings["INFERENCE_NUM_THREADS"] = threads or torch.get_num_threads()
        try:
            # Read, not convert_model: that one sends usage statistics to its makers.
            network = core.read_model(model)
            network.reshape([1, *shape])
            self._output_shape = tuple(network.output(0).shape)[1:]
            self._queue = ov.AsyncInferQueue(core.compile_model(network, "CPU", settings))
        except RuntimeError as error:
            raise BackendError(
                f"openvino cannot run the network ({_last_line(error)}); choose backend: torch"
            ) from error

    def __call__(self, tiles: torch.Tensor) -> torch.Tensor:
        """See `Runner`; on the CPU."""
        images = _as_array(tiles)
        logits = np.empty((len(images), *self._output_shape), np.float32)

        def keep(request: Any, index: int) -> None:
            logits[index] = request.get_output_tensor(0).data[0]

        self._queue.set_callback(keep)
        for index in range(len(images)):
            self._queue.start_async({0: images[index : index + 1]}, index)
        self._queue.wait_all()
        return torch.from_numpy(logits)


class OnnxRunner:
    """ONNX Runtime, with one of its execution providers.

    Raises:
        BackendError: the installed build lacks the provider, or cannot run the network with it.
    """

    def __init__(self, model: bytes, provider: str, options: dict[str, Any], threads: int | None) -> None:
        import onnxruntime as ort

        if provider not in ort.get_available_providers():
            raise BackendError(f"onnxruntime: this build has no {provider}; pip install onnxruntime-gpu")
        session_options = ort.SessionOptions()
        session_options.log_severity_level = 3  # errors; warnings are of its optimiser
        session_options.intra_op_num_threads = threads or 0
        try:
            self._session = ort.InferenceSession(model, session_options, providers=[(provider, options)])
        except ort_errors() as error:
            raise BackendError(
                f"{provider} cannot run the network ({_last_line(error)}); choose backend: torch"
            ) from error
        if self._session.get_providers()[0] != provider:
            raise BackendError(f"onnxruntime: {provider} does not start, see its messages; choose backend: torch")
        # On a CPU a batch gains nothing and takes its size in memory.
        self._at_once = 1 if provider == CPU_PROVIDER else None

    def __call__(self, tiles: torch.Tensor) -> torch.Tensor:
        """See `Runner`; on the CPU."""
        parts = [
            torch.from_numpy(self._session.run([OUTPUT], {INPUT: _as_array(part)})[0])
            for part in tiles.split(self._at_once or len(tiles))
        ]
        return torch.cat(parts)


def tensorrt_options(precision: str) -> dict[str, Any]:
    """Options of ONNX Runtime's TensorRT provider."""
    return {"trt_fp16_enable": precision == "float16", "trt_bf16_enable": precision == "bfloat16"}


def ort_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: they have no base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = (kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
    return (RuntimeError, ValueError, *kinds)


def _as_array(tiles: torch.Tensor) -> NDArray[np.float32]:
    return tiles.detach().float().cpu().contiguous().numpy()


def _last_line(error: BaseException) -> str:
    """The reason: OpenVINO's messages begin with lines of its source."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
