"""What the metrics of this package share: one row an image, from which tables are made."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd
from ignite.metrics import Metric

from bundle.classes import CLASS_NAMES
from bundle.evaluation.tables import DESCRIPTORS, FOREGROUND, summarise


class ImageTable(Metric):
    """Ignite metric that keeps one row an image; its value is the mean of its first measure of "glomerulus".

    `engine.state.metrics` also gets NAME_CLASS for each class: the mean over the images whose annotation has the
    class, NaN where none has. The tables serve `bundle.handlers.ScoreTables`.

    Attributes:
        measures: what is summarised: columns MEASURE_CLASS, or MEASURE for what has no class; the leading one first.
        columns: all columns of a row after its descriptors.
    """

    measures: ClassVar[tuple[str, ...]]
    columns: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        super().__init__()

    @abstractmethod
    def row(self, image: Mapping[str, Any]) -> dict[str, float]:
        """The measures of one image: what the evaluator's batch and output say of it, by key."""

    def reset(self) -> None:
        """Forget the images seen."""
        self.rows = []

    def iteration_completed(self, engine: Any) -> None:
        """Add the image of this iteration; what the datalist says of it is in the batch, not in the output."""
        self.update({**engine.state.batch, **engine.state.output})

    def update(self, output: Mapping[str, Any]) -> None:
        """Add one image."""
        self.rows.append({key: output.get(key, "") for key in DESCRIPTORS} | self.row(output))

    def compute(self) -> float:
        """Mean of the first measure of the union over the images that have it."""
        return float(self.frame()[f"{self.measures[0]}_{FOREGROUND}"].mean())

    def completed(self, engine: Any, name: str) -> None:
        """Put the value and the classes' means into `engine.state.metrics`."""
        super().completed(engine, name)
        frame = self.frame()
        for label in CLASS_NAMES:
            engine.state.metrics[f"{name}_{label}"] = float(frame[f"{self.measures[0]}_{label}"].mean())

    def frame(self) -> pd.DataFrame:
        """One row an image: descriptors, then `columns`."""
        return pd.DataFrame(self.rows, columns=[*DESCRIPTORS, *self.columns])

    def summary(self, by: str) -> pd.DataFrame:
        """The measures per value of the descriptor `by` and over ALL, see `bundle.evaluation.tables.summarise`."""
        return summarise(self.frame(), by, self.measures)
