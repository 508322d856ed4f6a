"""The command over many slides: all are segmented, a rerun does what is missing, kills lose nothing."""

import json
import multiprocessing
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from bundle.classes import CLASS_NAMES
from bundle.cohort.runner import Cohort
from bundle.errors import CohortError, ConfigError, OutputError, WeightsError
from tests.cohort import finish, start
from tests.cohort_runner.runs import (
    OUTPUTS,
    cohort,
    cohort_command,
    contents,
    rows,
    settings,
    unfinished,
    write_slides,
)

COUNT = 4
NAMES = [f"slide{i}" for i in range(COUNT)]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, str, dict[str, str]]:
    """A folder with slides/ and what the command made of them in out/, undisturbed; what it said; hashes."""
    folder = tmp_path_factory.mktemp("made")
    write_slides(folder / "slides", COUNT)
    line = cohort_command(folder, slides=folder / "slides", output_dir=folder / "out")
    status, _, errors = finish(start(line))
    assert status == 0, errors
    return folder, errors, contents(folder / "out")


@pytest.fixture
def opened(tmp_path, monkeypatch) -> Callable[[], list[str]]:
    """The slides that workers have opened in this test."""
    log = tmp_path / "opened.txt"
    monkeypatch.setenv("COHORT_OPENED", str(log))
    return lambda: log.read_text().split() if log.exists() else []


def times(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in out.glob("slide*/*")}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_every_slide_has_its_outputs_and_a_row_that_agrees_with_them(made):
    out = made[0] / "out"
    assert list(rows(out)) == NAMES
    for name, row in rows(out).items():
        assert {path.name for path in (out / name).iterdir()} == OUTPUTS
        features = json.loads((out / name / "glomeruli.geojson").read_text())["features"]
        found = Counter(feature["properties"]["classification"]["name"] for feature in features)
        assert row["status"] == "done"
        assert {c: int(row[c]) for c in CLASS_NAMES} == {c: found[c] for c in CLASS_NAMES}
        assert int(row["glomeruli"]) == found.total() > 0
        assert float(row["percent_globally_sclerotic"]) == pytest.approx(
            100 * found["global_sclerosis"] / found.total(), abs=0.01
        )
    assert unfinished(out) == []


@pytest.mark.slow
def test_the_summary_is_a_page_that_needs_no_other_file_and_a_table(made):
    out = made[0] / "out"
    page = (out / "summary.html").read_text()
    assert page.count('<img src="data:image/jpeg;base64,') == COUNT
    assert not re.search(r'(src|href)="(?!data:)', page)
    table = (out / "summary.md").read_text()
    assert all(f"| {name} " in table for name in NAMES)
    assert "4 slides, 0 failed" in table


@pytest.mark.slow
def test_the_bar_tells_slides_an_hour_and_the_time_left(made):
    assert re.search(r"slides: 4/4 \|.*\| \d+\.\d slides/h, 00:00 left", made[1])


@pytest.mark.slow
def test_the_config_s_hash_in_the_outputs_knows_no_paths_of_slides(made):
    out = made[0] / "out"
    hashes = {json.loads((out / n / "summary.json").read_text())["provenance"]["config"] for n in NAMES}
    states = {json.loads((out / n / "state.json").read_text())["settings"]["config_hash"] for n in NAMES}
    assert hashes == states
    assert len(hashes) == 1


@pytest.mark.slow
def test_a_rerun_does_nothing(made, opened):
    folder = made[0]
    before = times(folder / "out")
    cohort(folder, slides=folder / "slides", output_dir=folder / "out").run()
    assert opened() == []
    assert times(folder / "out") == before
    assert list(rows(folder / "out")) == NAMES


@pytest.mark.slow
def test_a_rerun_does_what_is_missing_or_changed_and_nothing_else(made, opened):
    folder = made[0]
    os.utime(folder / "slides" / "slide0.tif")  # touched, not changed
    (folder / "out" / "slide1" / "mask.tif").unlink()
    (folder / "out" / "slide2" / "overlay.png").write_bytes(b"")
    path = folder / "out" / "slide3" / "glomeruli.geojson"
    path.write_bytes(path.read_bytes()[:-1] + b" ")  # of the same size
    cohort(folder, slides=folder / "slides", output_dir=folder / "out", check_hashes=True).run()
    assert sorted(opened()) == ["slide1.tif", "slide2.tif", "slide3.tif"]
    assert contents(folder / "out") == made[2]


