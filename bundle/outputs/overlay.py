"""The picture of a slide with its glomeruli outlined, and the legend below it."""

from collections.abc import Mapping

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from bundle.classes import GLOMERULUS_CLASSES
from bundle.data.annotations import Annotation
from bundle.outputs.glomeruli import count_by_class
from bundle.slide import Slide


def draw_overlay(slide: Slide, glomeruli: Annotation, max_size_px: int) -> NDArray[np.uint8]:
    """The slide with every outline in its class's colour and a legend, RGB uint8 (h, w, 3).

    Args:
        slide: open.
        glomeruli: labels 1 to 3, level-0 px of the slide.
        max_size_px: longer side of the slide in the picture; the legend is added below it.

    Raises:
        SlideReadError: the slide's pixel data is damaged.
    """
    picture = np.ascontiguousarray(slide.thumbnail(max_size_px))
    scale = np.array(picture.shape[1::-1]) / (slide.size.width, slide.size.height)
    colours = {c.index: c.rgb for c in GLOMERULUS_CLASSES}
    thickness = max(1, round(max(picture.shape) / 700))
    for glomerulus in glomeruli.glomeruli:
        for ring in shapely.get_rings(shapely.get_parts(glomerulus.polygon)):
            # Eight fractional bits: outlines do not snap to the picture's pixels.
            points = np.round((shapely.get_coordinates(ring) * scale - 0.5) * 256).astype(np.int32)
            cv2.polylines(picture, [points], True, colours[glomerulus.label], thickness, cv2.LINE_AA, 8)
    return np.vstack([picture, _legend(picture.shape[1], count_by_class(glomeruli))])


def _legend(width: int, counts: Mapping[str, int]) -> NDArray[np.uint8]:
    """A white strip that names each class's colour and count, shape (h, `width`, 3)."""
    scale = max(0.35, width / 2200)
    line = round(36 * scale)
    legend = np.full((line * len(counts) + line // 2, width, 3), 255, np.uint8)
    for row, glomerulus_class in enumerate(GLOMERULUS_CLASSES):
        base = line * (row + 1)
        cv2.rectangle(legend, (line // 2, base - line // 2), (line, base), glomerulus_class.rgb, -1)
        text = f"{glomerulus_class.name.replace('_', ' ')}: {counts[glomerulus_class.name]}"
        cv2.putText(legend, text, (line + line // 2, base), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return legend
