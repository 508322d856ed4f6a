"""The two helpers of the zoo's ci/unit_tests/utils.py that the zoo's tests of a bundle call, for running them here."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow


def check_workflow(workflow: ConfigWorkflow, check_properties: bool = False) -> None:
    """Initialize, look for required properties, run and finalize."""
    workflow.initialize()
    missing = workflow.check_properties() if check_properties else None
    if missing:
        raise ValueError(f"check properties for workflow failed: {missing}")
    workflow.run()
    workflow.finalize()


def export_config_and_run_mgpu_cmd(
    config_file: Sequence[str],
    meta_file: str,
    override_dict: Mapping[str, Any],
    output_path: str,
    logging_file: str | None = None,
    ngpu: int = 2,
) -> None:
    """Write the overridden config to one file and run it by torchrun in `ngpu` processes."""
    parser = ConfigParser()
    parser.read_config(config_file)
    parser.update(pairs=dict(override_dict))
    ConfigParser.export_config_file(parser.config, output_path, indent=4)
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1", f"--nproc_per_node={ngpu}"]
    line += ["-m", "monai.bundle", "run", "--config_file", output_path, "--meta_file", meta_file]
    if logging_file is not None:
        line += ["--logging_file", logging_file]
    # Custom code is found by the subprocess; the working directory is not the bundle's.
    environment = {**os.environ, "PYTHONPATH": str(override_dict["bundle_root"])}
    subprocess.run(line, check=True, env=environment, cwd=Path(output_path).parent, timeout=300)
