"""The inference workflow of a cohort: which config files, with which overrides, and the hashes that tell a change."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from bundle.command_line import PLACES, check_overrides, config_fingerprint
from bundle.errors import ConfigError, WeightsError
from bundle.hashing import file_sha256
from bundle.study.plan import flat

OURS = PLACES | {"mpp", "progress"}
"""Settings of the workflow that the cohort gives for each slide."""


@dataclass(frozen=True)
class Segmentation:
    """How every slide of a cohort is segmented.

    Attributes:
        files: config files, absolute.
        overrides: by id.
        arguments: both as the command line would have them.
        config_hash: of both, without paths of slides and outputs.
        weights_hash: of the files that top-level settings name, such as `checkpoint`.
    """

    files: list[str]
    overrides: dict[str, Any]
    arguments: list[str]
    config_hash: str | None
    weights_hash: str


def read_segmentation(
    files: Sequence[Path | str], overrides: Mapping[str, Any], bundle_root: Path | str
) -> Segmentation:
    """Check the config of the workflow and hash it.

    Args:
        files: config files; later ones override earlier ones.
        overrides: of them, nested as they are.
        bundle_root: their `bundle_root`, to which their paths are relative.

    Raises:
        ConfigError: a file is missing, an override is of no setting, or of one that the cohort gives itself.
        WeightsError: the file that `checkpoint` names is missing.
    """
    names = [str(Path(file).absolute()) for file in files]
    for name in names:
        if not Path(name).is_file():
            raise ConfigError(f"{name}: no such config file")
    given = dict(flat(overrides))
    for name in sorted(given.keys() & OURS):
        raise ConfigError(f"inference_overrides: {name} is not for the workflow; give --{name} to the cohort")
    flags = [part for id, value in given.items() for part in (f"--{id}", str(value))]
    arguments = ["run", "--config_file", json.dumps(names), *flags]
    check_overrides(arguments)
    given["bundle_root"] = str(Path(bundle_root).absolute())
    return Segmentation(names, given, arguments, config_fingerprint(arguments), _weights_hash(names, given))


def _weights_hash(files: list[str], overrides: Mapping[str, Any]) -> str:
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser.update(dict(overrides))
    hashes = {}
    for id, value in sorted(parser.get().items()):
        # A plain text or a path below another; a reference or a call would build what it names.
        if not isinstance(value, str) or value.startswith("@") or "(" in value:
            continue
        path = parser.get_parsed_content(id)
        if isinstance(path, str) and Path(path).is_file():
            hashes[id] = file_sha256(path)
        elif id == "checkpoint":
            raise WeightsError(f"{path}: no such weight file; train with configs/train.yaml or give a checkpoint")
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
