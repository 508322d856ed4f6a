"""`python -m bundle run ...`: MONAI's own command, its arguments looked at before MONAI sees them.

`python -m monai.bundle run` does the same, but a missing config file, none at all, or an override of an id that does
not exist ends inside MONAI, with a traceback, before any code that a config names is imported: so that is checked here.
"""

import runpy
import sys
from collections.abc import Sequence

from bundle.command_line import begin_run, check_config_files
from bundle.errors import BundleError

USAGE = """usage: python -m bundle run --config_file CONFIG [--ID VALUE ...]

  python -m bundle run --config_file configs/inference.yaml --slide SLIDE --output_dir OUT
  python -m bundle run --config_file configs/train.yaml --datalist DATALIST --output_dir OUT
  python -m bundle run --config_file "['configs/train.yaml','configs/evaluate.yaml']" --datalist DATALIST ...

Runs a config as `python -m monai.bundle run` does, and tells in one line what is wrong with the command. Any setting of
the config is an option: --batch_size 4, --tiles#overlap_um 128. The other commands of monai.bundle (ckpt_export,
onnx_export, verify_net_in_out, ...) are passed on as they are. README.md lists the configs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the command line and hand it to `monai.bundle`; returns the exit status of a command that is not run."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(USAGE, file=sys.stdout if given else sys.stderr)
        return 0 if given else 2
    if given[0] == "run":
        try:
            check_config_files(given)
            begin_run(given)
        except BundleError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    sys.argv[1:] = given
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
