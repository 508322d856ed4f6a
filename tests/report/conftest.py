"""A segmented slide, made once, copied where a test writes."""

import shutil
from pathlib import Path

import pytest

from bundle.report.page import write_report
from bundle.slide import open_slide
from tests.report.segmented import write_segmented


@pytest.fixture(scope="session")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with slide.tif, glomeruli.geojson, summary.json and report.html, not to be changed."""
    folder = tmp_path_factory.mktemp("segmented")
    with open_slide(write_segmented(folder)) as slide:
        write_report(slide, folder)
    return folder


@pytest.fixture
def folder(segmented: Path, tmp_path: Path) -> Path:
    """A copy of `segmented`, to be changed."""
    return Path(shutil.copytree(segmented, tmp_path / "out"))
