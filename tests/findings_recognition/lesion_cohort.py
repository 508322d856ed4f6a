"""A small cohort of one glomerulus an image, two hospitals, whose lesion is to be seen: flat and pale discs."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIDE_PX = 64
MPP = 4.0


def write_images(folder: Path, patients: tuple[str, ...], each: int = 4) -> Path:
    """Images and masks, half of a patient's with global sclerosis; gives the datalist (all in training)."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    rows = []
    for patient in patients:
        for number in range(each):
            sclerotic = number % 2 == 1
            name = f"{patient}-{number}"
            image, mask = glomerulus(sclerotic, random)
            Image.fromarray(image).save(folder / f"{name}.png")
            Image.fromarray(mask).save(folder / f"{name}_mask.png")
            label = "global_sclerosis" if sclerotic else "normal"
            rows.append(
                {
                    "image": f"{name}.png",
                    "label": f"{name}_mask.png",
                    "patient": patient,
                    "stain": "PAS",
                    "mpp": MPP,
                    "slide": name,
                    "mask_values": {"255": label},
                }
            )
    datalist = folder / "datalist.json"
    datalist.write_text(json.dumps({"training": rows}))
    return datalist


def glomerulus(sclerotic: bool, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """RGB (64, 64, 3) and mask of 0 and 255."""
    rows, columns = np.indices((SIDE_PX, SIDE_PX)) - SIDE_PX / 2
    radius = random.uniform(18, 26)
    disc = np.hypot(rows, columns) < radius
    image = np.full((SIDE_PX, SIDE_PX, 3), (225, 205, 220), float)
    colour = random.normal((190, 120, 175) if sclerotic else (160, 90, 160), 12)
    image[disc] = colour + random.normal(0, 6 if sclerotic else 35, (disc.sum(), 1))
    return image.clip(0, 255).astype(np.uint8), (disc * 255).astype(np.uint8)
