"""Slides that are broken, in every way that was thought of: each gives its reason in one line, the others are done."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from bundle.cohort.runner import Cohort
from bundle.errors import CohortError
from tests.cohort_runner.runs import cohort, rows, unfinished, write_slides
from tests.oracle import write_oracle

pytestmark = pytest.mark.slow

FAULTS = {
    "vanished": r"vanished\.tif: no such slide",
    "empty": r"empty\.svs: ",
    "folder": r"folder\.svs: the folder holds no slide",
    "truncated1": r"truncated1\.tif: ",
    "truncated50": r"truncated50\.tif: ",
    "truncated99": r"truncated99\.tif: ",
    "no_mpp": r"no_mpp\.png: .*--mpp",
    "readonly": r"readonly: cannot be written \(.*Read-only file system.*\)",
    "full": r"cannot be written \(.*No space left on device.*\)",
    "crash": r"crash\.tif: the process that worked on it was ended by SIGSEGV",
    "hang": r"hang\.tif: took longer than 20 s; give more by --timeout_s",
}
"""What fails, and the reason that the summary gives."""

EMPTY = {"pixel": (1, 1), "white": (400, 300)}
"""What is done, with nothing to see."""


def write_faults(folder: Path) -> Path:
    """One slide of each kind and two good ones, and their list."""
    good = write_slides(folder / "slides", 2)
    whole = (good / "slide0.tif").read_bytes()
    for percent in (1, 50, 99):
        (good / f"truncated{percent}.tif").write_bytes(whole[: len(whole) * percent // 100])
    (good / "empty.svs").touch()
    (good / "folder.svs").mkdir()
    for name, (width, height) in EMPTY.items():
        write_oracle(good / f"{name}.tif", width, height, glomeruli_per_mm2=0, origin=(-9000, -9000))
    Image.fromarray(tifffile.imread(good / "slide0.tif", key=0)).save(good / "no_mpp.png")
    for name in ("crash", "hang", "readonly"):
        shutil.copy(good / "slide0.tif", good / f"{name}.tif")
    pixels = np.random.default_rng(0).integers(0, 255, (1500, 1500, 3), np.uint8)
    resolution = {"resolution": (5000, 5000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(good / "full.tif", pixels, tile=(256, 256), photometric="rgb", **resolution)
    # A mask where a slide should be: one channel, small values.
    mask = np.zeros((300, 400), np.uint8)
    mask[100:200, 100:200] = 2
    tifffile.imwrite(good / "mask.tif", mask, tile=(256, 256), **resolution)
    names = [path.name for path in good.iterdir() if path.suffix != ".geojson"]
    order = ["crash.tif", *sorted({*names, "vanished.tif"} - {"crash.tif", "hang.tif"}), "hang.tif"]
    (good / "list.csv").write_text("\n".join(["slide", *order]) + "\n")
    return good / "list.csv"


def mount(folder: Path, options: str) -> bool:
    folder.mkdir(parents=True)
    line = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(line, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def failed(tmp_path_factory) -> Iterator[tuple[Path, str, set[str]]]:
    """The output folder, on a small disk, of a cohort of faults; its error; what could not be arranged here."""
    folder = tmp_path_factory.mktemp("faults")
    out = folder / "out"
    mounted = [path for path, options in ((out, "size=4m"), (out / "readonly", "ro")) if mount(path, options)]
    absent = {name for name, path in (("full", out), ("readonly", out / "readonly")) if path not in mounted}
    given: dict[str, Any] = {"output_dir": out, "retries": 0, "timeout_s": 20}
    try:
        with pytest.raises(CohortError) as error:
            cohort(folder, slides=write_faults(folder), **given).run()
        yield out, str(error.value), absent
    finally:
        for path in reversed(mounted):
            subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_in_the_summary_with_its_traceback_set_apart(failed, name):
    out, _, absent = failed
    if name in absent:
        pytest.skip("no file system may be mounted here")
    row = rows(out)[name]
    assert row["status"] == "failed"
    assert re.search(FAULTS[name], row["reason"]), row["reason"]
    assert "\n" not in row["reason"]
    assert row["reason"] in (out / "summary.md").read_text()
    assert name == "readonly" or not (out / name).exists()
    record = json.loads((out / "failed" / f"{name}.json").read_text())
    assert record["reason"] == row["reason"]
    text = "\n".join(record["traceback"])
    assert name == "hang" or "Traceback" in text or "Fatal Python error: Segmentation fault" in text


@pytest.mark.parametrize("name", EMPTY)
def test_a_slide_without_tissue_is_done_and_the_summary_says_that_it_holds_nothing(failed, name):
    row = rows(failed[0])[name]
    assert (row["status"], row["glomeruli"], row["reason"]) == ("done", "0", "no glomerulus found")


def test_a_mask_in_place_of_a_slide_holds_nothing(failed):
    row = rows(failed[0])["mask"]
    assert row["status"] == "failed" or row["reason"] == "no glomerulus found"


def test_the_other_slides_are_done_and_nothing_unfinished_stays(failed):
    out, _, _ = failed
    assert all(rows(out)[name]["status"] == "done" for name in ("slide0", "slide1"))
    assert unfinished(out) == []


def test_the_error_counts_the_failures_and_names_the_summary(failed):
    out, error, absent = failed
    count = sum(row["status"] == "failed" for row in rows(out).values())
    assert count >= len(FAULTS) - len(absent)
    assert error == f"{count} of {len(rows(out))} slides failed; see {out / 'summary.html'}"


def test_a_failed_slide_that_was_mended_is_done_by_the_next_run_and_no_longer_set_apart(tmp_path):
    slides = write_slides(tmp_path / "slides", 1)
    whole = (slides / "slide0.tif").read_bytes()
    (slides / "slide0.tif").write_bytes(b"")
    runner: Cohort = cohort(tmp_path, slides=slides, output_dir=tmp_path / "out")
    with pytest.raises(CohortError, match="1 of 1 slides failed"):
        runner.run()
    assert (tmp_path / "out" / "failed" / "slide0.json").exists()
    (slides / "slide0.tif").write_bytes(whole)
    runner.run()
    assert rows(tmp_path / "out")["slide0"]["status"] == "done"
    assert not (tmp_path / "out" / "failed" / "slide0.json").exists()
