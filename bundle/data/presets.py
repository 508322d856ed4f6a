"""Datalists of public data sets whose layout is known, with the splits that their tables state.

A preset is a function from the data set's folder (and the µm that a crop stands for) to items by split; those with a
table raise `DatalistError` where it is not there.
"""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bundle.classes import GLOBAL, NORMAL
from bundle.data.datalist import DatalistItem
from bundle.errors import DatalistError

ItemsBySplit = dict[str, list[DatalistItem]]

DEFAULT_CROP_UM: Final = 200.0
"""A glomerulus's box measures about 200 µm across; crops that are cut to it have lost their scale."""

_CROP_PX: Final = 224
_REGION_SPECK_PX: Final = 200
"""Objects of the region masks have either under 50 px (specks of the drawing tool) or over 200 px, of 1 µm."""
_FIELD_COLUMNS: Final = 14
_FIELD_BLOCK_ROWS: Final = 4
_FIELD_VALIDATION_BLOCK: Final = 2


def regions(root: Path, crop_um: float = DEFAULT_CROP_UM) -> ItemsBySplit:
    """Kidney regions with index masks, split by slide as `regions.csv` says; a slide counts as a patient."""
    found: ItemsBySplit = defaultdict(list)
    for row in _rows(root / "regions.csv"):
        item = DatalistItem(
            image=root / "images" / f"{row['id']}.jpg",
            label=root / "masks" / f"{row['id']}.png",
            patient=row["slide"],
            stain=row["stain"],
            mpp=float(row["image_um_per_px"]),
            label_mpp=float(row["mask_um_per_px"]),
            slide=row["id"],
            mask_values={"1": NORMAL.name, "2": GLOBAL.name},
            min_area_px=_REGION_SPECK_PX,
        )
        found[row["split"]].append(item)
    return found


def fields(root: Path, crop_um: float = DEFAULT_CROP_UM) -> ItemsBySplit:
    """Fields of one PAS slide with instance masks, split by position.

    A field's number is its place in rows of 14 on the slide. Blocks of 4 rows stand for patients, since fields of one
    block share cut glomeruli; the last block is validation.
    """
    found: ItemsBySplit = defaultdict(list)
    for image in sorted((root / "images").glob("*.jpg"), key=lambda path: int(path.stem)):
        block = int(image.stem) // _FIELD_COLUMNS // _FIELD_BLOCK_ROWS
        item = DatalistItem(
            image=image,
            label=root / "masks" / f"{image.stem}.png",
            patient=f"field_block_{block}",
            stain="PAS",
            mpp=1.0,
            label_mpp=1.0,
            slide=f"field_{image.stem}",
            mask_values={"instances": NORMAL.name},
        )
        found["validation" if block == _FIELD_VALIDATION_BLOCK else "training"].append(item)
    return found


def crops(root: Path, crop_um: float = DEFAULT_CROP_UM) -> ItemsBySplit:
    """Crops of one PAS glomerulus each, split by slide as `crops.csv` says; a crop is taken to be `crop_um` wide."""
    names = {"not_global": NORMAL.name, "global": GLOBAL.name}
    found: ItemsBySplit = defaultdict(list)
    for row in _rows(root / "crops.csv"):
        item = DatalistItem(
            image=root / "images" / f"{row['id']}.jpg",
            label=root / "masks" / f"{row['id']}.png",
            patient=row["slide"],
            stain="PAS",
            mpp=crop_um / _CROP_PX,
            label_mpp=crop_um / _CROP_PX,
            slide=row["id"],
            # White on black with grey borders.
            mask_values={">127": names[row["label"]]},
        )
        found[row["split"]].append(item)
    return found


def stains(root: Path, crop_um: float = DEFAULT_CROP_UM) -> ItemsBySplit:
    """Fields in PAMS, Masson and PAS with polygons; for tests only, scale unknown: it has to be given by `mpp`."""
    images = sorted(root.glob("*.jpg"))
    items = [
        DatalistItem(image=i, label=i.with_suffix(".json"), patient=i.stem, stain=i.stem.split("_")[0]) for i in images
    ]
    return {"test": items}


def kidney_slides(root: Path, crop_um: float = DEFAULT_CROP_UM) -> ItemsBySplit:
    """Whole slides put together from the validation regions of `regions`, with GeoJSON beside; validation."""
    images = sorted(root.glob("*.tif"))
    items = [
        DatalistItem(image=i, label=i.with_suffix(".geojson"), patient=i.stem, stain=i.stem.split("_")[0])
        for i in images
    ]
    return {"validation": items}


PRESETS: Final[dict[str, Callable[[Path, float], ItemsBySplit]]] = {
    "regions": regions,
    "fields": fields,
    "crops": crops,
    "stains": stains,
    "kidney_slides": kidney_slides,
}


def preset_items(name: str, root: Path, crop_um: float = DEFAULT_CROP_UM) -> ItemsBySplit:
    """Items by split of the data set `name`, a key of `PRESETS`, in `root`; `DatalistError` when it is not there."""
    found = PRESETS[name](root, crop_um)
    if not any(found.values()):
        raise DatalistError(f"{root}: holds none of the images of the preset {name!r}; check --root")
    return found


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if not path.is_file():
        raise DatalistError(f"{path}: not found; check --root")
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)
