"""From a folder of slides and annotations, or a table of them, to datalist items; and what they hold."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from bundle.classes import CLASS_NAMES, GLOMERULUS_CLASSES
from bundle.data.annotations import ANNOTATION_SUFFIXES
from bundle.data.datalist import KEYS, DatalistItem, item_of_row, load_annotation
from bundle.data.datalist_files import read_table
from bundle.data.medical import suffix_of
from bundle.data.slides import SLIDE_SUFFIXES
from bundle.errors import DatalistError
from bundle.slide import open_slide

LABEL_ENDINGS: Final = ("_mask", "_masks", "_label", "_labels", "_annotation", "_annotations", "_glom_annotations")
"""What may follow the slide's stem in the name of its annotation."""


@dataclass(frozen=True)
class Naming:
    """How patient and stain are read from a slide's path below the folder (with `/`).

    Attributes:
        patient_regex: its group `patient`, or its first group, or its whole match is the patient.
        stain_regex: likewise the stain; `None` for the fixed `stain`.
        stain: stain of all slides, where there is no `stain_regex`.
    """

    patient_regex: str = r"[^/]+(?=\.[^.]*$)"
    stain_regex: str | None = None
    stain: str = "unknown"

    def patient_of(self, relative_path: str) -> str:
        """The patient; `DatalistError` when the pattern does not match."""
        return _matched(self.patient_regex, "patient", relative_path)

    def stain_of(self, relative_path: str) -> str:
        """The stain; `DatalistError` when the pattern does not match."""
        return self.stain if self.stain_regex is None else _matched(self.stain_regex, "stain", relative_path)


def items_of_folder(
    folder: Path, labels: Path | None = None, naming: Naming | None = None, **overrides: Any
) -> list[DatalistItem]:
    """One item for each slide below `folder`, with the annotation that shares its stem.

    Args:
        folder: slides, in sub-folders or not.
        labels: folder of the annotations; `None` when they lie beside the slides. Beside slides an image counts as a
            mask only when its name ends as in `LABEL_ENDINGS`.
        naming: how patient and stain are read from paths; by default each slide is a patient.
        overrides: further fields of every item: `mpp`, `label_mpp`, `mask_values`, ...

    Raises:
        DatalistError: no folder or slide, a pattern that does not match, or two annotations for one slide.
    """
    naming = naming or Naming()
    slides = [p for p in _files(folder) if p.suffix.lower() in SLIDE_SUFFIXES and not _label_ending(p)]
    if labels is not None:
        slides = [p for p in slides if not p.is_relative_to(labels) or labels == folder]
    if not slides:
        raise DatalistError(f"{folder}: holds no slide ({', '.join(sorted(SLIDE_SUFFIXES))})")
    by_stem = _labels_by_stem(labels or folder, beside_slides=labels is None or labels == folder)
    items = []
    for slide in slides:
        path = slide.relative_to(folder).as_posix()
        found = by_stem.get(slide.stem, [])
        if len(found) > 1:
            raise DatalistError(f"{slide}: has {len(found)} annotations ({found[0]}, {found[1]}); leave one")
        label = found[0] if found else None
        item = DatalistItem(slide, naming.patient_of(path), naming.stain_of(path), label, slide=slide.stem)
        items.append(replace(item, **overrides))
    return items


def items_of_table(
    path: Path, columns: Mapping[str, str], **overrides: Any
) -> tuple[dict[str | None, list[DatalistItem]], list[str]]:
    """Items by split of a CSV, with the key `None` for rows without a split; and the columns that were not used.

    Args:
        path: the table; paths in it are relative to its folder.
        columns: name of the table's column for a datalist key, where it is another: `{"patient": "case"}`.
        overrides: fields of every item that the table does not give.

    Raises:
        DatalistError: the table cannot be read, or a row is malformed.
    """
    own = {column: key for key, column in columns.items()}
    found: dict[str | None, list[DatalistItem]] = {}
    unused: set[str] = set()
    for line, cells in enumerate(read_table(path), start=2):
        named = {own.get(key, key): value for key, value in cells.items()}
        split = named.pop("split", None)
        unused |= set(named) - set(KEYS)
        row = {**overrides, **{key: value for key, value in named.items() if key in KEYS}}
        found.setdefault(split, []).append(item_of_row(row, path.parent.resolve(), f"{path}: line {line}"))
    return found, sorted(unused)


def with_classes(item: DatalistItem) -> tuple[DatalistItem, Counter[str]]:
    """The item with its annotation's classes filled in, and the number of glomeruli of each.

    Slide and annotation are opened, so that what cannot be read is found before training.

    Raises:
        SlideReadError, AnnotationError: one of them cannot be read.
        ConfigError: the item's region, `class_map` or `mask_values` makes no sense.
    """
    with open_slide(item.image, mpp=item.mpp, region=item.region) as slide:
        if item.label is None:
            return item, Counter()
        annotation = load_annotation(item.as_dict(), slide.size, slide.mpp)
    name_of = {c.index: c.name for c in GLOMERULUS_CLASSES}
    counts = Counter(name_of[g.label] for g in annotation.glomeruli if g.label in name_of)
    return replace(item, classes=tuple(name for name in CLASS_NAMES if counts[name])), counts


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DatalistError(f"{folder}: no such folder")
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))


def _stem(path: Path) -> str:
    return path.name[: len(path.name) - len(suffix_of(path))]


def _label_ending(path: Path) -> str | None:
    endings = [ending for ending in LABEL_ENDINGS if _stem(path).lower().endswith(ending)]
    return max(endings, key=len) if endings else None


def _labels_by_stem(folder: Path, beside_slides: bool) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in _files(folder):
        ending = _label_ending(path)
        is_slide = beside_slides and path.suffix.lower() in SLIDE_SUFFIXES and ending is None
        if suffix_of(path) in ANNOTATION_SUFFIXES and not is_slide:
            stem = _stem(path)
            found.setdefault(stem[: len(stem) - len(ending)] if ending else stem, []).append(path)
    return found


def _matched(pattern: str, name: str, text: str) -> str:
    try:
        match = re.search(pattern, text)
    except re.error as error:
        raise DatalistError(f"--{name}_regex {pattern!r} is no regular expression ({error})") from None
    if match is None:
        raise DatalistError(f"{text}: --{name}_regex {pattern!r} does not match; widen it")
    groups: Sequence[str | None] = match.groups()
    found = match.groupdict().get(name) or (groups[0] if groups else match.group())
    if not found:
        raise DatalistError(f"{text}: --{name}_regex {pattern!r} finds an empty {name}")
    return found
