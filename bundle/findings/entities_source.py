"""Where glomeruli come from: the slides of a datalist with their annotations, or with the bundle's own polygons."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bundle.classes import IGNORE_INDEX
from bundle.data.annotations import Annotation
from bundle.data.datalist import load_annotation, read_items
from bundle.errors import DatalistError, UnknownResolutionError
from bundle.findings.morphometry import Outline
from bundle.geometry import Rect, Size
from bundle.hashing import file_sha256
from bundle.slide import Slide, open_slide

LABEL_KEYS = ("label_mpp", "class_map", "mask_values", "min_area_px")
"""What a datalist says about its label; it does not hold for polygons of the bundle that replace it."""


@dataclass(frozen=True)
class AnnotatedSlide:
    """A slide with its annotation and what is known of it; coordinates are level-0 px of its frame.

    Attributes:
        slide: id.
        patient: as in the datalist.
        stain: as in the datalist.
        mpp: µm per level-0 px.
        region: the part of the slide that is meant, or None for all of it.
        annotation: its objects, also those to be ignored.
        image: the open slide; None where geometry is all there is.
    """

    slide: str
    patient: str
    stain: str
    mpp: float
    region: Rect | None
    annotation: Annotation
    image: Slide | None

    @property
    def offset(self) -> tuple[int, int]:
        """The frame's corner in the slide, level-0 px."""
        return (0, 0) if self.region is None else (self.region.x, self.region.y)

    def named(self, names: frozenset[str]) -> list[Outline]:
        """Polygons of the background and ignored objects whose name, in lower case, is among `names`."""
        objects = (*self.annotation.glomeruli, *self.annotation.background)
        return [g.polygon for g in objects if g.label in (0, IGNORE_INDEX) and g.name.strip().lower() in names]


@dataclass(frozen=True)
class EntitySource:
    """The slides of a datalist.

    Attributes:
        datalist: JSON or CSV, see docs/data.md; its labels are any annotation that the bundle reads.
        split: training, validation or test; None for all.
        predictions: output folder of inference or of a cohort of the same slides (and regions): its
            SLIDE/glomeruli.geojson replaces the label.
        mpp: µm per level-0 px of slides for which the datalist says none; wins over what a slide says.
        geometry_only: do not open the slides, which may be absent.
    """

    datalist: Path | str | None
    split: str | None = None
    predictions: Path | str | None = None
    mpp: float | None = None
    geometry_only: bool = False

    def items(self) -> list[dict[str, Any]]:
        """The datalist's items with a further key "key", a name that no two of them share.

        Raises:
            DatalistError: the datalist is malformed, or two items are the same part of the same slide.
        """
        if self.datalist is None:
            raise DatalistError("no slides: give --datalist DATALIST.json (scripts/prepare_data.py makes one)")
        by_split = read_items(self.datalist)
        if self.split is not None and self.split not in by_split:
            raise DatalistError(f"{self.datalist}: no split {self.split!r}; choose one of {', '.join(by_split)}")
        found = by_split[self.split] if self.split is not None else itertools.chain.from_iterable(by_split.values())
        items = [{**item, "key": _key(item)} for item in (item.as_dict() for item in found)]
        if not items:
            raise DatalistError(f"{self.datalist}: lists no slide (split {self.split or 'any'})")
        for key, count in Counter(item["key"] for item in items).items():
            if count > 1:
                raise DatalistError(f"{self.datalist}: {count} items are slide {key!r}; tell them apart by `slide`")
        return items

    def fingerprint(self, item: Mapping[str, Any]) -> str:
        """Tells whether an item is what it was: hash of its annotation, and its resolution as given.

        Raises:
            DatalistError: the item has no annotation.
        """
        label = self._labelled(item)["label"]
        return f"{file_sha256(label)} {item.get('mpp') or self.mpp}"

    @contextmanager
    def open(self, item: Mapping[str, Any]) -> Iterator[AnnotatedSlide]:
        """The open slide of an item.

        Raises:
            BundleError: the slide or its annotation is missing or cannot be read, or its resolution is not known.
        """
        labelled = self._labelled(item)
        if self.geometry_only:
            yield self._described(labelled, None)
            return
        with open_slide(item["image"], mpp=item.get("mpp") or self.mpp, region=item.get("region")) as slide:
            yield self._described(labelled, slide)

    def _described(self, item: Mapping[str, Any], slide: Slide | None) -> AnnotatedSlide:
        mpp = slide.require_mpp() if slide is not None else item.get("mpp") or self.mpp
        if mpp is None:
            raise UnknownResolutionError(
                f"{item['label']}: without its slide its resolution is not known; give micrometres per pixel (--mpp)"
            )
        annotation = self._annotation(item, None if slide is None else slide.size, mpp)
        return AnnotatedSlide(item["slide"], item["patient"], item["stain"], mpp, item.get("region"), annotation, slide)

    def _annotation(self, item: Mapping[str, Any], size: Size | None, mpp: float) -> Annotation:
        region = item.get("region")
        if region is None:
            return load_annotation(item, size, mpp)
        # What the bundle found in a region is relative to it already.
        found = load_annotation(item if self.predictions is None else {**item, "region": None}, size, mpp)
        # An object on the border of two regions belongs to that which holds its middle, and to one only.
        own = [g for g in found.glomeruli if g.label == IGNORE_INDEX or _holds(region, g.polygon)]
        return replace(found, glomeruli=tuple(own))

    def _labelled(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """The item with the annotation that is meant."""
        if self.predictions is None:
            label, kept = item.get("label"), dict(item)
        else:
            label = str(Path(self.predictions) / item["slide"] / "glomeruli.geojson")
            kept = {key: value for key, value in item.items() if key not in LABEL_KEYS}
        if not label or not Path(label).is_file():
            raise DatalistError(f"{item['image']}: no annotation at {label}; give a `label`, or --predictions OUTPUTS")
        return {**kept, "label": label}


def _holds(region: Rect, polygon: Outline) -> bool:
    middle = polygon.representative_point()
    return bool(0 <= middle.x < region.width and 0 <= middle.y < region.height)


def _key(item: Mapping[str, Any]) -> str:
    region = item.get("region")
    return str(item["slide"]) + ("" if region is None else f"@{region.x},{region.y},{region.width},{region.height}")
