"""The pool to choose prompts from: every glomerulus of a datalist that makes a whole, single-class example."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import shapely

from bundle.classes import CLASS_NAMES
from bundle.data.annotations import Annotation
from bundle.data.annotations.masks import MASK_SUFFIXES
from bundle.data.datalist import DatalistItem
from bundle.data.datalist_files import PATH_KEYS
from bundle.data.medical import suffix_of
from bundle.prompts.cutting import OpenItem, open_item
from bundle.prompts.entries import PromptEntry


def prompt_candidates(
    items: Iterable[Mapping[str, Any]], min_area_um2: float = 2000.0, min_visible: float = 0.9
) -> list[PromptEntry]:
    """An entry for each annotated glomerulus; items without annotation have none.

    A glomerulus that several regions of a slide show is one candidate, in the region that shows most of it.

    Args:
        items: as `read_datalist` gives them.
        min_area_um2: smaller objects are left out, as in inference.
        min_visible: part of its area that lies on the image or the item's region; one that is cut teaches little.

    Raises:
        PromptError: an image's um per pixel is not known.
        BundleError: an image or annotation cannot be read.
    """
    best: dict[tuple[Path, Path | None, int], tuple[float, PromptEntry]] = {}
    for item in (_item(row) for row in items if row.get("label")):
        with open_item(item) as opened:
            for number, visible, entry in _glomeruli(item, opened, min_area_um2):
                key = (item.image, item.label, number)
                if visible >= min_visible and (key not in best or visible > best[key][0]):
                    best[key] = (visible, entry)
    return [entry for _, entry in best.values()]


def _glomeruli(item: DatalistItem, opened: OpenItem, min_area_um2: float) -> Iterator[tuple[int, float, PromptEntry]]:
    """Number in the file, visible part of the area and entry of every glomerulus that is large enough."""
    frame = opened.frame
    window = shapely.box(frame.x, frame.y, frame.x + frame.width, frame.y + frame.height)
    um2 = opened.slide.require_mpp() ** 2
    for number, glomerulus in enumerate(opened.annotation.glomeruli, start=1):
        area = glomerulus.polygon.area
        if not 1 <= glomerulus.label <= len(CLASS_NAMES) or area * um2 < min_area_um2:
            continue
        visible = glomerulus.polygon.intersection(window).area / area
        name = _name(item, opened.annotation, number)
        yield number, visible, PromptEntry(item, CLASS_NAMES[glomerulus.label - 1], name)


def _name(item: DatalistItem, annotation: Annotation, number: int) -> str | int:
    """The id that the file gives, where it names one object: it outlives edits of the file; else the number."""
    id = annotation.glomeruli[number - 1].id
    is_mask = item.label is not None and suffix_of(item.label) in MASK_SUFFIXES
    unique = sum(other.id == id for other in annotation.glomeruli) == 1
    return id if id and unique and not is_mask else number


def _item(row: Mapping[str, Any]) -> DatalistItem:
    """The item of a dictionary; what else its annotation holds ("classes") is no matter for one glomerulus."""
    paths = {key: Path(row[key]) for key in PATH_KEYS}
    return DatalistItem(**{**row, **paths, "classes": None})