@pytest.mark.slow
def test_other_weights_mean_another_result(made, opened):
    folder = made[0]
    chosen = settings(folder)
    weights = Path(chosen["inference_overrides"]["checkpoint"])
    state = torch.load(weights, weights_only=True)
    swapped = {"rgb": state["rgb"][[0, 3, 2, 1, 4]]}  # global sclerosis is now called normal
    before = {name: row["normal"] for name, row in rows(folder / "out").items()}
    try:
        torch.save(swapped, weights)
        cohort(folder, slides=folder / "slides", output_dir=folder / "out").run()
        assert sorted(opened()) == [f"{name}.tif" for name in NAMES]
        after = {name: row["global_sclerosis"] for name, row in rows(folder / "out").items()}
        assert after == before
    finally:
        torch.save(state, weights)
    assert contents(folder / "out").keys() == made[2].keys()


@pytest.mark.slow
def test_two_runners_share_the_slides_and_kills_of_a_worker_and_a_runner_lose_nothing(
    made, opened, tmp_path, monkeypatch
):
    folder, out = made[0], tmp_path / "out"
    given = {"slides": folder / "slides", "output_dir": out}
    monkeypatch.setenv("COHORT_DELAY_S", "1.0")
    context = multiprocessing.get_context("fork")  # no imports again
    first, second = (context.Process(target=cohort(folder, **given).run) for _ in range(2))
    first.start()
    wait_until(lambda: len(opened()) == 1)
    (worker,) = psutil.Process(first.pid).children()
    second.start()
    worker.kill()
    wait_until(lambda: len(opened()) >= 3)
    orphans = psutil.Process(first.pid).children()
    first.kill()
    first.join()
    second.join(200)
    assert (first.exitcode, second.exitcode) == (-9, 0)
    psutil.wait_procs(orphans, 60)
    counts = Counter(opened())
    assert set(counts) == {f"{name}.tif" for name in NAMES}
    assert counts.total() <= COUNT + 2  # but the two in flight
    cohort(folder, **given).run()
    assert counts == Counter(opened())
    assert contents(out) == made[2]
    assert unfinished(out) == []


def test_an_override_that_the_workflow_does_not_know_is_refused_before_any_slide(tmp_path):
    write_slides(tmp_path / "slides", 1)
    given = {"slides": tmp_path / "slides", "output_dir": tmp_path / "out"}
    wrong = (({"batchsize": 3}, "--batchsize: no such setting"), ({"slide": "x"}, "slide is not for"))
    for overrides, pattern in wrong:
        with pytest.raises(ConfigError, match=pattern):
            cohort(tmp_path, **given, inference_overrides=overrides).run()
    with pytest.raises(WeightsError, match=r"none\.pt: no such weight file"):
        cohort(tmp_path, **given, inference_overrides={"checkpoint": "none.pt"}).run()
    assert not (tmp_path / "out").exists()


def test_values_that_cannot_be_meant_are_refused(tmp_path):
    for wrong in ({"workers": 0}, {"executor": "slurm"}, {"output_dir": "s3://bucket/out"}, {"timeout_s": 0}):
        with pytest.raises(ConfigError):
            Cohort(**{"bundle_root": ".", "slides": None, "output_dir": tmp_path, "inference": "x.yaml", **wrong})


def test_an_output_folder_that_cannot_be_made_is_one_error(tmp_path):
    write_slides(tmp_path / "slides", 1)
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="out"):
        cohort(tmp_path, slides=tmp_path / "slides", output_dir=tmp_path / "out").run()


def test_no_slides_is_one_error(tmp_path):
    with pytest.raises(CohortError, match="--slides"):
        cohort(tmp_path, slides=None, output_dir=tmp_path / "out").run()
