"""Read what the evaluations of a study have written: summaries per stain and rows per image."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from bundle.evaluation.tables import ALL

DICE: Final = "stratified_dice"
"""The Dice of this study: its networks have one channel, so that only the annotation names the class."""


@dataclass(frozen=True)
class Figure:
    """A mean over `images` of `patients`, its standard deviation and its 95 % interval; NaN where unknown."""

    mean: float
    std: float
    images: int
    patients: int
    low: float
    high: float


@dataclass(frozen=True)
class Results:
    """The folders NETWORK/STAGE/on_SET/LEVEL below `output_dir`; one that is not there is a gap, not an error."""

    output_dir: Path

    def figures(
        self, network: str, stage: str, test_set: str, level: str, measure: str, label: str
    ) -> Mapping[str, Figure]:
        """A measure of a class by stain, ALL among them; stains without any image of the class are left out."""
        path = self._folder(network, stage, test_set, level) / "per_stain.csv"
        if not path.is_file():
            return {}
        table = pd.read_csv(path)
        rows = table[(table["measure"] == measure) & (table["class"] == label) & table["mean"].notna()]
        return {
            str(row["stain"]): Figure(
                row["mean"], row["std"], int(row["n"]), int(row["patients"]), row["low"], row["high"]
            )
            for row in rows.to_dict("records")
        }

    def overall(self, network: str, stage: str, test_set: str, level: str, measure: str, label: str) -> float:
        """The mean over images of ALL stains; NaN where there is none."""
        found = self.figures(network, stage, test_set, level, measure, label).get(ALL)
        return float("nan") if found is None else found.mean

    def images(self, network: str, stage: str, test_set: str, level: str) -> pd.DataFrame | None:
        """One row an image."""
        path = self._folder(network, stage, test_set, level) / "per_image.csv"
        return pd.read_csv(path, dtype={"slide": str, "crop": str, "patient": str}) if path.is_file() else None

    def _folder(self, network: str, stage: str, test_set: str, level: str) -> Path:
        return self.output_dir / network / stage / f"on_{test_set}" / level
