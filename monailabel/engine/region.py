"""Which part of a slide a client asks for, what the network should see around it, and whose glomeruli they are."""

import math
from collections.abc import Sequence
from dataclasses import replace

from bundle.data.annotations import Annotation
from bundle.errors import ConfigError
from bundle.geometry import Rect
from bundle.slide import Slide


def requested_region(slide: Slide, location: Sequence[int], size: Sequence[int], level: int) -> Rect | None:
    """The region of a request, cut to the slide; `None` for the whole slide.

    Args:
        slide: open.
        location: its left and top, level-0 px of the slide's frame, whatever the level (as OpenSlide's `read_region`).
        size: its width and height, px of `level`; 0 or less means the whole slide.
        level: index into the slide's levels.

    Raises:
        ConfigError: no such level, malformed numbers, or a region that lies off the slide.
    """
    if len(location) != 2 or len(size) != 2:
        raise ConfigError(f"{slide.path}: location {location} and size {size} must be two numbers each")
    if not 0 <= level < len(slide.levels):
        raise ConfigError(f"{slide.path}: has no level {level}; it has 0 to {len(slide.levels) - 1}")
    if min(size) <= 0:
        return None
    scale = slide.levels[level].downsample
    width, height = (math.ceil(side * scale) for side in size)
    region = _cut(Rect(int(location[0]), int(location[1]), width, height), slide)
    if region.width <= 0 or region.height <= 0:
        raise ConfigError(
            f"{slide.path}: the region at {tuple(location)} of {width} x {height} px lies off the slide of "
            f"{slide.size.width} x {slide.size.height} px; locations are level-0 pixels"
        )
    return region


def seen_around(slide: Slide, region: Rect, margin_um: float) -> Rect:
    """`region` grown by `margin_um` on every side, cut to the slide: a glomerulus at its edge is then seen whole.

    Raises:
        UnknownResolutionError: the slide's um per pixel is not known.
    """
    margin = math.ceil(margin_um / slide.require_mpp())
    grown = Rect(region.x - margin, region.y - margin, region.width + 2 * margin, region.height + 2 * margin)
    return _cut(grown, slide)


def of_region(seen: Annotation, window: Rect, region: Rect) -> Annotation:
    """The glomeruli found in `window`, in level-0 px of the slide, that belong to `region`.

    A glomerulus belongs to the region that its centroid lies in, whole. So none is cut at a region's edge, and regions
    side by side share none.

    Args:
        seen: relative to the window's corner.
        window: level-0 px of the slide.
        region: likewise.
    """
    placed = seen.shifted(window.x, window.y)
    inside = tuple(g for g in placed.glomeruli if _holds(region, g.polygon.centroid.x, g.polygon.centroid.y))
    return replace(placed, glomeruli=inside)


def _holds(region: Rect, x: float, y: float) -> bool:
    return region.x <= x < region.x + region.width and region.y <= y < region.y + region.height


def _cut(rect: Rect, slide: Slide) -> Rect:
    left, top = max(rect.x, 0), max(rect.y, 0)
    right, bottom = min(rect.x + rect.width, slide.size.width), min(rect.y + rect.height, slide.size.height)
    return Rect(left, top, right - left, bottom - top)
