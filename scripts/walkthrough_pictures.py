"""Pictures of docs/walkthrough.md: each function draws one figure with pyplot, as a cell of a notebook does.

Lengths in the pictures are micrometres from the slide's corner. Nothing is saved here: `scripts/walkthrough.py` does.
"""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import shapely
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch, Rectangle
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from bundle.classes import CLASS_NAMES, GLOMERULUS_CLASSES, class_of_index
from bundle.data.annotations import Annotation
from bundle.geometry import Rect
from bundle.grid import Tile, TileGrid
from bundle.outputs.glomeruli import PROBABILITY
from bundle.slide import Slide
from bundle.tissue import TissueMask

TRUTH = "#0050ff"
GLASS = "#9098a0"
WIDTH_IN = 10.0
SLIDE_PX, PANEL_PX = 1200, 400
"""Pixels across at which tissue is read for a picture of the whole slide and for a panel."""


def show_slide(
    slide: Slide,
    mask: NDArray[np.uint8] | None = None,
    found: Annotation | None = None,
    truth: Annotation | None = None,
) -> None:
    """The whole slide; over it a mask (H, W) of any resolution, predicted classes as areas, true outlines."""
    figure, axes = _slide_figure(slide)
    if mask is not None:
        step = max(1, mask.shape[1] // SLIDE_PX)
        _layer(axes, _coloured(mask[::step, ::step]), 0, 0, slide.size.width * _um(slide) / mask.shape[1] * step)
    _glomeruli(axes, slide, found, truth)
    if mask is not None or found is not None:
        _legend(figure, truth is not None)


def show_tiles(slide: Slide, tissue: TissueMask, grid: TileGrid, tiles: Sequence[Tile]) -> None:
    """Outline of the tissue, the tiles that are segmented, where they overlap, and the lengths of one of them."""
    figure, axes = _slide_figure(slide)
    ys, xs = ((np.arange(length) + 0.5) * tissue.downsample * _um(slide) for length in tissue.mask.shape)
    axes.contourf(xs, ys, tissue.mask, levels=[-0.5, 0.5], colors=[GLASS], alpha=0.5)
    axes.contour(xs, ys, tissue.mask, levels=[0.5], colors=["black"], linewidths=1.2)
    cover = np.zeros((grid.size.height, grid.size.width), np.uint8)
    scale = grid.downsample * _um(slide)
    side = grid.tile_px * scale
    for tile in tiles:
        cover[tile.y : tile.y + grid.tile_px, tile.x : tile.x + grid.tile_px] += 1
        axes.add_patch(Rectangle((tile.x * scale, tile.y * scale), side, side, fill=False, ec=TRUTH, lw=0.7))
    _layer(axes, np.where((cover > 1)[..., None], (255, 200, 0, 60), 0), 0, 0, scale)
    _measure(axes, grid, tiles[min(1, len(tiles) - 1)], scale)
    glass, tile_of_tissue = Patch(fc=GLASS, alpha=0.5, label="glass"), Patch(fill=False, ec=TRUTH, label="tile")
    outline = Line2D([], [], color="black", label="outline of the tissue")
    _name(figure, [outline, glass, tile_of_tissue, Patch(fc="#ffc800", alpha=0.3, label="seen by more than one tile")])


def show_tile(
    slide: Slide,
    grid: TileGrid,
    tile: Tile,
    truth: Annotation,
    probabilities: NDArray[np.float32],
    classes: NDArray[np.uint8],
) -> None:
    """A tile with its true outlines, the probabilities of the four channels (4, h, w), and its classes (h, w)."""
    figure = plt.figure(figsize=(WIDTH_IN, 6.9), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    scale = grid.downsample * _um(slide)
    window = Rect(*(round(v * grid.downsample) for v in (tile.x, tile.y, grid.tile_px, grid.tile_px)))
    place = (tile.x * scale, tile.y * scale, scale)
    _tissue(panels[0], slide, window, "what the network sees", grid.downsample)
    _glomeruli(panels[0], slide, truth=truth)
    for axes, values, name in zip(panels[1:], probabilities, ("background", *CLASS_NAMES), strict=False):
        _frame(axes, slide, window, f"P({_words(name)})")
        shown = _layer(axes, values, *place)
    _tissue(panels[-1], slide, window, title="the class of each pixel")
    _layer(panels[-1], _coloured(classes), *place)
    figure.colorbar(shown, ax=panels[[2, 5]], label="probability", shrink=0.7)
    _legend(figure, truth=True)


def show_border(
    slide: Slide,
    grid: TileGrid,
    tiles: Sequence[Tile],
    alone: Sequence[NDArray[np.float32]],
    stitched: NDArray[np.float32],
    centre_px: tuple[float, float],
) -> None:
    """Around `centre_px` (level-0 px): tissue, probability by each of two tiles alone (h, w), and stitched (H, W)."""
    figure = plt.figure(figsize=(WIDTH_IN, 2.7), layout="constrained")
    window, scale = _around(slide, centre_px, 800), grid.downsample * _um(slide)
    panels = figure.subplots(1, 4)
    _tissue(panels[0], slide, window, title="borders of two tiles")
    names, corners = ("left tile alone", "right tile alone", "stitched"), (*tiles, Tile(0, 0))
    for axes, title, tile, values in zip(panels[1:], names, corners, (*alone, stitched), strict=True):
        _frame(axes, slide, window, title)
        shown = _layer(axes, values, tile.x * scale, tile.y * scale, scale)
    for axes in panels:
        for x in (tiles[1].x, tiles[0].x + grid.tile_px):
            axes.axvline(x * scale, color="#00c8ff", lw=1.2, ls="--")
    figure.colorbar(shown, ax=panels[-1], label="P(glomerulus)", shrink=0.7)


def show_glomeruli(slide: Slide, found: Annotation, count: int = 12) -> None:
    """The first `count` objects, each with its outline, class and probability."""
    rows = math.ceil(max(1, min(count, len(found.glomeruli))) / 6)
    figure = plt.figure(figsize=(WIDTH_IN, 1.85 * rows), layout="constrained")
    panels = figure.subplots(rows, 6, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for number, (axes, glomerulus) in enumerate(zip(panels, found.glomeruli, strict=False)):
        centre = glomerulus.polygon.envelope.centroid
        _tissue(axes, slide, _around(slide, (centre.x, centre.y), 350))
        _glomeruli(axes, slide, Annotation((glomerulus,)), face=0.0)
        probability = glomerulus.properties["measurements"][PROBABILITY]
        axes.set_title(f"{number}: {_words(glomerulus.name)}, {probability:.2f}", fontsize=7.5)


def show_overrides(
    slide: Slide, truth: Annotation, found: Mapping[str, Annotation], centre_px: tuple[float, float]
) -> None:
    """The same place of the slide by several settings: predicted classes as areas, true outlines."""
    figure = plt.figure(figsize=(WIDTH_IN, WIDTH_IN / len(found) + 0.6), layout="constrained")
    window = _around(slide, centre_px, 1500)
    for axes, (title, annotation) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
        _tissue(axes, slide, window, title=title)
        _glomeruli(axes, slide, annotation, truth)
    _legend(figure, truth=True)


def _slide_figure(slide: Slide) -> tuple[Figure, Axes]:
    height_in = WIDTH_IN * slide.size.height / slide.size.width
    figure = plt.figure(figsize=(WIDTH_IN, height_in + 0.4), layout="constrained")
    axes = figure.add_subplot()
    _tissue(axes, slide, Rect(0, 0, slide.size.width, slide.size.height))
    return figure, axes


def _um(slide: Slide) -> float:
    return slide.require_mpp()


def _around(slide: Slide, centre_px: tuple[float, float], side_um: float) -> Rect:
    """A square window, moved into the slide where it would reach past an edge, level-0 px."""
    side = min(round(side_um / _um(slide)), slide.size.width, slide.size.height)
    limits = (slide.size.width - side, slide.size.height - side)
    x, y = (min(max(round(c - side / 2), 0), limit) for c, limit in zip(centre_px, limits, strict=True))
    return Rect(x, y, side, side)


def _frame(axes: Axes, slide: Slide, window: Rect, title: str = "") -> None:
    """Empty axes of `window`, level-0 px, in µm; what is drawn later does not widen them."""
    um = _um(slide)
    axes.set(xticks=[], yticks=[], facecolor=GLASS)
    axes.set_title(title, fontsize=10)
    axes.set_xlim(window.x * um, (window.x + window.width) * um)
    axes.set_ylim((window.y + window.height) * um, window.y * um)
    axes.set_autoscale_on(False)


def _tissue(axes: Axes, slide: Slide, window: Rect, title: str = "", downsample: float = 0.0) -> None:
    """The slide's pixels in `window`, `downsample` level-0 px each (0: what the picture can show), and a scale bar."""
    _frame(axes, slide, window, title)
    downsample = downsample or max(1.0, window.width / (SLIDE_PX if window.width == slide.size.width else PANEL_PX))
    width, height = round(window.width / downsample), round(window.height / downsample)
    pixels = slide.read_downsampled(window.x, window.y, width, height, downsample)
    _layer(axes, pixels, window.x * _um(slide), window.y * _um(slide), downsample * _um(slide))
    _scale_bar(axes)


def _layer(axes: Axes, values: NDArray, left: float, top: float, scale: float) -> AxesImage:
    """An image, or a map of probabilities, whose pixels are `scale` µm wide, its corner at (`left`, `top`) µm."""
    height, width = values.shape[:2]
    extent = (left, left + width * scale, top + height * scale, top)
    return axes.imshow(values, extent=extent, cmap="magma", vmin=0, vmax=1)


def _scale_bar(axes: Axes) -> None:
    """A bar of 1, 2 or 5 x 10^n µm, at most a quarter of the picture, at the lower left."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    power = 10 ** math.floor(math.log10((right - left) / 4))
    length = max(n * power for n in (1, 2, 5) if n * power <= (right - left) / 4)
    x, y = left + 0.03 * (right - left), bottom - 0.05 * (bottom - top)
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    box = {"fc": "white", "ec": "none", "alpha": 0.75, "pad": 1.5}
    axes.text(x, y - 0.02 * (bottom - top), text, fontsize=8, va="bottom", bbox=box)
    axes.plot([x, x + length], [y, y], color="black", lw=3, solid_capstyle="butt")


def _measure(axes: Axes, grid: TileGrid, tile: Tile, scale: float) -> None:
    """One tile drawn bold, with its side and its overlap with the next one, both as they are on this slide."""
    left, top, side = tile.x * scale, tile.y * scale, grid.tile_px * scale
    axes.add_patch(Rectangle((left, top), side, side, fill=False, ec="black", lw=2.5))
    later = [x * scale for x in grid.xs if tile.x < x < tile.x + grid.tile_px][:1]
    box = {"fc": "white", "ec": "none", "alpha": 0.85, "pad": 1.5}
    for name, start, height in (("tile", left, 0.45), *(("overlap", x, 0.75) for x in later)):
        y, style = top + height * side, {"arrowstyle": "<->", "lw": 1.5, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (start, y), (left + side, y), arrowprops=style)
        text = f"{name} {left + side - start:.0f} µm"
        axes.text((start + left + side) / 2, y - 0.05 * side, text, ha="center", fontsize=8, bbox=box)


def _coloured(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGBA of class indices, background clear."""
    return np.array([(0, 0, 0, 0), *((*c.rgb, 150) for c in GLOMERULUS_CLASSES)], np.uint8)[classes]


def _glomeruli(
    axes: Axes, slide: Slide, found: Annotation | None = None, truth: Annotation | None = None, face: float = 0.5
) -> None:
    """Predicted objects as areas of opacity `face` in their class's colour, true ones as outlines."""
    for glomerulus in found.glomeruli if found else ():
        colour = tuple(value / 255 for value in class_of_index(glomerulus.label).rgb)
        axes.add_patch(PathPatch(_path(glomerulus.polygon, slide), fc=(*colour, face), ec=colour, lw=1.5))
    for glomerulus in truth.glomeruli if truth else ():
        axes.add_patch(PathPatch(_path(glomerulus.polygon, slide), fill=False, ec=TRUTH, lw=1.2))


def _path(polygon: shapely.Geometry, slide: Slide) -> Outline:
    rings = shapely.get_rings(shapely.get_parts(polygon))
    parts = [Outline(shapely.get_coordinates(ring) * _um(slide), closed=True) for ring in rings]
    return Outline.make_compound_path(*parts)


def _legend(figure: Figure, truth: bool = False) -> None:
    classes = [Patch(fc=tuple(v / 255 for v in c.rgb), label=_words(c.name)) for c in GLOMERULUS_CLASSES]
    _name(figure, [*classes, *([Line2D([], [], color=TRUTH, label="true outline")] if truth else [])])


def _name(figure: Figure, entries: Sequence[Artist]) -> None:
    figure.legend(handles=entries, loc="outside lower center", ncols=len(entries), frameon=False)


def _words(name: str) -> str:
    return name.replace("_", " ")
