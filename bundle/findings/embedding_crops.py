"""Where crops of glomeruli come from: a crop store, or straight from the slides of a datalist.

Both have a `table`, a length and `read(row)`. The datalist is for small sets and for crops cut by others; for many
slides write a store first, for here every read opens a slide.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bundle.classes import CLASS_NAMES
from bundle.data.annotations import Annotation
from bundle.data.datalist import DatalistItem, load_annotation, read_datalist, read_items
from bundle.errors import FindingsError
from bundle.slide import Slide, open_slide

KEY: Final = "entity_id"
ROW: Final = "row"
DESCRIPTORS: Final = (KEY, "slide", "patient", "stain", "class")
"""What every table of glomeruli says of a row, and what goes with its embedding."""

CropPixels = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""RGB (S, S, 3) and mask (S, S), not 0 where the glomerulus is."""


class Crops(Protocol):
    """Crops of glomeruli, all of one size; `bundle.findings.store.CropStore` is one."""

    @property
    def table(self) -> pd.DataFrame:
        """One row a crop, with at least `DESCRIPTORS` and `ROW`."""

    def __len__(self) -> int:
        """Number of crops."""

    def read(self, row: int) -> CropPixels:
        """Pixels and mask of the crop whose `ROW` this is."""


def open_crops(path: Path | str | None, size_px: int = 128, mpp: float = 2.0, split: str | None = None) -> Crops:
    """Crops of a store (a folder) or of a datalist (a .json or .csv file).

    Args:
        path: folder or file.
        size_px: side of a crop of a datalist, pixels; a store has its own.
        mpp: µm per pixel of a crop of a datalist; a store has its own.
        split: of a datalist; `None` for all of it. A store has none.

    Raises:
        FindingsError: there is no such file, or it holds no annotated glomerulus.
        DatalistError: the datalist is malformed or has no such split.
        ConfigError: the store is not finished, or pyarrow is not installed.
        BundleError: a slide or its annotation cannot be read.
    """
    if path is None or not Path(path).exists():
        raise FindingsError(f"{path}: no such crop store or datalist; give one with --crops")
    if Path(path).is_dir():
        from bundle.findings.store import CropStore  # not above: a datalist needs neither it nor what it imports

        return CropStore.open(Path(path))
    if split is not None:
        items = read_datalist(path, split)
    else:
        items = [item.as_dict() for items in read_items(path).values() for item in items]
    crops = DatalistCrops([item for item in items if item.get("label")], size_px, mpp)
    if not len(crops):
        raise FindingsError(f"{path}: no item has an annotated glomerulus of a known class; check its labels")
    return crops


class DatalistCrops:
    """Every annotated glomerulus of a datalist, in the middle of a crop.

    Args:
        items: as `read_datalist` gives them, with annotations; keys beyond those of a datalist become columns.
        size_px: side of a crop, pixels.
        mpp: µm per pixel of a crop.

    Raises:
        FindingsError: two items are the same slide, so that ids would not be unique.
        BundleError: a slide or annotation cannot be read.
    """

    def __init__(self, items: Sequence[Mapping[str, Any]], size_px: int = 128, mpp: float = 2.0) -> None:
        self.items = items
        self.size_px = size_px
        self.mpp = mpp
        self._open: tuple[int, Slide, Annotation] | None = None
        found = [(index, place, row) for index in range(len(items)) for place, row in self._rows(index)]
        self._places = [(index, place) for index, place, _ in found]
        rows = [row for _, _, row in found]
        columns = dict.fromkeys([*DESCRIPTORS, *(key for row in rows for key in row)])
        self.table = pd.DataFrame(rows, columns=list(columns)).assign(**{ROW: range(len(rows))})
        twice = self.table[KEY][self.table[KEY].duplicated()]
        if len(twice):
            raise FindingsError(f"{twice.iloc[0]}: this glomerulus comes twice; give each item its own `slide`")

    def __len__(self) -> int:
        """Number of crops."""
        return len(self.table)

    def read(self, row: int) -> CropPixels:
        """RGB (S, S, 3), white off the slide or region, and mask (S, S) of 0 and 1, both uint8.

        Raises:
            BundleError: the slide cannot be read, or its resolution is not known.
        """
        index, place = self._places[row]
        slide, annotation = self._opened(index)
        left, top, right, bottom = annotation.glomeruli[place].polygon.bounds
        downsample = self.mpp / slide.require_mpp()
        half = self.size_px * downsample / 2
        x, y = (left + right) / 2 - half, (top + bottom) / 2 - half
        image = slide.read_downsampled(x, y, self.size_px, self.size_px, downsample)
        numbers = annotation.rasterize_instances(x, y, self.size_px, self.size_px, downsample)
        return image, (numbers == place + 1).astype(np.uint8)

    def close(self) -> None:
        """Close the slide that is open, if any."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _opened(self, index: int) -> tuple[Slide, Annotation]:
        """Slide and annotation of an item; the last one stays open, for crops are mostly read in order."""
        if self._open is None or self._open[0] != index:
            self.close()
            item = self.items[index]
            slide = open_slide(item["image"], mpp=item.get("mpp"), region=item.get("region"))
            try:
                self._open = (index, slide, load_annotation(item, slide.size, slide.mpp))
            except BaseException:
                slide.close()
                raise
        return self._open[1:]

    def _rows(self, index: int) -> list[tuple[int, dict[str, Any]]]:
        """Place in the annotation and row of the table of every glomerulus of an item."""
        item = self.items[index]
        own = {key: value for key, value in item.items() if key not in DatalistItem.__dataclass_fields__}
        known = {key: str(item[key]) for key in ("slide", "patient", "stain")}
        try:
            _, annotation = self._opened(index)
        finally:
            self.close()
        return [
            (
                place,
                {
                    **known,
                    KEY: f"{known['slide']}/{glomerulus.id or place + 1}",
                    "class": CLASS_NAMES[glomerulus.label - 1],
                    **own,
                },
            )
            for place, glomerulus in enumerate(annotation.glomeruli)
            if 1 <= glomerulus.label <= len(CLASS_NAMES)
        ]
