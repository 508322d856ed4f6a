"""Segment a slide or a region of it by the bundle's streaming inference: the configs are the program."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from monai.bundle import ConfigParser

from bundle.cohort.attempt import run_inference
from bundle.cohort.segmentation import Segmentation, read_segmentation
from bundle.data.annotations import read_annotation, write_geojson
from bundle.slide import open_slide

from .region import of_region, requested_region, seen_around
from .seggpt_files import check_seggpt_files

ROOT: Final = Path(__file__).resolve().parents[2]
POLYGONS: Final = ROOT / "monailabel" / "polygons.yaml"


def segment(
    slide: str,
    output_dir: str,
    config_files: Sequence[str],
    overrides: Mapping[str, Any],
    mpp: float | None = None,
    location: Sequence[int] = (0, 0),
    size: Sequence[int] = (0, 0),
    level: int = 0,
    margin_um: float = 0.0,
) -> dict[str, Any]:
    """Segment a slide, or a region of it with what lies around it.

    Args:
        slide: file.
        output_dir: all outputs of `inference.yaml` for a whole slide, glomeruli.geojson alone for a region.
        config_files: of the workflow.
        overrides: of them, by id.
        mpp: um per level-0 px, where the slide does not say it.
        location: see `requested_region`.
        size: likewise.
        level: likewise.
        margin_um: what the network sees around a region.

    Returns:
        "glomeruli": the GeoJSON file, level-0 px of the whole slide; "region": [x, y, width, height] or None;
        "fingerprint": of config and weights.

    Raises:
        BundleError: slide, region, config or weights cannot be used.
    """
    check_seggpt_files(overrides)
    found = read_segmentation(config_files, overrides, ROOT)
    with open_slide(slide, mpp=mpp) as opened:
        region = requested_region(opened, location, size, level)
        window = None if region is None else seen_around(opened, region, margin_um)
    own: dict[str, Any] = {"slide": slide, "output_dir": output_dir, "mpp": mpp, "progress": False}
    if window is not None:
        own["dataset#data#region"] = [window.x, window.y, window.width, window.height]
        own |= ConfigParser.load_config_file(POLYGONS)
    run_inference(found.files, found.arguments, {**found.overrides, **own})
    path = Path(output_dir) / "glomeruli.geojson"
    if window is not None and region is not None:
        write_geojson(of_region(read_annotation(path), window, region), path)
    return {
        "glomeruli": str(path),
        "region": None if region is None else [region.x, region.y, region.width, region.height],
        "fingerprint": _fingerprint(found),
    }


def fingerprint(config_files: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What `segment` would state as its fingerprint: other weights or settings give another one.

    Raises:
        BundleError: config or weights cannot be used.
    """
    return {"fingerprint": _fingerprint(read_segmentation(config_files, overrides, ROOT))}


def _fingerprint(found: Segmentation) -> str:
    return hashlib.sha256(f"{found.config_hash} {found.weights_hash}".encode()).hexdigest()
