"""Crops of annotated glomeruli: the study's second level of evaluation, beside whole slides."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bundle.classes import CLASS_NAMES
from bundle.data.datalist import load_annotation
from bundle.geometry import Rect
from bundle.slide import open_slide


def glomerulus_crops(items: Sequence[Mapping[str, Any]], margin_um: float = 150.0) -> list[dict[str, Any]]:
    """One item for each annotated glomerulus of `items`: its bounding box with a margin, as a "region" of its slide.

    Args:
        items: datalist items with annotations.
        margin_um: tissue around the box, µm, as far as the slide reaches.

    Returns:
        Items with "region" (level-0 pixels); "crop": number on its slide and class of the glomerulus; "glomerulus":
        its number among the objects of the crop, as `Annotation.rasterize_instances` counts them.

    Raises:
        UnknownResolutionError: a slide's µm per pixel is not known.
        SlideReadError, ConfigError: see `open_slide`.
        AnnotationError, DatalistError: see `load_annotation`.
    """
    crops = []
    for item in items:
        with open_slide(item["image"], mpp=item.get("mpp"), region=item.get("region")) as slide:
            margin = margin_um / slide.require_mpp()
            frame = item.get("region") or Rect(0, 0, slide.size.width, slide.size.height)
            annotation = load_annotation(item, slide.size, slide.mpp)
            for number, glomerulus in enumerate(annotation.glomeruli, start=1):
                if not 1 <= glomerulus.label <= len(CLASS_NAMES):
                    continue
                region = _box(glomerulus.polygon.bounds, margin, frame)
                name = f"{number} {CLASS_NAMES[glomerulus.label - 1]}"
                window = (region.x - frame.x, region.y - frame.y, region.width, region.height)
                place = len(replace(annotation, glomeruli=annotation.glomeruli[:number]).within(*window).glomeruli)
                crops.append({**item, "region": region, "crop": name, "glomerulus": place})
    return crops


def _box(bounds: tuple[float, float, float, float], margin: float, frame: Rect) -> Rect:
    """`bounds` (left, top, right, bottom, relative to `frame`) grown by `margin` and cut to `frame`, level-0 pixels."""
    left, top = (max(0, int(low - margin)) for low in bounds[:2])
    right = min(frame.width, int(bounds[2] + margin) + 1)
    bottom = min(frame.height, int(bounds[3] + margin) + 1)
    return Rect(frame.x + left, frame.y + top, right - left, bottom - top)
