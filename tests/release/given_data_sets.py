"""DATA/ as the presets of scripts/prepare_data.py know it, of phantoms: crops, regions, fields and stains."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from bundle.classes import GLOBAL, NORMAL
from bundle.phantom import Phantom

FIELD_NUMBERS = (0, 20, 60, 80, 120, 140)
"""Two in each of the preset's three blocks of 4 rows of 14; the last block is validation."""
CROP_PX = 224


def write_data_sets(folder: Path, phantom_of: Callable[[int], Phantom]) -> None:
    """Write all four below `folder`, each of phantoms with other seeds."""
    write_regions(folder / "regions", [phantom_of(seed) for seed in range(20, 24)])
    write_fields(folder / "fields", [phantom_of(seed) for seed in range(30, 36)])
    write_crops(folder / "crops", [phantom_of(seed) for seed in range(40, 48)])
    write_stains(folder / "stains", [phantom_of(seed) for seed in range(50, 54)])


def write_regions(folder: Path, phantoms: Sequence[Phantom]) -> None:
    """Index masks 1 and 2, and regions.csv; the last of the regions is validation."""
    rows = []
    for number, phantom in enumerate(phantoms):
        rgb, truth = pixels(phantom)
        mask = np.select([truth == NORMAL.index, truth == GLOBAL.index], [1, 2]).astype(np.uint8)
        save(folder, f"region_{number}", rgb, mask)
        scale = {"image_um_per_px": phantom.spec.mpp, "mask_um_per_px": phantom.spec.mpp}
        split = "validation" if number == len(phantoms) - 1 else "training"
        rows.append({"id": f"region_{number}", "slide": f"S{number}", "stain": "PAS", "split": split, **scale})
    write_table(folder / "regions.csv", rows)


def write_fields(folder: Path, phantoms: Sequence[Phantom]) -> None:
    """Instance masks, numbered by their place on the slide."""
    for number, phantom in zip(FIELD_NUMBERS, phantoms, strict=True):
        rgb, truth = pixels(phantom)
        save(folder, str(number), rgb, cv2.connectedComponents((truth == NORMAL.index).astype(np.uint8))[1])


def write_crops(folder: Path, phantoms: Sequence[Phantom]) -> None:
    """Glomeruli cut to their boxes, of slides of two hospitals, and crops.csv; each hospital's last is validation."""
    rows = []
    for number, phantom in enumerate(phantoms):
        rgb, truth = pixels(phantom)
        slide = f"{('NORTH', 'SOUTH')[number % 2]}_{number}"
        for index, glomerulus in enumerate(phantom.glomeruli):
            left, top, right, bottom = (max(0, int(edge)) for edge in glomerulus.polygon.bounds)
            window = np.s_[top:bottom, left:right]
            if min(rgb[window].shape) == 0:
                continue
            sclerotic = glomerulus.label == GLOBAL.index
            white = (truth[window] == glomerulus.label).astype(np.uint8) * 255
            sizes: dict[str, Any] = {"dsize": (CROP_PX, CROP_PX)}
            save(folder, f"{slide}_{index}", cv2.resize(rgb[window], **sizes), cv2.resize(white, **sizes))
            split = "validation" if number >= len(phantoms) - 2 else "training"
            label = "global" if sclerotic else "not_global"
            rows.append({"id": f"{slide}_{index}", "slide": slide, "label": label, "split": split})
    write_table(folder / "crops.csv", rows)


def write_stains(folder: Path, phantoms: Sequence[Phantom]) -> None:
    """Images named by their stain, and labelme's JSON beside."""
    folder.mkdir(parents=True)
    for number, phantom in enumerate(phantoms):
        path = folder / f"{('PAMS', 'Masson')[number % 2]}_{number}.jpg"
        Image.fromarray(pixels(phantom)[0]).save(path)
        shapes = [
            {"label": "Normal", "shape_type": "polygon", "points": [list(p) for p in g.polygon.exterior.coords]}
            for g in phantom.glomeruli
        ]
        path.with_suffix(".json").write_text(json.dumps({"shapes": shapes}))


def pixels(phantom: Phantom) -> tuple[np.ndarray, np.ndarray]:
    """Colours (h, w, 3) and labels (h, w) of the whole slide."""
    window = (0, 0, phantom.spec.size.width, phantom.spec.size.height)
    return phantom.read(*window), phantom.truth(*window)


def save(folder: Path, name: str, rgb: np.ndarray, mask: np.ndarray) -> None:
    """images/NAME.jpg and masks/NAME.png."""
    for kind, pixels, suffix in (("images", rgb, "jpg"), ("masks", mask.astype(np.uint8), "png")):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{name}.{suffix}")


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A CSV with the keys of the rows as columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
