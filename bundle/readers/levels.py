"""Which images of a file are levels of one picture, and where a slide's frame lies in each. Pure functions."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from bundle.errors import ConfigError
from bundle.geometry import Rect, Size
from bundle.readers.base import whole
from bundle.readers.resample import PixelGrid


@dataclass(frozen=True)
class FileLevel:
    """A level in the file: the reader's `index`, its full `size` and the part of it (`frame`) inside the frame.

    With a `reduction` above 1 it is a level that the file lacks, that one shrunk while it is decoded.
    """

    index: int
    size: Size
    downsample: float
    frame: Rect
    reduction: int = 1


FINER = 1 + 1e-3
"""A level this much coarser than asked for still counts as fine enough: stated mpp are rounded."""


def inside_of(rect: Rect, size: Size) -> Rect:
    """Vendors' bounds may reach past the image; all of it if nothing is left."""
    left, top = max(0, rect.x), max(0, rect.y)
    width, height = min(rect.x + rect.width, size.width) - left, min(rect.y + rect.height, size.height) - top
    return Rect(left, top, width, height) if width > 0 and height > 0 else whole(size)


def frame_of(path: Path, bounds: Rect, region: Rect | None) -> Rect:
    """`bounds`, or `region` inside them, in the file's level-0 px; `ConfigError` if it does not lie inside."""
    if region is None:
        return bounds
    inside = region.x >= 0 and region.y >= 0 and region.width > 0 and region.height > 0
    if not inside or region.x + region.width > bounds.width or region.y + region.height > bounds.height:
        raise ConfigError(f"{path}: {region} does not lie inside the slide of {bounds.width} x {bounds.height} px")
    return Rect(bounds.x + region.x, bounds.y + region.y, region.width, region.height)


def file_levels(sizes: tuple[Size, ...], frame: Rect) -> tuple[FileLevel, ...]:
    """The levels that show the same picture as level 0, smaller each time: not a label that a converter put last."""
    levels: list[FileLevel] = []
    for index, size in enumerate(sizes):
        if index and (size.width >= levels[-1].size.width or not _same_aspect(sizes[0], size)):
            continue
        downsample = _downsample(sizes[0], size)
        levels.append(FileLevel(index, size, downsample, _scaled(frame, downsample, size)))
    return tuple(levels)


def readable_levels(levels: tuple[FileLevel, ...], reductions: tuple[int, ...], frame: Rect) -> tuple[FileLevel, ...]:
    """`levels` and between them, where the file has none, those that shrinking the next finer one gives; finest first.

    A stored level wins over a shrunk one that is coarser: it has fewer bytes to decode.
    """
    limits = [level.downsample for level in levels[1:]] + [math.inf]
    return tuple(
        level if reduction == 1 else _reduced(level, reduction, frame)
        for level, limit in zip(levels, limits, strict=True)
        for reduction in (1, *reductions)
        if reduction == 1 or level.downsample * reduction * FINER < limit
    )


def fine_enough(levels: tuple[FileLevel, ...], downsample: float) -> FileLevel:
    """The coarsest of `levels` for pixels of `downsample` level-0 px; the finest if none is fine enough."""
    return next((level for level in reversed(levels) if level.downsample <= downsample * FINER), levels[0])


def in_level(grid: PixelGrid, level: FileLevel, frame: Rect) -> PixelGrid:
    """`grid`, in level-0 px of the frame, in px of `level`: the frame need not start on a whole pixel of the level."""
    return PixelGrid(
        x=(frame.x + grid.x) / level.downsample - level.frame.x,
        y=(frame.y + grid.y) / level.downsample - level.frame.y,
        width=grid.width,
        height=grid.height,
        scale_x=grid.scale_x / level.downsample,
        scale_y=grid.scale_y / level.downsample,
    )


def _reduced(level: FileLevel, reduction: int, frame: Rect) -> FileLevel:
    size = Size(-(-level.size.width // reduction), -(-level.size.height // reduction))
    downsample = level.downsample * reduction
    return replace(level, size=size, downsample=downsample, frame=_scaled(frame, downsample, size), reduction=reduction)


def _same_aspect(full: Size, size: Size) -> bool:
    # A reduced side is rounded up or down to a whole pixel.
    tolerance = 0.01 + 1 / size.width + 1 / size.height
    return abs(full.width * size.height / (full.height * size.width) - 1) <= tolerance


def _downsample(full: Size, size: Size) -> float:
    """Level-0 px per px. Writers cut or pad a level's last pixel: 7331/3665 is a downsample of 2, not of 2.0003."""
    ratio = math.sqrt(full.width * full.height / (size.width * size.height))
    nearest = max(1, round(ratio))
    sides = ((full.width, size.width), (full.height, size.height))
    if all(side // nearest <= reduced <= -(-side // nearest) for side, reduced in sides):
        return float(nearest)
    return ratio


def _scaled(frame: Rect, downsample: float, size: Size) -> Rect:
    left, top = (
        min(round(edge / downsample), side - 1) for edge, side in ((frame.x, size.width), (frame.y, size.height))
    )
    right = min(math.ceil((frame.x + frame.width) / downsample), size.width)
    bottom = min(math.ceil((frame.y + frame.height) / downsample), size.height)
    return Rect(left, top, max(1, right - left), max(1, bottom - top))
