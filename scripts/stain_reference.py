"""Print the stains of slides or images as the reference that configs/inference.yaml normalises to.

python scripts/stain_reference.py IMAGE [IMAGE ...] --mpp 1.0
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bundle.errors import BundleError, SlideReadError
from bundle.slide import open_slide
from bundle.transforms.normalise import estimate_stains, tissue_pixels


def main(arguments: list[str] | None = None) -> int:
    """Print the reference as YAML; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+", help="slides or images of one stain and laboratory")
    parser.add_argument("--mpp", type=float, help="um per pixel, where the files do not say it")
    parser.add_argument("--at", type=float, default=4.0, help="um per pixel at which they are looked at (default: 4)")
    options = parser.parse_args(arguments)
    pixels = []
    try:
        for image in tqdm(options.images, unit="image", disable=None):
            with open_slide(image, mpp=options.mpp) as slide:
                slide.require_mpp()
                pixels.append(tissue_pixels(slide, options.at))
        stains = estimate_stains(np.concatenate(pixels))
        if stains is None:
            raise SlideReadError(f"{options.images[0]}: too little tissue, or its two stains cannot be told apart")
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("vectors:", [[round(float(value), 4) for value in vector] for vector in stains.vectors])
    print("strengths:", [round(float(value), 4) for value in stains.strengths])
    return 0


if __name__ == "__main__":
    sys.exit(main())
