"""Pictures of the findings page: sizes, classes, the slide's profile, crops; each as a data URI."""

import base64
import io
from typing import Final, cast

import cv2
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from bundle.classes import GLOMERULUS_CLASSES
from bundle.findings.case_typicality import ordered
from bundle.report.figures import percentage

AREA: Final = "area_um2"
COHORT: Final = "#b8c0c8"
CROP_PX: Final = 220
PROFILE: Final = 14
"""Features in the profile."""


def colour(label: str) -> str:
    """A class's colour as #rrggbb; grey for none."""
    return next(("#" + bytes(c.rgb).hex() for c in GLOMERULUS_CLASSES if c.name == label), "#888888")


def sizes(cohort: pd.DataFrame, slide: pd.DataFrame) -> str:
    """Areas by class: the cohort's distribution as a violin with its median, the slide's glomeruli as dots."""
    figure = Figure(figsize=(6.4, 2.7), layout="constrained")
    axes = figure.subplots()
    for row, glomerulus_class in enumerate(reversed(GLOMERULUS_CLASSES)):
        of_cohort, of_slide = (
            t.loc[t["class"] == glomerulus_class.name, AREA].dropna().to_numpy(float) for t in (cohort, slide)
        )
        if len(of_cohort) > 1 and np.ptp(of_cohort) > 0:
            parts = axes.violinplot([of_cohort], [row], orientation="horizontal", widths=0.8, showextrema=False)
            for body in cast(list[Collection], parts["bodies"]):
                body.set(facecolor=COHORT, alpha=0.8, edgecolor="none")
        if len(of_cohort):
            axes.plot([np.median(of_cohort)] * 2, [row - 0.3, row + 0.3], color="#444444", linewidth=1.2)
        spread = np.linspace(-0.22, 0.22, len(of_slide)) if len(of_slide) > 1 else np.zeros(len(of_slide))
        order = np.random.default_rng(0).permutation(len(of_slide))
        axes.plot(of_slide, row + spread[order], "o", color=colour(glomerulus_class.name), ms=4, mec="white", mew=0.4)
    names = [c.name.replace("_", "\n") for c in reversed(GLOMERULUS_CLASSES)]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("area, µm²")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _plain(axes)
    return _svg(figure)


def classes(cohort: pd.DataFrame, slide: pd.DataFrame) -> str:
    """Percentage of each class in slide and cohort; the slide's with its exact 95 % interval."""
    figure = Figure(figsize=(4.2, 2.7), layout="constrained")
    axes = figure.subplots()
    for row, glomerulus_class in enumerate(reversed(GLOMERULUS_CLASSES)):
        name = glomerulus_class.name
        counts = [int((t["class"] == name).sum()) for t in (slide, cohort)]
        of_slide = percentage(counts[0], len(slide))
        assert of_slide is not None, "a slide without glomeruli has no page"
        axes.barh(row - 0.2, 100 * counts[1] / len(cohort), 0.36, color=COHORT)
        axes.barh(row + 0.2, of_slide.value, 0.36, color=colour(name))
        axes.plot([of_slide.low, of_slide.high], [row + 0.2] * 2, color="black", linewidth=1)
    names = [c.name.replace("_", "\n") for c in reversed(GLOMERULUS_CLASSES)]
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of glomeruli")
    _plain(axes)
    return _svg(figure)


def profile(z: pd.DataFrame) -> str:
    """Median and quartiles of the slide's robust z, the features farthest from the cohort first.

    Args:
        z: a row a glomerulus, a column a feature, see `Typicality.z`.
    """
    names = ordered(z)[:PROFILE][::-1]
    figure = Figure(figsize=(6.4, 0.8 + 0.26 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(-1, 1, color="#f0f2f4")
    axes.axvline(0, color="#444444", linewidth=0.7)
    for row, name in enumerate(names):
        low, middle, high = z[name].quantile([0.25, 0.5, 0.75])
        shade = "#c8102e" if abs(middle) > 2 else "#4c78a8"
        axes.plot([low, high], [row, row], color=shade, linewidth=2.5, alpha=0.6)
        axes.plot(middle, row, "o", color=shade, ms=5)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.set_xlabel("robust z: median and quartiles of the slide; the cohort's median is 0")
    _plain(axes)
    return _svg(figure)


def crop(image: NDArray[np.uint8], mask: NDArray[np.uint8], label: str) -> str:
    """A crop, RGB (S, S, 3), with the outline of its mask (S, S) in the colour of `label`, `CROP_PX` wide."""
    scale = CROP_PX / image.shape[1]
    height = round(scale * image.shape[0])
    enlarged = np.ascontiguousarray(cv2.resize(image, (CROP_PX, height), interpolation=cv2.INTER_AREA))
    inside = cv2.resize((mask > 0).astype(np.uint8), (CROP_PX, height), interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    rgb = tuple(bytes.fromhex(colour(label)[1:]))
    cv2.drawContours(enlarged, outlines, -1, rgb, 2, cv2.LINE_AA)
    buffer = io.BytesIO()
    Image.fromarray(enlarged).save(buffer, "JPEG", quality=85)
    return _uri("image/jpeg", buffer.getvalue())


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(labelsize=8)


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "findings"}):  # else the same slide gives another file each time
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _uri("image/svg+xml", buffer.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
