"""Write a datalist: from a folder of slides and annotations, from a table, of a known data set, or from datalists.

Examples:
    python scripts/prepare_data.py --folder slides --patient_regex '^[^_]+' --stain PAS --out datalist.json
    python scripts/prepare_data.py --table slides.csv --patient_column case --out datalist.json
    python scripts/prepare_data.py --preset regions --root data/regions --out regions.json
    python scripts/prepare_data.py --merge regions.json slides.json --out both.json
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bundle.classes import CLASS_NAMES
from bundle.data.datalist import DatalistItem, read_items, write_datalist
from bundle.data.datalist_files import SPLITS
from bundle.data.preparation import Naming, items_of_folder, items_of_table, with_classes
from bundle.data.presets import DEFAULT_CROP_UM, PRESETS, preset_items
from bundle.data.splitting import DEFAULT_FRACTIONS, split_by_patient
from bundle.errors import BundleError, DatalistError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        items_by_split = _items(options)
        counted = {split: [with_classes(item) for item in items] for split, items in items_by_split.items()}
        write_datalist({split: [item for item, _ in pairs] for split, pairs in counted.items()}, options.out)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(_report(counted))
    print(f"written: {options.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--folder", type=Path, help="folder of slides, paired with annotations by file stem")
    source.add_argument("--table", type=Path, help="CSV with the columns image, label, patient, stain, mpp, split, ...")
    source.add_argument("--preset", choices=sorted(PRESETS), help="a known data set, in the folder --root")
    source.add_argument("--merge", type=Path, nargs="+", help="datalists to put together, their splits kept")
    parser.add_argument("--out", type=Path, required=True, help="datalist to write, .json or .csv")
    parser.add_argument("--root", type=Path, help="folder of the --preset")
    parser.add_argument("--crop_um", type=float, default=DEFAULT_CROP_UM, help="width of a crop of --preset crops, µm")
    parser.add_argument("--labels", type=Path, help="folder of the annotations, if not beside the slides")
    parser.add_argument("--patient_regex", default=Naming.patient_regex, help="finds the patient in a slide's path")
    parser.add_argument("--stain_regex", help="finds the stain in a slide's path")
    parser.add_argument("--stain", default=Naming.stain, help="stain of all slides, without --stain_regex")
    parser.add_argument("--patient_column", default="patient", help="column of --table that holds the patient")
    parser.add_argument("--stain_column", default="stain", help="column of --table that holds the stain")
    parser.add_argument("--mpp", type=float, help="µm per level-0 pixel of all slides")
    parser.add_argument("--label_mpp", type=float, help="µm per pixel of all masks")
    parser.add_argument("--min_area_px", type=float, help="leave out smaller objects of masks, mask pixels")
    parser.add_argument("--class_map", type=json.loads, help='JSON: {"name in the files": "global_sclerosis", ...}')
    parser.add_argument("--mask_values", type=json.loads, help='JSON: {"1": "normal", "#ff0000": "global_sclerosis"}')
    parser.add_argument("--partly_annotated", action="store_true", help="what is not annotated is unknown")
    parser.add_argument(
        "--fractions",
        type=float,
        nargs=3,
        metavar=tuple(s.upper() for s in SPLITS),
        help="of slides; splits anew what has splits",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the split")
    return parser


def _items(options: argparse.Namespace) -> Mapping[str, Sequence[DatalistItem]]:
    overrides = _overrides(options)
    if options.preset:
        if options.root is None:
            raise DatalistError("--preset needs --root, the folder of the data set")
        return _kept_or_new_split(preset_items(options.preset, options.root, options.crop_um), options)
    if options.merge:
        lists = [read_items(path) for path in options.merge]
        return _kept_or_new_split({split: [i for found in lists for i in found[split]] for split in SPLITS}, options)
    if options.folder:
        naming = Naming(options.patient_regex, options.stain_regex, options.stain)
        return _split(items_of_folder(options.folder, options.labels, naming, **overrides), options)
    columns = {"patient": options.patient_column, "stain": options.stain_column}
    by_split, unused = items_of_table(options.table, columns, **overrides)
    if unused:
        print(f"columns not used: {', '.join(unused)}", file=sys.stderr)
    if None not in by_split:
        return {str(split): items for split, items in by_split.items()}
    if len(by_split) > 1:
        raise DatalistError(f"{options.table}: some rows have a split and some have none; fill the column or drop it")
    return _split(by_split[None], options)


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    keys = ("mpp", "label_mpp", "min_area_px", "class_map", "mask_values")
    given = {key: getattr(options, key) for key in keys if getattr(options, key) is not None}
    return {**given, "complete": False} if options.partly_annotated else given


def _overridden(item: DatalistItem, overrides: Mapping[str, Any]) -> DatalistItem:
    return DatalistItem(**{**vars(item), **overrides})


def _kept_or_new_split(
    found: Mapping[str, Sequence[DatalistItem]], options: argparse.Namespace
) -> Mapping[str, Sequence[DatalistItem]]:
    """The splits as they are, or with --fractions others."""
    overrides = _overrides(options)
    changed = {split: [_overridden(item, overrides) for item in items] for split, items in found.items()}
    return _split([item for items in changed.values() for item in items], options) if options.fractions else changed


def _split(items: Sequence[DatalistItem], options: argparse.Namespace) -> Mapping[str, Sequence[DatalistItem]]:
    fractions = dict(zip(SPLITS, options.fractions, strict=True)) if options.fractions else DEFAULT_FRACTIONS
    # Classes are balanced too, so they have to be known before the split.
    return split_by_patient([with_classes(item)[0] for item in items], fractions, options.seed)


def _report(counted: Mapping[str, Sequence[tuple[DatalistItem, Counter[str]]]]) -> str:
    rows = []
    for split in SPLITS:
        pairs = counted.get(split, [])
        for stain in sorted({item.stain for item, _ in pairs}):
            group = [(item, counts) for item, counts in pairs if item.stain == stain]
            total = sum((counts for _, counts in group), Counter())
            patients = len({item.patient for item, _ in group})
            rows.append([split, stain, patients, len(group), *(total[name] for name in CLASS_NAMES)])
    return tabulate(rows, headers=["split", "stain", "patients", "images", *CLASS_NAMES])


if __name__ == "__main__":
    sys.exit(main())
