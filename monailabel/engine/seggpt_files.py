"""Whether SegGPT's weights are there, asked before anything else is done."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.errors import WeightsError
from bundle.networks.seggpt.weights import CONFIG_FILE, PUBLISHED, WEIGHTS_FILE


def check_seggpt_files(overrides: Mapping[str, Any]) -> None:
    """Look for the files of the model whose folder `overrides` names as `seggpt_dir`; without one do nothing.

    Raises:
        WeightsError: one is missing.
    """
    if "seggpt_dir" not in overrides:
        return
    folder = Path(overrides["seggpt_dir"])
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise WeightsError(
                f"{folder / name}: no such file, SegGPT's weights are not installed; get them once with `hf download "
                f"{PUBLISHED} {CONFIG_FILE} {WEIGHTS_FILE} --local-dir {folder}`, or start the server with "
                f"--conf seggpt_dir FOLDER"
            )
