"""Datalists: which slides, annotations, patients and stains make up training, validation and test.

The JSON form is MONAI's (`{"training": [...], "validation": [...], "test": [...]}`), the CSV form has a `split` column.
Paths in a datalist are relative to its folder.
"""

import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, get_args

from bundle.data.annotations import Annotation, mask_size, read_annotation
from bundle.data.annotations.masks import MASK_SUFFIXES
from bundle.data.annotations.outlines import shown
from bundle.data.datalist_files import PATH_KEYS, SPLITS, Sections, read_sections, write_sections
from bundle.data.medical import suffix_of
from bundle.errors import AnnotationError, DatalistError
from bundle.geometry import Rect, Size
from bundle.slide import open_slide

FIT_TOLERANCE: Final = 0.01
"""How far a mask's size times its scale may be off the slide's, as a part of it."""


@dataclass(frozen=True)
class DatalistItem:
    """One slide or image of a datalist; keys that are not given are `None` and left out of files.

    Attributes:
        image: slide or image file.
        patient: all slides of a patient are in one split.
        stain: HE, PAS, ... ; free text.
        label: annotation or mask file; `None` for a slide to be predicted only.
        classes: names of the classes that the annotation holds.
        mpp: micrometres per level-0 pixel; overrides what the file says.
        label_mpp: micrometres per pixel of a mask.
        region: the part of the slide that is meant, level-0 pixels; `[x, y, width, height]` in files.
        slide: id of the slide, also the row of a run-length CSV; the image's stem by default.
        complete: whether all glomeruli of the slide (or region) are annotated; elsewhere it is ignored, not background.
        class_map: see `read_annotation`.
        mask_values: see `read_annotation`.
        min_area_px: see `read_annotation`.
    """

    image: Path
    patient: str
    stain: str
    label: Path | None = None
    classes: tuple[str, ...] | None = None
    mpp: float | None = None
    label_mpp: float | None = None
    region: Rect | None = None
    slide: str | None = None
    complete: bool = True
    class_map: Mapping[str, str] | None = None
    mask_values: Mapping[str, str] | None = None
    min_area_px: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The item as MONAI's transforms take it: paths as text, keys that are `None` left out."""
        values = {key: getattr(self, key) for key in KEYS}
        texts = {key: str(values[key]) for key in PATH_KEYS if values[key] is not None}
        values["slide"] = self.slide or self.image.stem
        lists = {"classes": list(self.classes)} if self.classes is not None else {}
        return {key: value for key, value in {**values, **texts, **lists}.items() if value is not None}


KEYS: Final = tuple(f.name for f in fields(DatalistItem))
_REQUIRED: Final = ("image", "patient", "stain")
_LARGEST: Final = sys.float_info.max
"""JSON has larger numbers: Infinity, and integers of any length."""


def read_datalist(path: Path | str, split: str) -> list[dict[str, Any]]:
    """The items of one split as dictionaries, with absolute paths; see `DatalistItem` for the keys.

    Args:
        path: datalist, JSON or CSV.
        split: `training`, `validation` or `test`.

    Raises:
        DatalistError: the datalist is malformed, a file of the split is missing, a patient is in two splits, or the
            split is empty.
    """
    path = Path(path)
    items = read_items(path)
    if split not in SPLITS:
        raise DatalistError(f"{path}: no split {split!r}; choose one of {', '.join(SPLITS)}")
    if not items[split]:
        filled = ", ".join(name for name in SPLITS if items[name]) or "none"
        raise DatalistError(f"{path}: the split {split!r} is empty (filled: {filled}); add items or choose another")
    for item in items[split]:
        for file in (item.image, item.label):
            if file is not None and not file.exists():
                raise DatalistError(f"{path}: {file} does not exist; paths are relative to the datalist's folder")
    return [item.as_dict() for item in items[split]]


def read_items(path: Path | str) -> dict[str, list[DatalistItem]]:
    """All items by split, each split present; files are not looked for. Raises `DatalistError` as `read_datalist`."""
    path = Path(path)
    sections = read_sections(path)
    folder = path.parent.resolve()
    items = {
        split: [item_of_row(row, folder, f"{path}: {split}[{i}]") for i, row in enumerate(sections[split])]
        for split in SPLITS
    }
    check_patients(items, path)
    return items


def write_datalist(items_by_split: Mapping[str, Sequence[DatalistItem]], path: Path | str) -> None:
    """Write a datalist, JSON or CSV by the suffix of `path`; paths become relative to its folder.

    Raises:
        DatalistError: an unknown split, a patient in two splits, or a suffix other than .json and .csv.
        OutputError: `path` cannot be written.
    """
    path = Path(path)
    unknown = sorted(set(items_by_split) - set(SPLITS))
    if unknown:
        raise DatalistError(f"{path}: no split {unknown[0]!r}; choose one of {', '.join(SPLITS)}")
    check_patients(items_by_split, path)
    sections: Sections = {split: [item.as_dict() for item in items] for split, items in items_by_split.items() if items}
    for rows in sections.values():
        for row in rows:
            if row["complete"]:
                del row["complete"]
            if "region" in row:
                region = row["region"]
                row["region"] = [region.x, region.y, region.width, region.height]
    write_sections(sections, path)


