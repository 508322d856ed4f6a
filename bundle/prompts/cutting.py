"""Cut the tile of each prompt from its slide, with its mask: where it lies, what is seen, what is known."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from bundle.classes import CLASS_NAMES, IGNORE_INDEX
from bundle.data.annotations import Annotation, Glomerulus
from bundle.data.datalist import DatalistItem, load_annotation
from bundle.errors import PromptError
from bundle.geometry import Rect
from bundle.grid import PhysicalTiles
from bundle.prompts.entries import PromptEntry
from bundle.readers.resample import centres_inside
from bundle.slide import Slide, open_slide


@dataclass(frozen=True)
class PromptTile:
    """A prompt's pixels.

    Attributes:
        image: uint8 (3, S, S) RGB; white off the image (or its region).
        label: uint8 (S, S): 0 to 3, or 255 where nothing is known, which is also off the image.
        region: the tile in level-0 pixels of the slide.
        mpp: micrometres per level-0 pixel.
        number: of the glomerulus in the annotation file, from 1; `None` for a region.
        glomerulus_id: its id in the file.
        shown: part of the tile's side that lies on the image, the smaller one of both sides.
    """

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    region: Rect
    mpp: float
    number: int | None
    glomerulus_id: str
    shown: float


@dataclass(frozen=True)
class OpenItem:
    """An item's slide, seen through its region; the `frame` of that in the slide; its annotation, of the whole slide.

    The annotation stays whole and unshifted, so that a glomerulus keeps its number in the file.
    """

    slide: Slide
    frame: Rect
    annotation: Annotation


@contextmanager
def open_item(item: DatalistItem) -> Iterator[OpenItem]:
    """Open slide and annotation of `item`.

    Raises:
        PromptError: the slide's um per pixel is not known.
        BundleError: as `open_slide` and `load_annotation`.
    """
    with open_slide(item.image, mpp=item.mpp) as whole:
        annotation = load_annotation(replace(item, region=None).as_dict(), whole.size, whole.mpp)
        frame = item.region or Rect(0, 0, whole.size.width, whole.size.height)
    with open_slide(item.image, mpp=item.mpp, region=item.region) as slide:
        if slide.mpp is None:
            raise PromptError(f"{item.image}: states no resolution; give `mpp`, its micrometres per pixel")
        yield OpenItem(slide, frame, annotation)


def cut_tiles(entries: Iterable[PromptEntry], tile_px: int, mpp: float) -> Iterator[PromptTile]:
    """The tiles of `entries` one by one, so that a pool of any size fits in memory.

    Args:
        entries: those of one item should follow each other: it is then opened once.
        tile_px: side of a tile at model resolution, pixels.
        mpp: model resolution, um per pixel.

    Raises:
        PromptError: an entry's glomerulus does not exist, is of another class or off the slide, or its tile shows none.
        ConfigError: no tile has such a `tile_px` and `mpp`.
        BundleError: image or annotation cannot be read.
    """
    tiles = PhysicalTiles(tile_px * mpp, 0.0, mpp)
    for item, group in groupby(entries, key=lambda entry: entry.item):
        with open_item(item) as opened:
            for entry in group:
                yield _cut(entry, opened, tile_px, tiles.downsample(opened.slide.mpp))


def _cut(entry: PromptEntry, opened: OpenItem, side: int, downsample: float) -> PromptTile:
    slide, frame, annotation = opened.slide, opened.frame, opened.annotation
    place = _place(entry, annotation)
    # Whole level-0 pixels, so that the source's region says exactly where the tile lies.
    x, y = (round(middle - side * downsample / 2) for middle in _centre(entry, opened, place))
    image = slide.read_downsampled(x - frame.x, y - frame.y, side, side, downsample).transpose(2, 0, 1)
    left, right = centres_inside(x - frame.x, side, downsample, frame.width)
    top, bottom = centres_inside(y - frame.y, side, downsample, frame.height)
    seen = (slice(top, bottom), slice(left, right))
    label = np.full((side, side), IGNORE_INDEX, np.uint8)
    label[seen] = annotation.rasterize(x, y, side, side, downsample)[seen]
    if not (label == _index(entry)).any():
        raise PromptError(f"{entry.item.label}: the prompt's tile shows no {entry.class_name} glomerulus")
    length = round(side * downsample)
    return PromptTile(
        image=image,
        label=label,
        region=Rect(x, y, length, length),
        mpp=slide.require_mpp(),
        number=None if place is None else place + 1,
        glomerulus_id="" if place is None else annotation.glomeruli[place].id,
        shown=min(right - left, bottom - top) / side,
    )


def _place(entry: PromptEntry, annotation: Annotation) -> int | None:
    """Where in `annotation.glomeruli` the entry's glomerulus is; `None` for a region."""
    label, wanted = entry.item.label, entry.glomerulus
    if wanted is None:
        return None if entry.item.region is not None else _only_one(entry, annotation)
    if isinstance(wanted, int):
        found = [wanted - 1] if 1 <= wanted <= len(annotation.glomeruli) else []
    else:
        found = [i for i, g in enumerate(annotation.glomeruli) if g.id == wanted]
    if not found:
        raise PromptError(f"{label}: has no glomerulus {wanted!r} among its {len(annotation.glomeruli)} objects")
    if len(found) > 1:
        numbers = " and ".join(str(i + 1) for i in found)
        raise PromptError(f"{label}: glomeruli {numbers} share the id {wanted!r}; name one by its number")
    glomerulus = annotation.glomeruli[found[0]]
    if glomerulus.label != _index(entry):
        raise PromptError(f"{label}: glomerulus {wanted!r} is {_class_of(glomerulus)}, not {entry.class_name}")
    return found[0]


def _only_one(entry: PromptEntry, annotation: Annotation) -> int:
    found = [i for i, g in enumerate(annotation.glomeruli) if g.label == _index(entry)]
    if not found:
        raise PromptError(f"{entry.item.label}: holds no {entry.class_name} glomerulus")
    if len(found) > 1:
        raise PromptError(
            f"{entry.item.label}: holds {len(found)} {entry.class_name} glomeruli; name one with `glomerulus`, or give "
            f"a `region`"
        )
    return found[0]


def _centre(entry: PromptEntry, opened: OpenItem, place: int | None) -> tuple[float, float]:
    """Middle (x, y) of the tile, level-0 pixels of the slide."""
    frame = opened.frame
    if place is None:
        return frame.x + frame.width / 2, frame.y + frame.height / 2
    middle = opened.annotation.glomeruli[place].polygon.centroid
    if not (frame.x <= middle.x < frame.x + frame.width and frame.y <= middle.y < frame.y + frame.height):
        what = "slide" if entry.item.region is None else "`region`"
        raise PromptError(
            f"{entry.item.label}: glomerulus {place + 1} has its middle at ({middle.x:.0f}, {middle.y:.0f}) px, off "
            f"the {what} of {frame.width} x {frame.height} px; check that image and label belong together"
        )
    return middle.x, middle.y


def _index(entry: PromptEntry) -> int:
    return CLASS_NAMES.index(entry.class_name) + 1


def _class_of(glomerulus: Glomerulus) -> str:
    return CLASS_NAMES[glomerulus.label - 1] if 1 <= glomerulus.label <= len(CLASS_NAMES) else "of no class"
