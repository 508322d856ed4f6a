"""Prompt-set files: YAML that names each prompt's image, annotation and glomerulus; no pixels are read here.

    prompts:
      - {class: normal, image: crop.png, label: crop_mask.png, mask_values: {">127": normal}, mpp: 0.9}
      - {class: global_sclerosis, image: a.svs, label: a.geojson, glomerulus: 7d1c-...}   # id in the file, a text
      - {class: segmental_sclerosis, image: a.svs, label: a.geojson, glomerulus: 3}       # its number in the file
      - {class: normal, image: b.svs, label: b.geojson, region: [5000, 2000, 800, 800]}   # level-0 pixels

Keys are those of a datalist item (`bundle.data.datalist.DatalistItem`), of which `stain` and `patient` may be left out,
and `class`, `glomerulus` and `sha256` (of the image file, checked when it is there). Paths are relative to the file's
folder. As in a datalist, a `region` is all that is seen of its slide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from bundle.atomic import atomic_path
from bundle.classes import CLASS_NAMES
from bundle.data.datalist import KEYS, DatalistItem, item_of_row
from bundle.data.datalist_files import PATH_KEYS, relative_path
from bundle.errors import BundleError, PromptError, reason_of
from bundle.hashing import file_sha256

OWN_KEYS: Final = ("class", "glomerulus", "sha256")
UNKNOWN_STAIN: Final = "unknown"


@dataclass(frozen=True)
class PromptEntry:
    """One prompt as a file names it.

    Attributes:
        item: its image and annotation.
        class_name: the class that it is for.
        glomerulus: id (text) or number (from 1) in the annotation file, in the middle of the prompt; `None` for the
            only one of the class, or for the middle of `item.region`.
        sha256: of the image file; `None` when unknown.
    """

    item: DatalistItem
    class_name: str
    glomerulus: str | int | None = None
    sha256: str | None = None


def read_entries(path: Path | str) -> list[PromptEntry]:
    """The prompts that a file names, paths made absolute; files are not looked for.

    Raises:
        PromptError: the file is missing or malformed, or names no prompt.
    """
    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = reason_of(error)
        raise PromptError(f"{path}: prompt set cannot be read ({reason}); see bundle/prompts/entries.py") from error
    rows = document.get("prompts") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise PromptError(f"{path}: is no prompt set; it must hold `prompts`, a list of entries")
    if not rows:
        raise PromptError(f"{path}: holds no prompts; add entries, or make one with scripts/choose_prompts.py")
    folder = path.parent.resolve()
    return [_entry_of_row(row, folder, name_of_entry(path, i)) for i, row in enumerate(rows)]


def write_prompt_set(
    entries: Sequence[PromptEntry], path: Path | str, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write a prompt-set file; paths become relative to its folder, and every image's sha256 is noted.

    Args:
        entries: the prompts.
        path: .yaml
        provenance: how the set was made, plain values; kept under `provenance`.

    Raises:
        PromptError: there is no entry.
        OutputError: `path` cannot be written.
    """
    path = Path(path)
    if not entries:
        raise PromptError(f"{path}: a prompt set of no prompts cannot be written")
    sha256 = cache(file_sha256)
    folder = path.parent.resolve()
    rows = [{**_row_of_entry(entry, folder), "sha256": entry.sha256 or sha256(entry.item.image)} for entry in entries]
    document = {**({"provenance": dict(provenance)} if provenance else {}), "prompts": rows}
    with atomic_path(path) as temporary:
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
        temporary.write_text(text, encoding="utf-8")


def name_of_entry(path: Path | str, index: int) -> str:
    """How errors name entry `index` (from 0) of a file."""
    return f"{path}: prompts[{index}]"


def _entry_of_row(row: Mapping[str, Any], folder: Path, where: str) -> PromptEntry:
    known = (*OWN_KEYS, *KEYS)
    unknown = sorted(str(key) for key in row if key not in known)
    if unknown:
        raise PromptError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
    for key in (*PATH_KEYS, "class"):
        if row.get(key) in (None, ""):
            raise PromptError(f"{where}: has no {key!r}; every prompt needs image, label and class")
    if row["class"] not in CLASS_NAMES:
        raise PromptError(f"{where}: unknown class {row['class']!r}; choose one of {', '.join(CLASS_NAMES)}")
    glomerulus, sha256 = row.get("glomerulus"), row.get("sha256")
    if isinstance(glomerulus, bool) or not isinstance(glomerulus, str | int | None):
        raise PromptError(f"{where}: glomerulus is {glomerulus!r}; give its id as text or its number from 1")
    if not isinstance(sha256, str | None):
        raise PromptError(f"{where}: sha256 is {sha256!r}; write it in quotes, or leave it out")
    defaults = {"patient": Path(str(row["image"])).stem, "stain": UNKNOWN_STAIN}
    own = {key: row[key] for key in KEYS if row.get(key) is not None}
    try:
        item = item_of_row({**defaults, **own}, folder, where)
    except BundleError as error:
        raise PromptError(str(error)) from error
    return PromptEntry(item, row["class"], glomerulus, sha256)


def _row_of_entry(entry: PromptEntry, folder: Path) -> dict[str, Any]:
    item = entry.item
    row: dict[str, Any] = {"class": entry.class_name, "glomerulus": entry.glomerulus}
    row |= {key: getattr(item, key) for key in KEYS}
    row |= {key: relative_path(row[key], folder) for key in PATH_KEYS if row[key] is not None}
    row |= {key: dict(row[key]) for key in ("class_map", "mask_values") if row[key] is not None}
    if item.region is not None:
        row["region"] = [item.region.x, item.region.y, item.region.width, item.region.height]
    row["classes"] = None  # what else the annotation holds is no matter here
    if item.complete:
        row["complete"] = None
    return {key: value for key, value in row.items() if value is not None}
