"""One picture of all prompts with their outlines, to look at before they are used."""

import math
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bundle.atomic import atomic_path
from bundle.classes import GLOMERULUS_CLASSES, IGNORE_INDEX
from bundle.prompts.prompt_set import PromptSet, PromptSource

MAX_COLUMNS: Final = 6
IGNORED_COLOUR: Final = "#6e6e6e"


def write_contact_sheet(prompts: PromptSet, path: Path) -> None:
    """Write the picture: each tile with its outlines in the classes' colours; what is not known is hatched.

    Raises:
        OutputError: `path` cannot be written.
    """
    columns = min(MAX_COLUMNS, len(prompts))
    rows = math.ceil(len(prompts) / columns)
    figure = Figure(figsize=(2.6 * max(columns, 2), 3.0 * rows + 0.5), layout="constrained")
    for i, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.set_axis_off()
        if i < len(prompts):
            _draw(axes, prompts, i)
    legend = [Patch(color=_hex(c.rgb), label=c.name.replace("_", " ")) for c in GLOMERULUS_CLASSES]
    hatched = Patch(facecolor="white", edgecolor=IGNORED_COLOUR, hatch="////", label="ignored")
    figure.legend(handles=[*legend, hatched], loc="outside lower center", ncols=len(legend) + 1, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _draw(axes: Axes, prompts: PromptSet, i: int) -> None:
    label = prompts.labels[i]
    axes.imshow(prompts.images[i].transpose(1, 2, 0), interpolation="nearest")
    unknown = label == IGNORE_INDEX
    if unknown.any():
        axes.contourf(unknown.astype(float), levels=[0.5, 1.5], colors="none", hatches=["////"])
    for glomerulus_class in GLOMERULUS_CLASSES:
        inside = label == glomerulus_class.index
        if inside.any():
            # The margin closes the outline of a glomerulus that the tile cuts.
            edge = np.arange(-1, len(label) + 1)
            axes.contour(
                edge,
                edge,
                np.pad(inside, 1).astype(float),
                levels=[0.5],
                colors=_hex(glomerulus_class.rgb),
                linewidths=1.5,
            )
    axes.set_xlim(-0.5, len(label) - 0.5)
    axes.set_ylim(len(label) - 0.5, -0.5)
    if prompts.sources:
        axes.set_title(caption(i, prompts.sources[i]), fontsize=7)


def caption(i: int, source: PromptSource) -> str:
    """Two lines: number, class and stain; image and glomerulus."""
    name = source.class_name.replace("_", " ")
    return f"{i + 1}: {name}, {source.stain}\n{source.image.name} {shown_glomerulus(source)}"


def shown_glomerulus(source: PromptSource) -> str:
    """A short name of the glomerulus: its number in the file, or "region"."""
    return "region" if source.glomerulus_number is None else f"no. {source.glomerulus_number}"


def _hex(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
