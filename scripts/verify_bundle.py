"""Verify a release as the MONAI model zoo does (its ci/verify_bundle.py), in the same order, offline.

Examples:
    python scripts/verify_bundle.py dist/pathology_glomeruli_segmentation_v0.6.0.zip
    python scripts/verify_bundle.py models/pathology_glomeruli_segmentation

The archive is unpacked into a temporary folder, or the folder copied there, and all runs from another working
directory with connections refused. Beyond the zoo's steps: training's properties, ONNX, one inference, documents.
With verify_files.py it stands alone: all else of this project that it imports lies in the archive. It needs jsonschema
and onnx besides the packages that the metadata names; ONNX is left out, and said to be, without onnx and onnxscript.
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
import json
import logging
import os
import shutil
import socket
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from pydoc import ErrorDuringImport
from typing import Any, NoReturn

import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, onnx_export, run, verify_net_in_out
from verify_files import (
    VerificationError,
    check_documents,
    check_files,
    check_large_files,
    check_metadata,
    check_version,
    config_of,
)

NAME = "pathology_glomeruli_segmentation"
NETWORK = "network_def"
FAILURES = (
    ArithmeticError, AttributeError, ErrorDuringImport, ImportError, LookupError, OSError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What MONAI raises of a bundle that is wrong."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    source = options.bundle.resolve()
    schema = options.schema.resolve() if options.schema else None
    with tempfile.TemporaryDirectory(prefix="verify_") as folder:
        try:
            root = unpack(source, Path(folder) / "models")
            elsewhere = Path(folder) / "elsewhere"
            elsewhere.mkdir()
            os.chdir(elsewhere)
            verify(root, schema)
        except VerificationError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        finally:
            os.chdir(Path(__file__).parent)  # the temporary folder goes
    print(f"verified: {source}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="archive of scripts/release.py, or a bundle's folder")
    parser.add_argument(
        "--schema",
        type=Path,
        help="the file at the URL that the metadata's `schema` names; without it only required keys are checked",
    )
    return parser


def unpack(source: Path, folder: Path) -> Path:
    """Unpack an archive, or copy a folder, to `folder`/`NAME`, and give that.

    Raises:
        VerificationError: it is neither, or the archive has something outside its top folder.
    """
    root = folder / NAME
    if source.is_dir():
        shutil.copytree(source, root, ignore=shutil.ignore_patterns(".*", "__pycache__", "output", "runs"))
        return root
    if not zipfile.is_zipfile(source):
        raise VerificationError(f"{source}: neither a ZIP archive nor a folder; make one with scripts/release.py")
    with zipfile.ZipFile(source) as archive:
        outside = [name for name in archive.namelist() if not name.startswith(f"{NAME}/") or ".." in name]
        if outside:
            raise VerificationError(f"{source}: {outside[0]} is not in the folder {NAME}/")
        archive.extractall(folder)
    return root


def verify(root: Path, schema: Path | None) -> None:
    """Take every step, printing what passed and in how many seconds.

    Raises:
        VerificationError: a step failed; those after it are not taken.
    """
    steps: list[tuple[str, Callable[[], str | None]]] = [
        ("large files are named", lambda: check_large_files(root)),
        ("necessary and preferred files are there", lambda: check_files(root)),
        ("the version is in the changelog", lambda: check_version(root)),
        ("metadata meets the schema", lambda: check_metadata(root, schema)),
        ("inference has the required properties", lambda: check_inference(root)),
        ("training has the required properties", lambda: check_training(root)),
        ("the network takes and gives what the metadata says", lambda: check_shapes(root)),
        ("TorchScript loads and says what torch says", lambda: check_torchscript(root)),
        ("ONNX is exported and valid", lambda: check_onnx(root)),
        ("a generated slide is segmented", lambda: check_run(root)),
        ("docs/README.md and data_license.txt are complete", lambda: check_documents(root)),
        ("the code that ran is the archive's", lambda: check_code(root)),
    ]
    socket.socket.connect = _refuse  # type: ignore[assignment]
    # MONAI's and torch's notes to themselves would drown the steps.
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(root))  # as the zoo does
    for name, step in steps:
        begun = time.monotonic()
        try:
            note = step()
        except VerificationError as error:
            raise VerificationError(f"{name}: failed; {error}") from error
        except FAILURES as error:
            raise VerificationError(f"{name}: failed; {type(error).__name__}: {error}") from error
        print(f"ok {time.monotonic() - begun:6.1f} s  {name}{f' ({note})' if note else ''}", flush=True)


def _refuse(self: socket.socket, address: Any) -> NoReturn:
    raise VerificationError(f"connects to {address}; the bundle must verify offline")


def check_inference(root: Path) -> None:
    """`ConfigWorkflow.check_properties` of the inference config."""
    _check_properties(root, "inference", slide=str(_slide()), output_dir="output")


def check_training(root: Path) -> None:
    """`ConfigWorkflow.check_properties` of the training config, on a datalist of one generated slide."""
    slide = _slide()
    row = {"image": slide.name, "label": slide.with_suffix(".geojson").name, "patient": "a", "stain": "PAS"}
    other = {**row, "patient": "b"}
    Path("datalist.json").write_text(json.dumps({"training": [row], "validation": [other]}))
    _check_properties(root, "train", datalist=str(Path("datalist.json").resolve()), output_dir="runs")


def _check_properties(root: Path, kind: str, **overrides: str) -> None:
    workflow = ConfigWorkflow(
        config_of(root, kind),
        meta_file=str(root / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        bundle_root=str(root),
        **overrides,
    )
    workflow.initialize()
    missing = workflow.check_properties()
    if missing:
        raise VerificationError(f"configs/{kind}: no {', '.join(missing)}")


def check_shapes(root: Path) -> None:
    """MONAI's `verify_net_in_out`."""
    verify_net_in_out(net_id=NETWORK, **_arguments(root))


