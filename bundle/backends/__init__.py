"""A network as a fast callable: torch, OpenVINO, ONNX Runtime or TensorRT, chosen in YAML; see docs/backends.md."""

from bundle.backends.accelerated import Accelerated
from bundle.errors import BackendError

__all__ = ["Accelerated", "BackendError"]
