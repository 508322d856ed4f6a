"""Draw a gallery of a model's failures: glomeruli missed, false ones, and those of another class.

    python -m monai.bundle run --config_file configs/inference.yaml --slide SLIDES --output_dir OUT
    python scripts/failure_gallery.py --datalist datalist.json --split validation --predictions OUT \
        --output failures.png

Each failure is shown in the middle of a square of tissue, first as it is, then with the annotation in blue and the
prediction in its class's colour. The largest glomeruli missed and the surest mistakes come first. Give it slides whose
licence lets their picture be shown.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from bundle.atomic import atomic_path
from bundle.classes import CLASS_NAMES, class_of_index
from bundle.data.annotations import Annotation, Glomerulus, read_annotation
from bundle.data.datalist import load_annotation, read_datalist
from bundle.errors import AnnotationError, BundleError
from bundle.evaluation.instances import matches
from bundle.outputs.glomeruli import PROBABILITY
from bundle.slide import Slide, open_slide

TRUTH_RGB = (0, 60, 255)
COLUMNS, GAP, HEADER = 6, 4, 18


@dataclass(frozen=True)
class Failure:
    """One failure: what it is, its middle in level-0 pixels, and how far up it belongs."""

    kind: str
    middle: tuple[float, float]
    rank: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the gallery; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datalist", type=Path, required=True, help="slides with their annotations")
    parser.add_argument("--split", default="validation", help="of the datalist (default: validation)")
    parser.add_argument("--predictions", type=Path, required=True, help="inference's folder: NAME/glomeruli.geojson")
    parser.add_argument("--output", type=Path, required=True, help="PNG to write")
    parser.add_argument("--most", type=int, default=12, help="pictures of each kind at most (default: 12)")
    parser.add_argument("--field_um", type=float, default=360.0, help="side of a picture, um (default: 360)")
    parser.add_argument("--mpp", type=float, default=3.0, help="um per pixel of the pictures (default: 3)")
    options = parser.parse_args(arguments)
    try:
        found: dict[str, list[tuple[float, NDArray[np.uint8]]]] = {}
        for item in tqdm(read_datalist(options.datalist, options.split), desc="slides"):
            with open_slide(item["image"], mpp=item.get("mpp")) as slide:
                truth = load_annotation(item, slide.size, slide.mpp)
                prediction = read_prediction(options.predictions, Path(item["image"]))
                for failure in failures(prediction, truth):
                    picture = draw(slide, failure.middle, (truth, prediction), options.field_um, options.mpp)
                    found.setdefault(failure.kind, []).append((failure.rank, picture))
        write_gallery(found, options.most, options.output)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(", ".join(f"{len(items)} {kind}" for kind, items in sorted(found.items())) or "no failure")
    if found:
        print(f"written: {options.output}")
    return 0


def read_prediction(folder: Path, image: Path) -> Annotation:
    """The glomeruli that inference found on a slide.

    Raises:
        AnnotationError: inference was not run on it, or its file cannot be read.
    """
    path = folder / image.stem / "glomeruli.geojson"
    if not path.is_file():
        raise AnnotationError(f"{path}: not there; run inference on {image.name} with --output_dir {folder} first")
    return read_annotation(path)


def failures(prediction: Annotation, truth: Annotation) -> list[Failure]:
    """Every annotated glomerulus that is missed or misnamed, and every prediction that is none (IoU 0.5)."""
    judged, partners = matches(prediction, truth)
    found = {id(partner) for partner in partners if partner is not None}
    missed = [g for g in truth.glomeruli if 1 <= g.label <= len(CLASS_NAMES) and id(g) not in found]
    listed = [_failure(f"missed: {class_of_index(g.label).name}", g, g.polygon.area) for g in missed]
    for predicted, partner in zip(judged, partners, strict=True):
        name = class_of_index(predicted.label).name
        surety = float(predicted.properties.get("measurements", {}).get(PROBABILITY, 0))
        if partner is None:
            listed.append(_failure(f"false: {name}", predicted, surety))
        elif partner.label != predicted.label:
            listed.append(_failure(f"{class_of_index(partner.label).name} called {name}", predicted, surety))
    return listed


def _failure(kind: str, glomerulus: Glomerulus, rank: float) -> Failure:
    middle = glomerulus.polygon.centroid
    return Failure(kind.replace("_", " "), (middle.x, middle.y), rank)


def draw(
    slide: Slide, middle: tuple[float, float], sides: tuple[Annotation, Annotation], field_um: float, mpp: float
) -> NDArray[np.uint8]:
    """Tissue about `middle`, and beside it the same with the outlines of (truth, prediction): uint8 RGB (s, 2 s, 3)."""
    side, scale = round(field_um / mpp), mpp / slide.require_mpp()
    corner = np.array(middle) - side * scale / 2
    plain = slide.read_region(float(corner[0]), float(corner[1]), side, side, mpp)
    outlined = plain.copy()
    for number, annotation in enumerate(sides):
        for glomerulus in annotation.glomeruli:
            if 1 <= glomerulus.label <= len(CLASS_NAMES):
                colour = TRUTH_RGB if number == 0 else class_of_index(glomerulus.label).rgb
                for ring in shapely.get_rings(shapely.get_parts(glomerulus.polygon)):
                    points = np.round((shapely.get_coordinates(ring) - corner) / scale).astype(np.int32)
                    cv2.polylines(outlined, [points], True, colour, 1, cv2.LINE_AA)
    return np.hstack([plain, outlined])


def write_gallery(found: dict[str, list[tuple[float, NDArray[np.uint8]]]], most: int, path: Path) -> None:
    """One block of pictures a kind below its name, those of highest rank first.

    Raises:
        OutputError: `path` cannot be written.
    """
    blocks = []
    for kind, items in sorted(found.items()):
        shown = [picture for _, picture in sorted(items, key=lambda item: -item[0])[:most]]
        blocks += [_header(f"{kind} ({len(items)})", shown[0].shape[1]), *_rows(shown)]
    if blocks:
        with atomic_path(path) as temporary:
            Image.fromarray(np.vstack(blocks)).save(temporary, format="PNG")


def _rows(pictures: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    framed = [np.pad(p, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for p in pictures]
    framed += [np.full_like(framed[0], 255)] * (-len(framed) % COLUMNS)
    return [np.hstack(framed[start : start + COLUMNS]) for start in range(0, len(framed), COLUMNS)]


def _header(text: str, picture_width: int) -> NDArray[np.uint8]:
    strip = Image.new("RGB", (COLUMNS * (picture_width + GAP), HEADER), "white")
    ImageDraw.Draw(strip).text((2, 3), text, fill="black")
    return np.asarray(strip)


if __name__ == "__main__":
    sys.exit(main())
