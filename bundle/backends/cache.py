"""Keeps exported networks between runs, under a key of all that an export depends on."""

import hashlib
import importlib.metadata
import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from bundle import __version__
from bundle.atomic import atomic_path
from bundle.backends.export import is_installed
from bundle.errors import OutputError

logger = logging.getLogger(__name__)

PACKAGES = ("torch", "monai", "onnx", "onnxscript")
"""Those whose version may change what is exported."""
PLAIN = (bool, int, float, str, tuple, list, type(None))


def user_cache_dir() -> Path:
    """Where a system keeps what can be made again: XDG on Linux, Library/Caches on macOS, LOCALAPPDATA on Windows."""
    home = Path.home()
    folder = {"darwin": home / "Library/Caches", "win32": home / "AppData/Local"}.get(sys.platform, home / ".cache")
    given = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", "")
    # XDG: a relative path is to be ignored.
    return (Path(given) if os.path.isabs(given) else folder) / "glomeruli-bundle" / "networks"


def export_key(network: nn.Module, shape: tuple[int, ...]) -> str:
    """SHA-256 of weights and buffers, modules and their settings, tile shape and versions of packages."""
    settings = [
        (name, type(module).__qualname__, {k: v for k, v in vars(module).items() if isinstance(v, PLAIN)})
        for name, module in network.named_modules()
    ]
    versions = {name: importlib.metadata.version(name) for name in PACKAGES if is_installed(name)}
    digest = hashlib.sha256(json.dumps([settings, str(network), shape, __version__, versions], default=str).encode())
    # Not the state dict alone: what a network registers as not persistent is in the export too.
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class ExportCache:
    """A folder of files KEY-CONTENTHASH.onnx: whole or not at all, and a damaged one shows by its name.

    Args:
        folder: made when it is first written; the user's cache folder by default.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = Path(folder) if folder is not None else user_cache_dir()

    def get(self, key: str, make: Callable[[], bytes]) -> bytes:
        """What is kept under `key`, made by `make` where nothing is; warns of a folder that cannot be written."""
        kept = self._read(key)
        if kept is not None:
            return kept
        content = make()
        path = self.folder / f"{key}-{_short_hash(content)}.onnx"
        try:
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
        except OutputError as error:
            logger.warning("exported network not kept, the next run exports again: %s", error)
        return content

    def _read(self, key: str) -> bytes | None:
        with suppress(OSError):
            for path in self.folder.glob(f"{key}-*.onnx"):
                content = path.read_bytes()
                if path.stem == f"{key}-{_short_hash(content)}":
                    return content
                logger.warning("%s: damaged, exporting the network again", path)
                path.unlink()
        return None


def _short_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
