"""The zoo's demands on a bundle's files, for scripts/verify_bundle.py: nothing of the bundle is run or imported.

A check raises `VerificationError`; what it returns is a note for the reader.
"""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import verify_metadata

MAX_BYTES = 25_000_000
"""Of one file, which else must be named in large_files.yml (the zoo's CONTRIBUTING.md)."""
SECTIONS = (
    "Authors", "Tags", "Model Description", "Data", "Performance", "System Configuration", "Limitations", "References",
)  # fmt: skip
"""Headings of docs/README.md, the zoo's docs/readme_template.md."""
REQUIRED = (
    "schema", "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task",
    "description", "authors", "copyright", "network_data_format",
)  # fmt: skip
REQUIRED_OF_TENSORS = ("type", "format", "num_channels", "spatial_shape", "dtype", "value_range")
"""What MONAI's schema of 2024-07-25 demands; all that is checked where the schema itself is not given."""


class VerificationError(Exception):
    """The zoo would refuse this bundle; the message says for which file and why."""


def config_of(root: Path, name: str) -> str:
    """Path of a config, which may be YAML or JSON."""
    for suffix in ("json", "yaml", "yml"):
        if (root / "configs" / f"{name}.{suffix}").is_file():
            return str(root / "configs" / f"{name}.{suffix}")
    raise VerificationError(f"configs/{name}.yaml: not there")


def check_large_files(root: Path) -> str:
    """No file is over `MAX_BYTES`; each that large_files.yml names has a URL and is here, for nothing is downloaded."""
    listing = root / "large_files.yml"
    named = yaml.safe_load(listing.read_text())["large_files"] if listing.exists() else []
    for entry in named:
        if not {"path", "url"} <= entry.keys():
            raise VerificationError(f"large_files.yml: an entry without path or url: {entry}")
        if not (root / entry["path"]).is_file():
            raise VerificationError(f"{entry['path']}: in large_files.yml; download it to there first")
    allowed = {entry["path"] for entry in named}
    for path in root.rglob("*"):
        if path.is_file() and path.stat().st_size > MAX_BYTES and path.relative_to(root).as_posix() not in allowed:
            raise VerificationError(
                f"{path.relative_to(root)}: over {MAX_BYTES / 1e6:.0f} MB and not in large_files.yml"
            )
    return f"{len(named)} files"


def check_files(root: Path) -> None:
    """What the zoo calls necessary and preferred."""
    for name in ("configs/metadata.json", "LICENSE", "models/model.pt"):
        if not (root / name).is_file():
            raise VerificationError(f"{name}: not there")
    config_of(root, "inference")


def check_version(root: Path) -> str:
    """The version has an entry in the changelog."""
    metadata = metadata_of(root)
    if metadata["version"] not in metadata["changelog"]:
        raise VerificationError(f"configs/metadata.json: {metadata['version']} is not in the changelog")
    return str(metadata["version"])


def check_metadata(root: Path, schema: Path | None) -> str | None:
    """By MONAI, with the schema where the zoo's CI puts it; without a schema, that the required keys are there."""
    if schema is None:
        return check_required_keys(root)
    if not schema.is_file():
        raise VerificationError(f"{schema}: no such file; give the one at the URL that the metadata's `schema` names")
    if schema.name != metadata_of(root)["schema"].rpartition("/")[2]:
        raise VerificationError(f"configs/metadata.json: its schema is not {schema.name}")
    if importlib.util.find_spec("jsonschema") is None:
        raise VerificationError("jsonschema is not installed, and MONAI needs it; pip install jsonschema")
    (root / "eval").mkdir(exist_ok=True)
    place = shutil.copy(schema, root / "eval" / "schema.json")
    verify_metadata(meta_file=str(root / "configs" / "metadata.json"), filepath=place)
    return None


def check_required_keys(root: Path) -> str:
    """`REQUIRED`, and `REQUIRED_OF_TENSORS` of every input and output."""
    metadata = metadata_of(root)
    missing = [key for key in REQUIRED if key not in metadata]
    for kind in ("inputs", "outputs"):
        for name, tensor in metadata.get("network_data_format", {}).get(kind, {}).items():
            missing += [f"{kind}#{name}#{key}" for key in REQUIRED_OF_TENSORS if key not in tensor]
    if missing:
        raise VerificationError(f"configs/metadata.json: lacks {', '.join(missing)}")
    return "its required keys only; give --schema for the rest"


def check_documents(root: Path) -> None:
    """Headings of the zoo's template, and a licence of the data."""
    lines = (root / "docs" / "README.md").read_text(encoding="utf-8").splitlines()
    headings = {line.lstrip("#").strip(" *") for line in lines if line.startswith("#")}
    if missing := [section for section in SECTIONS if section not in headings]:
        raise VerificationError(f"docs/README.md: no section {', '.join(missing)}")
    if not (root / "docs" / "data_license.txt").read_text(encoding="utf-8").strip():
        raise VerificationError("docs/data_license.txt: empty")


def metadata_of(root: Path) -> dict[str, Any]:
    """configs/metadata.json."""
    return dict(json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8")))
