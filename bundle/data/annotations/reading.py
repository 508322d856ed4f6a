"""One call for every annotation format: the file's suffix and content say which it is."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bundle.data.annotations.asap import read_asap
from bundle.data.annotations.geojson import read_features
from bundle.data.annotations.hubmap import read_hubmap_csv
from bundle.data.annotations.imagescope import read_imagescope
from bundle.data.annotations.labelme import read_labelme
from bundle.data.annotations.masks import MASK_SUFFIXES, MaskTable, read_mask
from bundle.data.annotations.model import Annotation
from bundle.data.annotations.xmlfile import parse_xml
from bundle.data.medical import suffix_of
from bundle.errors import AnnotationError
from bundle.geometry import Size

JSON_SUFFIXES = (".geojson", ".json")
MAX_TEXT_BYTES = 250_000_000
"""JSON takes up to 25 times its size in memory: 5,000 glomeruli of 1,000 points each have 200 MB."""
ANNOTATION_SUFFIXES = (*JSON_SUFFIXES, ".xml", ".csv", *MASK_SUFFIXES)


def read_annotation(
    path: Path | str,
    *,
    class_map: Mapping[str, str] | None = None,
    mask_downsample: float = 1.0,
    mask_values: Mapping[Any, str] | None = None,
    min_area_px: float = 0.0,
    slide_id: str | None = None,
    slide_size: Size | None = None,
    complete: bool = True,
) -> Annotation:
    """Read QuPath or HuBMAP GeoJSON, labelme JSON, ImageScope or ASAP XML, HuBMAP run-length CSV, or a mask image.

    Args:
        path: the annotation file.
        class_map: class names in the file to `normal`, `segmental_sclerosis`, `global_sclerosis`, `ignore` or
            `background`, ahead of the names that are known anyway (`classmap.DEFAULT_CLASS_MAP`).
        mask_downsample: level-0 pixels per pixel of a mask or run-length mask.
        mask_values: what the values of a mask mean, see `masks.MaskTable`.
        min_area_px: objects of a mask with fewer mask pixels are left out.
        slide_id: row of a run-length CSV.
        slide_size: size of a run-length mask, pixels.
        complete: see `Annotation`.

    Returns:
        The annotation in level-0 pixels.

    Raises:
        AnnotationError: the file is missing, damaged, unsafe or of no known format.
        UnknownClassError: a class name or mask value is in no table.
        ConfigError: `class_map` or `mask_values` makes no sense.
    """
    path = Path(path)
    if not path.is_file():
        raise AnnotationError(f"{path}: no such annotation file")
    suffix = suffix_of(path)
    try:
        if suffix not in MASK_SUFFIXES and path.stat().st_size > MAX_TEXT_BYTES:
            raise AnnotationError(
                f"{path}: {path.stat().st_size / 1e6:.0f} MB of text is too large to read; "
                f"export the glomeruli only, at most {MAX_TEXT_BYTES / 1e6:.0f} MB"
            )
        if suffix in JSON_SUFFIXES:
            found = _read_json(path, class_map)
        elif suffix == ".xml":
            found = _read_xml(path, class_map)
        elif suffix == ".csv":
            found = read_hubmap_csv(path, class_map, slide_id, slide_size, mask_downsample, min_area_px)
        elif suffix in MASK_SUFFIXES:
            found = read_mask(path, MaskTable.parse(mask_values), class_map, mask_downsample, min_area_px)
        else:
            raise AnnotationError(f"{path}: unknown annotation format; known are {', '.join(ANNOTATION_SUFFIXES)}")
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error}); check the file and its permissions") from error
    return replace(found, complete=complete)


def _read_json(path: Path, class_map: Mapping[str, str] | None) -> Annotation:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path}: is no JSON ({error}); export it again") from None
    if isinstance(document, dict) and isinstance(document.get("shapes"), list):
        return read_labelme(document, path, class_map)
    if isinstance(document, dict):
        document = [document] if document.get("type") == "Feature" else document.get("features")
    if not isinstance(document, list):
        raise AnnotationError(f"{path}: is neither GeoJSON (`features`) nor labelme (`shapes`); export it as GeoJSON")
    return read_features(document, path, class_map)


def _read_xml(path: Path, class_map: Mapping[str, str] | None) -> Annotation:
    root = parse_xml(path)
    if root.tag == "Annotations":
        return read_imagescope(root, path, class_map)
    if root.tag == "ASAP_Annotations":
        return read_asap(root, path, class_map)
    raise AnnotationError(f"{path}: <{root.tag}> is neither ImageScope nor ASAP XML; export it as GeoJSON")
