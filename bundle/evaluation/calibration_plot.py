"""The reliability diagram: accuracy against confidence, before and after the temperature."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bundle.atomic import atomic_path
from bundle.evaluation.calibration import Sample

BINS = 10


def reliability_diagram(samples: Mapping[str, tuple[Sample, float]], path: Path | str) -> None:
    """Write a picture, a panel a sample: name -> (sample, fitted temperature).

    Raises:
        OutputError: `path` cannot be written.
    """
    figure = Figure(figsize=(4.4 * len(samples), 4.2), layout="constrained")
    panels = figure.subplots(1, len(samples), squeeze=False)[0]
    for axes, (name, (sample, fitted)) in zip(panels, samples.items(), strict=True):
        for temperature, color, word in ((1.0, "#f58518", "before"), (fitted, "#4c78a8", "after")):
            _curve(axes, *sample.confidence(temperature), color, f"{word}, temperature {temperature:.2f}")
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        axes.set(title=name.capitalize(), xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
        axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def _curve(axes: Axes, confidence: NDArray[np.float64], correct: NDArray[np.bool_], color: str, label: str) -> None:
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    used = np.unique(bins)
    points = [(confidence[bins == b].mean(), correct[bins == b].mean()) for b in used]
    axes.plot(*np.array(points).T, marker="o", color=color, label=label)