def check_patients(items_by_split: Mapping[str, Iterable[DatalistItem]], path: Path | str) -> None:
    """Raise `DatalistError` when a patient is in two splits."""
    splits: dict[str, set[str]] = defaultdict(set)
    for split, items in items_by_split.items():
        for item in items:
            splits[item.patient].add(split)
    for patient, found in sorted(splits.items()):
        if len(found) > 1:
            names = " and ".join(sorted(found))
            raise DatalistError(
                f"{path}: patient {shown(patient)} is in {names}; put all slides of a patient in one split"
            )


def load_annotation(item: Mapping[str, Any], slide_size: Size | None, slide_mpp: float | None) -> Annotation:
    """The annotation of a datalist item in level-0 pixels of its slide, or of its region where it has one.

    A mask is scaled to the slide by `label_mpp` / `mpp`, or by the two widths where one of them is unknown.

    Args:
        item: as `read_datalist` gives it.
        slide_size: level-0 size of the slide (of the region where the item has one); `None` when unknown.
        slide_mpp: micrometres per level-0 pixel; the item's own `mpp` wins.

    Raises:
        AnnotationError, ConfigError: see `read_annotation`; or a mask's size does not fit the slide's.
        SlideReadError: the item has a region, and its slide cannot be opened.
        DatalistError: the item has no label.
    """
    if not item.get("label"):
        raise DatalistError(f"{item.get('image')}: has no annotation; give its item a `label`")
    path = Path(item["label"])
    region = item.get("region")
    whole = slide_size if region is None else _whole_size(item)
    annotation = read_annotation(
        path,
        class_map=item.get("class_map"),
        mask_downsample=_mask_downsample(item, path, whole, item.get("mpp") or slide_mpp),
        mask_values=item.get("mask_values"),
        min_area_px=item.get("min_area_px") or 0.0,
        slide_id=item.get("slide"),
        slide_size=whole,
        complete=item.get("complete", True),
    )
    return annotation if region is None else annotation.within(region.x, region.y, region.width, region.height)


def _whole_size(item: Mapping[str, Any]) -> Size:
    with open_slide(item["image"]) as slide:
        return slide.size


def _mask_downsample(item: Mapping[str, Any], path: Path, slide_size: Size | None, mpp: float | None) -> float:
    if suffix_of(path) not in MASK_SUFFIXES or not path.is_file():
        return 1.0
    label_mpp = item.get("label_mpp")
    if slide_size is None:
        return label_mpp / mpp if label_mpp and mpp else 1.0
    width, height = mask_size(path)
    downsample = label_mpp / mpp if label_mpp and mpp else slide_size.width / width
    for mask_px, slide_px in ((width, slide_size.width), (height, slide_size.height)):
        if abs(mask_px * downsample - slide_px) > max(FIT_TOLERANCE * slide_px, 2 * downsample, 2):
            raise AnnotationError(
                f"{path}: mask of {width} x {height} px, {downsample:.4g} slide px each, does not fit the slide of "
                f"{slide_size.width} x {slide_size.height} px; check `mpp` and `label_mpp`"
            )
    return float(downsample)


def item_of_row(row: Mapping[str, Any], folder: Path, where: str) -> DatalistItem:
    """The item of one entry of a file in `folder`; `DatalistError` on a bad entry names it, `where`."""
    unknown = sorted(set(row) - set(KEYS))
    if unknown:
        raise DatalistError(f"{where}: unknown key {shown(unknown[0])}; known are {', '.join(KEYS)}")
    missing = [key for key in _REQUIRED if row.get(key) in (None, "")]
    if missing:
        raise DatalistError(f"{where}: has no {missing[0]!r}; every item needs {', '.join(_REQUIRED)}")
    values: dict[str, Any] = {key: value for key, value in row.items() if value is not None}
    for key, value in values.items():
        _check_type(key, value, where)
    values.update({key: Path(os.path.normpath(folder / values[key])) for key in PATH_KEYS if key in values})
    if "region" in values:
        values["region"] = Rect(*values["region"])
    if "classes" in values:
        values["classes"] = tuple(values["classes"])
    return DatalistItem(**values)


def _check_type(key: str, value: Any, where: str) -> None:
    if key in ("mpp", "label_mpp"):
        good, wanted = _is_number(value) and 0 < value < _LARGEST, "a positive number"
    elif key == "min_area_px":
        good, wanted = _is_number(value) and 0 <= value < _LARGEST, "a number from 0"
    elif key == "region":
        is_list = isinstance(value, list) and len(value) == len(fields(Rect)) and all(type(v) is int for v in value)
        good, wanted = is_list and min(value[2:]) > 0, "[x, y, width, height] in whole pixels"
    elif key == "complete":
        good, wanted = isinstance(value, bool), "true or false"
    elif key == "classes":
        good, wanted = isinstance(value, list) and all(isinstance(v, str) for v in value), "a list of names"
    elif key in ("class_map", "mask_values"):
        good, wanted = isinstance(value, dict) and all(isinstance(v, str) for v in value.values()), "a table of names"
    else:
        good, wanted = isinstance(value, str) and "\0" not in value, "text"
    if not good:
        raise DatalistError(f"{where}: {key} is {shown(value)}; it must be {wanted}")


def _is_number(value: Any) -> bool:
    return isinstance(value, get_args(int | float)) and not isinstance(value, bool)
