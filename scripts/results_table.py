"""Put several evaluations into one Markdown table: a row a data set, stain and network, a column a class.

    python scripts/results_table.py runs/*/on_* --measure dice

Each folder NETWORK/on_SET was written by configs/evaluate.yaml; its name and its parent's name the row.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from bundle.atomic import write_text
from bundle.classes import CLASS_NAMES
from bundle.errors import BundleError, DatalistError
from bundle.evaluation.tables import FOREGROUND, cell


def main(arguments: list[str] | None = None) -> int:
    """Print or write the table; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="evaluations, NETWORK/on_SET")
    parser.add_argument("--measure", default="dice", help="dice, stratified_dice, pooled_f1, hd95_um, ...")
    parser.add_argument("--level", choices=("slides", "crops"), default="slides", help="whole images or crops")
    parser.add_argument("--out", type=Path, help="Markdown file; default: print")
    options = parser.parse_args(arguments)
    try:
        table = pd.concat([_rows(folder, options.level, options.measure) for folder in options.folders])
        table = table.sort_values(["data set", "stain", "network"], key=_all_last, kind="stable")
        text = table.to_markdown(index=False, disable_numparse=True)
        if options.out is None:
            print(text)
        else:
            write_text(options.out, text + "\n")
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _rows(folder: Path, level: str, measure: str) -> pd.DataFrame:
    path = folder / level / "per_stain.csv"
    try:
        summary = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise DatalistError(f"{path}: no evaluation there ({error}); run configs/evaluate.yaml first") from error
    summary = summary[(summary["measure"] == measure) & summary["class"].isin((FOREGROUND, *CLASS_NAMES))]
    if summary.empty:
        raise DatalistError(f"{path}: has no measure {measure!r} of a class; see its column `measure`")
    names = {"data set": folder.name.removeprefix("on_"), "network": folder.parent.name}
    rows = []
    for stain, group in summary.groupby("stain", sort=False):
        cells = {str(row["class"]).replace("_", " "): cell(row) for row in group.to_dict("records")}
        rows.append({**names, "stain": stain, **cells})
    return pd.DataFrame(rows)


def _all_last(column: pd.Series) -> pd.Series:
    return column.where(column != "ALL", "~")


if __name__ == "__main__":
    sys.exit(main())
