"""The findings page of a slide, as one object that `configs/case.yaml` names: its glomeruli beside the cohort's."""

import difflib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from bundle import __version__
from bundle.atomic import write_text
from bundle.classes import CLASS_NAMES
from bundle.errors import ConfigError, FindingsError
from bundle.findings import case_plots
from bundle.findings.aggregation import Selection, measured, read_entities
from bundle.findings.case_page import Card, page
from bundle.findings.case_plots import AREA
from bundle.findings.case_typicality import Typicality, typicality
from bundle.hashing import file_sha256

if TYPE_CHECKING:
    from bundle.findings.store import CropStore

logger = logging.getLogger(__name__)

PAGE: Final = "findings.html"
DRIVERS: Final = 4
"""Features on a card."""


class CasePage:
    """Writes findings.html and findings.csv of one slide.

    Args:
        entities: table of the cohort's glomeruli, the slide's among them: Parquet, CSV, or the folder of a crop store.
        slide: the slide's value in the column `slide`.
        output_dir: folder of the page.
        crops: folder of a crop store; `None` takes `entities` where that is one.
        same_stain: compare with slides of the same stain only.
        features: numeric columns; `None` takes all but `exclude`.
        exclude: columns that are no feature.
        shown: glomeruli of each kind, most typical and most atypical.
        redundant: see `typicality`.
        max_reference: see `typicality`.

    Raises:
        ConfigError: no table or no slide was named, or `shown` is below 1.
    """

    def __init__(
        self,
        *,
        entities: Path | str | None,
        slide: str | None,
        output_dir: Path | str,
        crops: Path | str | None = None,
        same_stain: bool = True,
        features: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        shown: int = 5,
        redundant: float = 0.95,
        max_reference: int = 20_000,
    ) -> None:
        if entities is None or slide is None:
            raise ConfigError("give --entities, the table of glomeruli, and --slide, one of its slides")
        if shown < 1:
            raise ConfigError(f"shown {shown}: must be 1 or more")
        self.entities, self.slide, self.output_dir = Path(entities), str(slide), Path(output_dir)
        self.crops = self.entities if crops is None and self.entities.is_dir() else crops
        self.same_stain, self.shown = same_stain, shown
        self.selection = Selection(features=features, exclude=exclude)
        self.redundant, self.max_reference = redundant, max_reference

    def run(self) -> Path:
        """Write the page and the table behind it, and return the page's path.

        Raises:
            FindingsError: the table is malformed, has no such slide, or too little to compare with.
            ConfigError: the crop store cannot be opened, or an optional package is not installed.
            OutputError: the page cannot be written.
        """
        table = read_entities(self.entities)
        slide, cohort, described = self._split(table)
        values = measured(table, self.selection, str(self.entities)).drop(columns="patient")
        rows = values.loc[slide.index].set_axis(slide["entity_id"].astype(str))
        found = typicality(values.loc[cohort.index], rows, redundant=self.redundant, max_reference=self.max_reference)
        slide = slide.set_axis(slide["entity_id"].astype(str))
        text = page(
            title=self.slide,
            facts=_facts(slide),
            pictures={
                "sizes": case_plots.sizes(cohort, slide),
                "classes": case_plots.classes(cohort, slide),
                "profile": case_plots.profile(found.z),
            },
            rows=_figures(slide, cohort),
            cohort=described,
            rank=_rank(slide, cohort),
            sections=self._sections(slide, found),
            features=found.z.shape[1],
            method="minimum covariance determinant" if found.robust else "shrunk covariance (few glomeruli)",
            left_out=found.left_out,
            provenance=f"Made by bundle {__version__} from {self.entities.name}{_hash(self.entities)}.",
        )
        numbers = pd.DataFrame({"distance": found.distance, "percentile": found.percentile}).join(
            found.z.add_prefix("z_")
        )
        for name, content in (("findings.csv", numbers.to_csv()), (PAGE, text)):
            write_text(self.output_dir / name, content)
        logger.info("%d glomeruli beside %d: %s", len(slide), len(cohort), self.output_dir / PAGE)
        return self.output_dir / PAGE

    def _split(self, table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, str]:
        """The slide's rows, the cohort's, and what the cohort is."""
        for column in ("slide", "class", AREA):
            if column not in table:
                raise FindingsError(f"{self.entities}: has no column {column!r}; the findings page needs it")
        slides = table["slide"].astype(str)
        slide = table[slides == self.slide]
        if slide.empty:
            close = difflib.get_close_matches(self.slide, list(slides.unique()), 1) or list(slides.unique()[:1])
            raise FindingsError(f"{self.entities}: no glomerulus of slide {self.slide!r}; there is {close[0]!r}")
        others = table[slides != self.slide]
        stain = slide["stain"].iloc[0] if "stain" in table else None
        if self.same_stain and stain is not None:
            others = others[others["stain"] == stain]
        if others.empty:
            return slide, slide, "this slide itself, as there is no other"
        of_stain = f" stained {stain}" if self.same_stain and stain else ""
        return slide, others, f"{len(others):,} glomeruli of {others['slide'].nunique()} other slides{of_stain}"

    def _sections(self, slide: pd.DataFrame, found: Typicality) -> list[tuple[str, list[Card]]]:
        shown = min(self.shown, max(1, len(slide) // 2))  # none is both
        typical, odd = found.distance.index[:shown], found.distance.index[::-1][:shown]
        store = self._store()
        at = {} if store is None else dict(zip(store.table["entity_id"], store.table["row"], strict=True))
        sections = (("Most atypical glomeruli", odd), ("Most typical glomeruli", typical))
        return [(heading, [_card(slide.loc[e], found, store, at) for e in names]) for heading, names in sections]

    def _store(self) -> "CropStore | None":
        if self.crops is None:
            return None
        from bundle.findings.store import CropStore  # here: needs pyarrow, an extra

        store = CropStore.open(self.crops)
        return store if store.has_crops else None


def _card(row: pd.Series, found: Typicality, store: "CropStore | None", at: Mapping[Any, int]) -> Card:
    entity, label = str(row["entity_id"]), str(row["class"])
    picture = None
    if store is not None and entity in at:
        picture = case_plots.crop(*store.read(int(at[entity])), label)
    percentile = found.percentile[entity]
    return Card(
        entity=entity,
        label=label.replace("_", " "),
        colour=case_plots.colour(label),
        area=_area(row[AREA]),
        distance=float(found.distance[entity]),
        position=f"farther than {percentile:.{1 if percentile > 99 else 0}f} % of the cohort",
        drivers=found.drivers(entity, DRIVERS),
        crop=picture,
    )


def _facts(slide: pd.DataFrame) -> str:
    parts = [f"{len(slide)} glomeruli"]
    for column in ("patient", "stain"):
        if column in slide and str(slide[column].iloc[0]) not in ("", "nan", "None"):
            parts.append(f"{column} {slide[column].iloc[0]}")
    return ", ".join(parts)


def _figures(slide: pd.DataFrame, cohort: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Rows of the small table: count and share of each class, median area."""
    rows = [("glomeruli", f"{len(slide):,}", f"{len(cohort):,}")]
    for name in CLASS_NAMES:
        counts = [int((table["class"] == name).sum()) for table in (slide, cohort)]
        cells = [f"{n:,} ({100 * n / len(t):.1f} %)" for n, t in zip(counts, (slide, cohort), strict=True)]
        rows.append((name.replace("_", " "), cells[0], cells[1]))
    quartiles = [table[AREA].quantile([0.25, 0.5, 0.75]).tolist() for table in (slide, cohort)]
    cells = [f"{middle:,.0f} ({low:,.0f} to {high:,.0f})" for low, middle, high in quartiles]
    return [*rows, ("area, µm²: median (quartiles)", cells[0], cells[1])]


def _rank(slide: pd.DataFrame, cohort: pd.DataFrame) -> str:
    medians = cohort.groupby("slide")[AREA].median()
    if len(medians) < 2:
        return ""
    below = int((medians < slide[AREA].median()).sum())
    return f"Its median area is larger than that of {below} of the {len(medians)} other slides."


def _area(value: float) -> str:
    return f"{value:,.0f}\N{NO-BREAK SPACE}µm²" if pd.notna(value) else "area unknown"


def _hash(path: Path) -> str:
    sha256 = file_sha256(path)
    return f" (sha256 {sha256})" if sha256 else ""
