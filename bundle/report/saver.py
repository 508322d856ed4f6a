"""report.html as the last output of inference."""

from pathlib import Path
from typing import Any

from bundle.data.annotations import Annotation
from bundle.outputs.savers import SaveOutputd
from bundle.report.page import BUDGET_BYTES, write_report
from bundle.slide import Slide


class SaveReportd(SaveOutputd):
    """report.html: the page of a slide; comes after `SaveGeoJSONd` and `SaveSummaryd`, whose files it shows.

    Args:
        budget_bytes: see `write_report`.
        progress: show a bar.
    """

    def __init__(self, *args: Any, budget_bytes: int = BUDGET_BYTES, progress: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.budget_bytes = budget_bytes
        self.progress = progress

    def save(self, slide: Slide, glomeruli: Annotation, folder: Path) -> None:
        """Write the page; raises as `write_report`."""
        write_report(slide, folder, budget_bytes=self.budget_bytes, progress=self.progress)
