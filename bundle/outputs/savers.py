"""Write what was found on a slide: mask, polygons, overlay, summary. Each file appears whole or not at all."""

import json
import platform
from abc import abstractmethod
from collections.abc import Hashable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from numpy.typing import NDArray
from PIL import Image

from bundle import __version__
from bundle.atomic import atomic_path, write_text
from bundle.classes import GLOBAL, GLOMERULUS_CLASSES
from bundle.data.annotations import Annotation, write_geojson
from bundle.data.medical import write_medical
from bundle.evaluation.triage import DECISIONS
from bundle.hashing import file_sha256
from bundle.outputs.glomeruli import AREA, PROBABILITY, count_by_class
from bundle.outputs.overlay import draw_overlay
from bundle.outputs.pyramid import write_pyramid
from bundle.slide import Slide
from bundle.stream.prediction import ClassMap


class SaveOutputd(MapTransform):
    """Base of the savers: gives each its slide, its glomeruli and its folder.

    Args:
        keys: the glomeruli's key, an `Annotation`, unless the saver says otherwise.
        output_dir: each slide gets the sub-folder of its "name", or this folder itself where it has none.
        slide_key: key of the open slide.
    """

    def __init__(self, keys: KeysCollection, output_dir: Path | str, slide_key: str = "image") -> None:
        super().__init__(keys)
        self.output_dir = Path(output_dir)
        self.slide_key = slide_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item, unchanged."""
        for key in self.key_iterator(dict(data)):
            self.save(data[self.slide_key], data[key], self.output_dir / data.get("name", ""))
        return dict(data)

    @abstractmethod
    def save(self, slide: Slide, glomeruli: Annotation, folder: Path) -> None:
        """Write the output of one slide into `folder`.

        Raises:
            OutputError: it cannot be written.
            SlideReadError: the slide's pixel data is damaged, where it is read.
        """


class SaveMaskd(SaveOutputd):
    """mask.tif: tiled, pyramidal, uint8, of the slide's own size; 0 is background, 1 to 3 are the classes."""

    def save(self, slide: Slide, glomeruli: Annotation, folder: Path) -> None:
        """Rasterize the polygons band by band, so that mask and polygons agree at every zoom."""
        write_pyramid(
            folder / "mask.tif",
            slide.size,
            lambda x, y, width, height: glomeruli.rasterize(x, y, width, height, 1.0),
            mpp=slide.mpp,
            channels=1,
            compression="deflate",
            downsampling="nearest",
            description="; ".join(f"{c.index} {c.name}" for c in GLOMERULUS_CLASSES),
        )


