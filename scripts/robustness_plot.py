"""Put the robustness of several models into one table and one plot.

    python scripts/robustness_plot.py runs/a/robustness/robustness.csv runs/b/robustness/robustness.csv --output_dir OUT

Each file is of configs/robustness.yaml, run with its own --model_name.
"""

import argparse
import sys
from pathlib import Path

from bundle.errors import BundleError
from bundle.robustness import read_results, write_report


def main(arguments: list[str] | None = None) -> int:
    """Write robustness.csv, range.csv, robustness.md and robustness.png; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="robustness.csv of each model")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    options = parser.parse_args(arguments)
    try:
        write_report(read_results(options.results), options.output_dir)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