def check_torchscript(root: Path) -> str:
    """MONAI's `ckpt_export`; the module loads, runs, and agrees with the network."""
    path = root / "models" / "verify_model.ts"
    ckpt_export(net_id=NETWORK, filepath=str(path), ckpt_file=str(root / "models" / "model.pt"), **_arguments(root))
    parser = ConfigParser(ConfigParser.load_config_file(config_of(root, "inference")))
    network = parser.get_parsed_content(NETWORK).eval()
    network.load_state_dict(torch.load(root / "models" / "model.pt", weights_only=True))
    tile = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        difference = float((torch.jit.load(path).eval()(tile) - network(tile)).abs().max())
    if not difference < 1e-4:
        raise VerificationError(f"TorchScript differs from torch by {difference:.2g}")
    return f"largest difference {difference:.1g}"


def check_onnx(root: Path) -> str | None:
    """MONAI's `onnx_export`, checked by onnx."""
    if not all(importlib.util.find_spec(package) for package in ("onnx", "onnxscript")):
        return "left out: onnx or onnxscript is not installed"
    path = str(root / "models" / "verify_model.onnx")
    with contextlib.redirect_stdout(io.StringIO()):  # torch's exporter tells its progress
        onnx_export(net_id=NETWORK, filepath=path, ckpt_file=str(root / "models" / "model.pt"), **_arguments(root))
    importlib.import_module("onnx").checker.check_model(path, full_check=True)
    return None


def check_run(root: Path) -> None:
    """The inference config runs from elsewhere and leaves its outputs."""
    run(
        config_file=config_of(root, "inference"),
        bundle_root=str(root),
        slide=str(_slide()),
        output_dir="out",
        progress=False,
    )
    for name in ("mask.tif", "glomeruli.geojson", "overlay.png", "summary.json"):
        if not list(Path("out").rglob(name)):
            raise VerificationError(f"configs/inference.yaml leaves no {name}")


def check_code(root: Path) -> None:
    """An installed copy of the package would have verified itself in place of the archive's."""
    found = Path(str(importlib.import_module("bundle").__file__))
    if not found.is_relative_to(root):
        raise VerificationError(f"`import bundle` took {found}; run it where no bundle is installed")


def _arguments(root: Path) -> dict[str, Any]:
    return {
        "meta_file": str(root / "configs" / "metadata.json"),
        "config_file": config_of(root, "inference"),
        "bundle_root": str(root),
    }


def _slide() -> Path:
    """A small phantom slide with its annotation, by the archive's own code."""
    path = Path("slide.tif").resolve()
    if not path.exists():
        phantom = importlib.import_module("bundle.phantom")
        size = importlib.import_module("bundle.geometry").Size(800, 600)
        phantom.write_phantom(phantom.Phantom(phantom.PhantomSpec(size=size, mpp=2.0, glomeruli_per_mm2=12)), path)
    return path


if __name__ == "__main__":
    sys.exit(main())
