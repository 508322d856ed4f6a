"""The summary of a cohort: one row a slide, as CSV, Markdown and a page for people."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from bundle.atomic import write_text
from bundle.classes import CLASS_NAMES
from bundle.cohort.job import Outcome, Status
from bundle.cohort.lock import hold
from bundle.cohort.page import page
from bundle.cohort.places import SUMMARY, SUMMARY_LOCK, Places
from bundle.cohort.slides import CohortSlide
from bundle.cohort.state import read_record
from bundle.errors import OutputError

LOCK_WAIT_S: Final = 600.0
SHOWN: Final = {Status.DONE: "done", Status.KEPT: "done", Status.FAILED: "failed", Status.BUSY: "in work elsewhere"}
COUNTS: Final = ("glomeruli", *CLASS_NAMES)
INTEGERS: Final = dict.fromkeys(COUNTS, "Int64")  # an integer column with gaps


@dataclass(frozen=True)
class Row:
    """What is known of a slide.

    Attributes:
        slide: its name.
        status: "done", "failed" or "in work elsewhere".
        counts: glomeruli in all and by class; empty where unknown.
        percent_globally_sclerotic: of all glomeruli; `None` where there are none.
        seconds: that the slide took.
        reason: why it failed, or why there is nothing to see.
        image: the slide's file.
        folder: of its outputs.
    """

    slide: str
    status: str
    counts: Mapping[str, int]
    percent_globally_sclerotic: float | None
    seconds: float | None
    reason: str
    image: Path
    folder: Path

    def as_dict(self) -> dict[str, Any]:
        """The row of the table."""
        return {
            "slide": self.slide,
            "status": self.status,
            **{name: self.counts.get(name) for name in COUNTS},
            "percent_globally_sclerotic": self.percent_globally_sclerotic,
            "seconds": self.seconds,
            "reason": self.reason,
            "image": str(self.image),
        }


def row_of(slide: CohortSlide, outcome: Outcome, root: Path) -> Row:
    """The row of a slide whose outputs are in its folder below `root`."""
    places = Places(root, slide.name)
    is_done = outcome.status in (Status.DONE, Status.KEPT)
    found = (read_record(places.folder / "summary.json") or {}) if is_done else {}
    state = (read_record(places.state) or {}) if is_done else {}
    counts = {name: known["count"] for name, known in found.get("classes", {}).items()}
    if found:
        counts["glomeruli"] = found["glomeruli"]
    return Row(
        slide=slide.name,
        status=SHOWN[outcome.status],
        counts=counts,
        percent_globally_sclerotic=found.get("percent_globally_sclerotic"),
        seconds=state.get("seconds"),
        reason="no glomerulus found" if counts.get("glomeruli") == 0 else outcome.reason,
        image=slide.image,
        folder=places.folder,
    )


def write_summary(rows: Sequence[Row], root: Path) -> None:
    """Write summary.csv, summary.md and summary.html into `root`.

    Raises:
        OutputError: they cannot be written.
    """
    table = pd.DataFrame([row.as_dict() for row in rows]).astype(INTEGERS)
    texts = {
        f"{SUMMARY}.csv": table.to_csv(index=False),
        f"{SUMMARY}.md": _markdown(table),
        f"{SUMMARY}.html": page(rows, overview(rows)),
    }
    places = Places(root, SUMMARY_LOCK)
    with hold(places.lock, LOCK_WAIT_S) as is_ours:
        if not is_ours:
            raise OutputError(f"{root}: another runner has been writing the summary for {LOCK_WAIT_S:g} s; run again")
        try:
            for name, text in texts.items():
                write_text(places.work / name, text)
                os.replace(places.work / name, root / name)
        except OSError as error:
            raise OutputError(f"{root}: the summary cannot be written ({error})") from error
        finally:
            shutil.rmtree(places.work, ignore_errors=True)


def overview(rows: Sequence[Row]) -> str:
    """The cohort in one line."""
    states = [row.status for row in rows]
    parts = [f"{states.count(status)} {status}" for status in dict.fromkeys(SHOWN.values()) if status in states]
    found = sum(row.counts.get("glomeruli", 0) for row in rows)
    of_class = ", ".join(f"{sum(r.counts.get(c, 0) for r in rows)} {c.replace('_', ' ')}" for c in CLASS_NAMES)
    return f"{len(rows)} slides: {', '.join(parts)}. {found} glomeruli: {of_class}."


def _markdown(table: pd.DataFrame) -> str:
    rows = table.drop(columns="image").astype(object).where(table.drop(columns="image").notna(), "")
    # A reason with a bar in it would make one column two.
    cells = rows.map(lambda cell: str(cell).replace("|", "\\|"))
    failed = int((table["status"] == "failed").sum())
    text = f"# Cohort\n\n{len(table)} slides, {failed} failed.\n\n"
    return text + cells.to_markdown(index=False, disable_numparse=True) + "\n"
