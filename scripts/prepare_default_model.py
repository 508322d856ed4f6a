"""Write the datalists that the committed model is trained on: real PAS fields and patches, phantoms, crops to paste.

    python scripts/prepare_default_model.py --data DATA --output_dir runs/default_model
    python -m monai.bundle run --config_file configs/train.yaml --datalist runs/default_model/datalist.json \
        --paste_datalist runs/default_model/crops.json --output_dir runs/default_model
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

from tqdm import tqdm

from bundle.data.datalist import DatalistItem, write_datalist
from bundle.data.presets import ItemsBySplit, preset_items
from bundle.geometry import Size
from bundle.phantom import STAINS, Phantom, PhantomSpec, write_phantom

PATCH_MPP = 0.5
"""The patches state no scale; their tubules measure about 50 µm across at this one."""

TUBULE_PATCHES = ("HE", "PAS")
"""Patches without a glomerulus: all of them is background. The other stains' patches hold an unlabelled one."""

PHANTOM_SIZE = Size(4500, 3000)
PHANTOM_MPP = 1.0


def main() -> None:
    """Parse the arguments and write datalist.json and crops.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with fields/, crops/ and patches/")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for the datalists and the phantoms")
    parser.add_argument("--phantoms", type=int, default=4, help="phantom slides per stain for training (default: 4)")
    arguments = parser.parse_args()

    items: ItemsBySplit = defaultdict(list, preset_items("fields", arguments.data / "fields"))
    items["training"] += patches(arguments.data / "patches", arguments.output_dir)
    for stain_index, stain in enumerate(STAINS):
        for number in tqdm(range(arguments.phantoms + 1), desc=f"phantoms {stain}"):
            spec = PhantomSpec(PHANTOM_SIZE, PHANTOM_MPP, stain, seed=100 * stain_index + number)
            path = write_phantom(Phantom(spec), arguments.output_dir / "phantoms" / f"{stain}_{number}.tif")
            name = f"phantom_{stain}_{number}"
            item = DatalistItem(image=path, label=path.with_suffix(".geojson"), patient=name, stain=stain, slide=name)
            items["training" if number < arguments.phantoms else "validation"].append(item)
    write_datalist(items, arguments.output_dir / "datalist.json")
    write_datalist(preset_items("crops", arguments.data / "crops"), arguments.output_dir / "crops.json")


def patches(folder: Path, output_dir: Path) -> list[DatalistItem]:
    """The patches that show tubules only, with an annotation that says so."""
    empty = output_dir / "no_glomeruli.geojson"
    empty.parent.mkdir(parents=True, exist_ok=True)
    empty.write_text(json.dumps({"type": "FeatureCollection", "features": []}), encoding="utf-8")
    return [
        DatalistItem(
            folder / f"{stain}.png", f"patch_{stain}", stain, label=empty, mpp=PATCH_MPP, slide=f"patch_{stain}"
        )
        for stain in TUBULE_PATCHES
    ]


if __name__ == "__main__":
    main()