class SaveProbabilityd(SaveOutputd):
    """probability.tif: of any glomerulus, tiled, pyramidal, uint8 (255 is certain), at model resolution.

    Args:
        keys: the prediction's key, a `ClassMap`.
        output_dir: see `SaveOutputd`.
    """

    def save(self, slide: Slide, prediction: ClassMap, folder: Path) -> None:  # type: ignore[override]
        """Write the plane band by band."""

        def read(x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
            rows = prediction.foreground[y : y + height, x : x + width].copy()
            prediction.release()
            return rows

        write_pyramid(
            folder / "probability.tif",
            prediction.size,
            read,
            mpp=slide.mpp * prediction.downsample if slide.mpp else None,
            channels=1,
            compression="deflate",
            downsampling="mean",
            description="probability of any glomerulus, 0 to 255",
        )


class SaveGeoJSONd(SaveOutputd):
    """glomeruli.geojson: what QuPath opens; class, colour, area in µm², mean probability; level-0 pixels."""

    def save(self, slide: Slide, glomeruli: Annotation, folder: Path) -> None:
        """Write the polygons."""
        write_geojson(glomeruli, folder / "glomeruli.geojson")


class SaveOverlayd(SaveOutputd):
    """overlay.png: the slide with every outline in its class's colour and a legend.

    Args:
        max_size_px: longer side of the slide in the picture.
    """

    def __init__(self, *args: Any, max_size_px: int = 2000, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.max_size_px = max_size_px

    def save(self, slide: Slide, glomeruli: Annotation, folder: Path) -> None:
        """Draw and write the picture."""
        picture = draw_overlay(slide, glomeruli, self.max_size_px)
        with atomic_path(folder / "overlay.png") as temporary:
            # The default, 6, takes 1.6 times as long for 2 % fewer bytes.
            Image.fromarray(picture).save(temporary, compress_level=1)


class SaveSummaryd(SaveOutputd):
    """summary.json: counts, percentage globally sclerotic, areas, and where all of it came from.

    Args:
        provenance: further facts to record, e.g. weights file and config.
    """

    def __init__(self, *args: Any, provenance: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.provenance = dict(provenance or {})

    def save(self, slide: Slide, glomeruli: Annotation, folder: Path) -> None:
        """Write the summary."""
        text = json.dumps(summary(slide, glomeruli, self.provenance), indent=2, ensure_ascii=False)
        write_text(folder / "summary.json", text + "\n")


class SaveRegionMaskd(MapTransform):
    """NAME_mask.nii.gz (or .mha, .nrrd): class indices of a region with its spacing, as 3D Slicer opens them.

    Args:
        keys: class indices, shape (1, H, W); the item's "name" names the file, its "mpp" is the spacing, um per px.
        output_dir: folder of the file.
        suffix: ".nii.gz", ".mha" or ".nrrd".
    """

    def __init__(self, keys: KeysCollection, output_dir: Path | str, suffix: str = ".nii.gz") -> None:
        super().__init__(keys)
        self.output_dir = Path(output_dir)
        self.suffix = suffix

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item, unchanged.

        Raises:
            OutputError: the file cannot be written, or `suffix` is another.
        """
        for key in self.key_iterator(dict(data)):
            classes = np.asarray(data[key])[0].astype(np.uint8)
            write_medical(classes, self.output_dir / f"{data['name']}_mask{self.suffix}", float(data["mpp"]))
        return dict(data)


def summary(slide: Slide, glomeruli: Annotation, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What summary.json says of a slide.

    Percentages are of all glomeruli, `None` where there are none; areas are `None` where the µm/px is unknown.
    """
    counts = count_by_class(glomeruli)
    total = sum(counts.values())
    per_class = {}
    for glomerulus_class in GLOMERULUS_CLASSES:
        measured = [g.properties["measurements"] for g in glomeruli.glomeruli if g.label == glomerulus_class.index]
        per_class[glomerulus_class.name] = {
            "count": len(measured),
            "area_um2": round(sum((m[AREA] for m in measured), 0.0), 1) if slide.mpp else None,
            "mean_probability": round(float(np.mean([m[PROBABILITY] for m in measured])), 4) if measured else None,
        }
    return {
        "slide": {
            "file": slide.path.name,
            "sha256": file_sha256(slide.path),
            "width_px": slide.size.width,
            "height_px": slide.size.height,
            "mpp": slide.mpp,
            "offset_in_file_px": [slide.bounds.x, slide.bounds.y],
            "reader": slide.reader,
        },
        "glomeruli": total,
        "classes": per_class,
        "percent_globally_sclerotic": round(100 * counts[GLOBAL.name] / total, 2) if total else None,
        **_triage(glomeruli),
        "provenance": {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "bundle": __version__,
            "python": platform.python_version(),
            "packages": {name: version(name) for name in ("monai", "torch", "numpy")},
            **{key: _fact(value) for key, value in provenance.items()},
        },
    }


def _triage(glomeruli: Annotation) -> dict[str, Any]:
    """How many glomeruli were ruled in, ruled out and left for review, where they were judged at all."""
    judged = [g.properties for g in glomeruli.glomeruli if "triage" in g.properties]
    if not judged:
        return {}
    counts = {name: sum(p["triage"] == name for p in judged) for name in DECISIONS}
    return {"triage": counts | {"abstained": sum(bool(p["abstain"]) for p in judged)}}


def _fact(value: Any) -> Any:
    """Files are recorded by name and hash, everything else as it is."""
    if isinstance(value, str | Path) and Path(value).is_file():
        return {"file": Path(value).name, "sha256": file_sha256(value)}
    return value
