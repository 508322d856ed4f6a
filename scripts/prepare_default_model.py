"""Write the datalists that the committed model is trained on: real fields, tiles and patches, phantoms, crops to paste.

    python scripts/prepare_default_model.py --data DATA --output_dir runs/default_model
    python -m monai.bundle run --config_file "['configs/train.yaml','configs/default_model.yaml']" \
        --datalist runs/default_model/datalist.json --paste_datalist runs/default_model/crops.json \
        --output_dir runs/default_model

few_shot.json has all of them, crops too, for configs/train_seggpt.yaml.
"""

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bundle.classes import NORMAL
from bundle.data.datalist import DatalistItem, write_datalist
from bundle.data.presets import ItemsBySplit, preset_items
from bundle.errors import BundleError
from bundle.geometry import Size
from bundle.phantom import STAINS, Phantom, PhantomSpec, write_phantom

PATCH_MPP = 0.5
"""The patches state no scale; their tubules measure about 50 µm across at this one."""

PATCH_GLOMERULI: dict[str, list[tuple[str, tuple[float, float, float, float]]]] = {
    "HE": [],
    "PAS": [],
    "silver": [("ignore", (300, -180, 225, 360))],
    "sirius_red": [("Normal", (100, 565, 395, 365)), ("ignore", (-160, 395, 260, 180))],
}
"""The patches' glomeruli as this project's authors see them: class, and left, top, width, height of an ellipse in
pixels. What one border cuts or what is too dark to class is ignored in training."""

PATCH_STAINS = {"silver": "PAMS", "sirius_red": "Sirius red"}

TILE_MPP = 8.0
"""The 1/16 scale tiles of a HuBMAP slide, 0.5 µm per pixel in full."""

FIELD_GROUPS = 4
"""Tiles are drawn evenly from patients: each of the fields' two blocks counts as so many."""

PHANTOM_SIZE = Size(3000, 2000)
PHANTOM_MPP = 1.0


def main() -> int:
    """Parse the arguments and write the datalists; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with fields/, crops/, patches/ and annotations/hubmap/"
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for the datalists and the phantoms")
    parser.add_argument("--phantoms", type=int, default=1, help="phantom slides per stain for training (default: 1)")
    arguments = parser.parse_args()
    try:
        _prepare(arguments)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _prepare(arguments: argparse.Namespace) -> None:
    items: ItemsBySplit = defaultdict(list, preset_items("fields", arguments.data / "fields"))
    for number, item in enumerate(items["training"]):
        items["training"][number] = replace(item, patient=f"{item.patient}_{number % FIELD_GROUPS}")
    items["training"] += patches(arguments.data / "patches", arguments.output_dir)
    items["training"] += tiles(arguments.data / "annotations" / "hubmap")
    for stain_index, stain in enumerate(STAINS):
        for number in tqdm(range(arguments.phantoms + 1), desc=f"phantoms {stain}"):
            spec = PhantomSpec(PHANTOM_SIZE, PHANTOM_MPP, stain, seed=100 * stain_index + number)
            path = write_phantom(Phantom(spec), arguments.output_dir / "phantoms" / f"{stain}_{number}.tif")
            name = f"phantom_{stain}_{number}"
            split = "training" if number < arguments.phantoms else "validation"
            item = DatalistItem(path, f"phantom_{split}", stain, label=path.with_suffix(".geojson"), slide=name)
            items[split].append(item)
    write_datalist(items, arguments.output_dir / "datalist.json")
    crops = preset_items("crops", arguments.data / "crops")
    write_datalist(crops, arguments.output_dir / "crops.json")
    both = {split: [*items[split], *crops[split]] for split in items}
    write_datalist(both, arguments.output_dir / "few_shot.json")


def patches(folder: Path, output_dir: Path) -> list[DatalistItem]:
    """The patches of four stains, with the annotation of `PATCH_GLOMERULI` written as GeoJSON."""
    output_dir.mkdir(parents=True, exist_ok=True)
    items = []
    for name, glomeruli in PATCH_GLOMERULI.items():
        label = output_dir / f"patch_{name}.geojson"
        features = [_ellipse(class_name, *bounds) for class_name, bounds in glomeruli]
        label.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
        items.append(
            DatalistItem(
                folder / f"{name}.png",
                f"patch_{name}",
                PATCH_STAINS.get(name, name),
                label=label,
                mpp=PATCH_MPP,
                slide=f"patch_{name}",
            )
        )
    return items


def _ellipse(class_name: str, left: float, top: float, width: float, height: float) -> dict[str, Any]:
    turn = np.linspace(0, 2 * np.pi, 65)
    ring = np.column_stack([left + width / 2 * (1 + np.cos(turn)), top + height / 2 * (1 + np.sin(turn))]).tolist()
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[*ring[:-1], ring[0]]]},
        "properties": {"objectType": "annotation", "classification": {"name": class_name}},
    }


def tiles(folder: Path) -> list[DatalistItem]:
    """Tiles of a HuBMAP PAS slide at 1/16 scale, with masks of its glomeruli, taken to be normal."""
    return [
        DatalistItem(
            image,
            "hubmap_2f6ecfcdf",
            "PAS",
            label=folder / "masks_256_red16" / image.name,
            mpp=TILE_MPP,
            label_mpp=TILE_MPP,
            slide=f"tile_{image.stem}",
            mask_values={"1": NORMAL.name},
        )
        for image in sorted((folder / "images_256_red16").glob("*.png"))
    ]


if __name__ == "__main__":
    sys.exit(main())
