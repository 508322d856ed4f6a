"""The two file forms of a datalist, JSON and CSV, as plain rows by split; what rows mean is `datalist`'s business."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bundle.atomic import atomic_path
from bundle.data.annotations.outlines import shown
from bundle.errors import DatalistError

SPLITS: Final = ("training", "validation", "test")
PATH_KEYS: Final = ("image", "label")
Sections = dict[str, list[dict[str, Any]]]

_JSON_COLUMNS: Final = ("classes", "region", "class_map", "mask_values", "mpp", "label_mpp", "min_area_px", "complete")
"""CSV columns whose cells are JSON: numbers, lists, tables, true and false."""


def read_sections(path: Path) -> Sections:
    """Rows by split, each split present; `DatalistError` when the file is missing or malformed."""
    try:
        if path.suffix.lower() == ".csv":
            return _read_csv(path)
        if path.suffix.lower() == ".json":
            return _read_json(path)
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise DatalistError(f"{path}: datalist cannot be read ({error})") from error
    raise DatalistError(f"{path}: a datalist is a .json or .csv file")


def write_sections(sections: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Write rows by split; paths in them become relative to the folder of `path`.

    Raises:
        DatalistError: a suffix other than .json and .csv.
        OutputError: `path` cannot be written.
    """
    folder = path.parent.resolve()
    relative = {split: [_relative(row, folder) for row in rows] for split, rows in sections.items()}
    if path.suffix.lower() not in (".json", ".csv"):
        raise DatalistError(f"{path}: a datalist is a .json or .csv file")
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".csv":
            _write_csv(relative, temporary)
        else:
            temporary.write_text(json.dumps(relative, indent=1) + "\n", encoding="utf-8")


def _read_json(path: Path) -> Sections:
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise DatalistError(f"{path}: is no datalist; it must hold {', '.join(SPLITS)}")
    # MONAI and nnU-Net put texts and numbers about the data set beside the splits; a list is meant to be a split.
    for key, value in document.items():
        if isinstance(value, list) and key not in SPLITS:
            raise DatalistError(f"{path}: no split {shown(key)}; choose one of {', '.join(SPLITS)}")
    sections = {split: document.get(split, []) for split in SPLITS}
    for split, rows in sections.items():
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DatalistError(f"{path}: {split} is no list of items")
    return sections


def read_table(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV, empty cells left out, with `split` still among the keys; `DatalistError` when malformed."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = list(enumerate(csv.DictReader(file), start=2))
    except (OSError, ValueError, csv.Error) as error:
        raise DatalistError(f"{path}: table cannot be read ({error})") from error
    return [
        {key: _cell(key, cell, f"{path}: line {line}") for key, cell in cells.items() if key and cell}
        for line, cells in table
    ]


def _read_csv(path: Path) -> Sections:
    sections: Sections = {split: [] for split in SPLITS}
    for line, row in enumerate(read_table(path), start=2):
        split = row.pop("split", None)
        if split not in SPLITS:
            raise DatalistError(f"{path}: line {line}: no split {shown(split)}; choose one of {', '.join(SPLITS)}")
        sections[split].append(row)
    return sections


def _cell(key: str, cell: str, where: str) -> Any:
    if key not in _JSON_COLUMNS:
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        raise DatalistError(
            f"{where}: {key} is {shown(cell)}; write numbers, true, [lists] or {{tables}} as JSON"
        ) from None


def _write_csv(sections: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    rows = [{"split": split, **row} for split, items in sections.items() for row in items]
    columns = list(dict.fromkeys(key for row in rows for key in row)) or ["split", *PATH_KEYS]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({key: json.dumps(v) if key in _JSON_COLUMNS else v for key, v in row.items()})


def _relative(row: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    return {key: relative_path(value, folder) if key in PATH_KEYS else value for key, value in row.items()}


def relative_path(path: Path | str, folder: Path) -> str:
    """`path` as a file in `folder` names it, with `/`; `folder` is absolute."""
    try:
        return Path(os.path.relpath(Path(path).resolve(), folder)).as_posix()
    except ValueError:  # another drive on Windows has no relative path
        return Path(path).resolve().as_posix()
