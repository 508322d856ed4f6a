"""Compare two models on the same images: Wilcoxon's test over patients for every measure of their evaluations.

    python scripts/compare_models.py runs/a/evaluation/slides/per_image.csv runs/b/evaluation/slides/per_image.csv

prints, for every measure, the median over patients of (first model minus second) and the two-sided p.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from bundle.errors import BundleError, DatalistError
from bundle.evaluation import paired_tests


def main(arguments: list[str] | None = None) -> int:
    """Print the table; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path, help="per_image.csv of the first model, from configs/evaluate.yaml")
    parser.add_argument("second", type=Path, help="per_image.csv of the second model on the same datalist")
    parser.add_argument("--measure", default="dice_", help="compare the columns that begin so (default: dice_)")
    options = parser.parse_args(arguments)
    try:
        tests = paired_tests(_read(options.first), _read(options.second), prefix=options.measure)
        if tests.empty:
            raise DatalistError(f"{options.first}: no column begins with {options.measure!r}; see --measure")
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(tests.to_markdown(index=False, floatfmt=".4f"))
    return 0


def _read(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DatalistError(f"{path}: not a table that can be read: {error}") from error
    missing = [column for column in ("slide", "crop", "patient") if column not in frame]
    if missing:
        raise DatalistError(f"{path}: has no column {missing[0]!r}; give a per_image.csv of configs/evaluate.yaml")
    return frame


if __name__ == "__main__":
    sys.exit(main())
