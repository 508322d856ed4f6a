"""The protocol as one object that `configs/robustness.yaml` names: evaluate once under each perturbation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd
from monai.engines import SupervisedEvaluator
from tqdm import tqdm

from bundle.atomic import atomic_path
from bundle.evaluation.image_table import ImageTable
from bundle.evaluation.instance_table import InstanceQuality, pooled
from bundle.evaluation.tables import DESCRIPTORS, summarise
from bundle.robustness.perturbations import PerturbedColours
from bundle.robustness.report import MEASURES, write_report

KEYS: Final = ["model", "perturbation", "stain", "measure", "class"]


class Robustness:
    """Evaluates a network unperturbed and under each perturbation, and writes what that does to Dice and F1.

    Args:
        evaluator: evaluates slides; its splitter's colours are `colours`.
        colours: the perturbations.
        metrics: attached to the evaluator; their means and pooled measures are told.
        output_dir: folder of robustness.csv, range.csv, robustness.md and robustness.png, and in images/ a table of all
            slides for each perturbation, which scripts/compare_models.py can read.
        model: its name in the tables.
        progress: show a progress bar.
    """

    def __init__(
        self,
        *,
        evaluator: SupervisedEvaluator,
        colours: PerturbedColours,
        metrics: Sequence[ImageTable],
        output_dir: Path | str,
        model: str = "model",
        progress: bool = True,
    ) -> None:
        self.evaluator = evaluator
        self.colours = colours
        self.metrics = metrics
        self.output_dir = Path(output_dir)
        self.model = model
        self.progress = progress

    def run(self) -> None:
        """Evaluate and write the tables and the plot.

        Raises:
            OutputError: they cannot be written.
            BundleError: a slide, its annotation or the weights cannot be read.
        """
        parts = []
        for name in tqdm(self.colours.perturbations, unit="perturbation", disable=not self.progress):
            self.colours.active = name
            self.evaluator.run()
            self._write_images(name)
            summary = pd.concat([_summary(metric) for metric in self.metrics])
            summary = summary[summary["measure"].isin(MEASURES)]
            parts.append(summary.assign(model=self.model, perturbation=name))
        frame = pd.concat(parts, ignore_index=True)
        write_report(frame[[*KEYS, *(c for c in frame if c not in KEYS)]], self.output_dir)

    def _write_images(self, name: str) -> None:
        frames = [metric.frame() for metric in self.metrics]
        measures = [frame.drop(columns=list(DESCRIPTORS)) for frame in frames]
        with atomic_path(self.output_dir / "images" / f"{name}.csv") as temporary:
            pd.concat([frames[0][list(DESCRIPTORS)], *measures], axis=1).to_csv(temporary, index=False)


def _summary(metric: ImageTable) -> pd.DataFrame:
    """Of `MEASURES` alone: a metric's own summary has intervals of dozens more, which take longer than the network."""
    frame = metric.frame()
    means = summarise(frame, "stain", [measure for measure in metric.measures if measure in MEASURES])
    return pd.concat([means, pooled(frame, "stain")]) if isinstance(metric, InstanceQuality) else means
