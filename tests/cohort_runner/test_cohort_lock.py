"""Locks: one holder at a time, none outlives its holder, and what a killed holder left is removed by the next."""

import signal
import subprocess
import sys

import pytest

from bundle.cohort.lock import hold, is_free, sweep
from bundle.cohort.places import Places, publish
from bundle.errors import OutputError
from tests.cohort import ROOT

HOLDER = """
import sys, time
from pathlib import Path
from bundle.cohort.lock import hold
with hold(Path(sys.argv[1])) as is_ours:
    print(is_ours, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of the slide "a"."""
    places = Places(tmp_path, "a")
    line = [sys.executable, "-c", HOLDER, str(places.lock)]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_a_lock_has_one_holder_and_goes_with_a_kill(tmp_path, holder):
    places = Places(tmp_path, "a")
    with hold(places.lock) as is_ours:
        assert not is_ours
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with hold(places.lock) as is_ours:
        assert is_ours
        assert not is_free(places.lock)
    assert is_free(places.lock)


def test_sweeping_removes_what_nobody_works_on(tmp_path, holder):
    for name in ("a", "b"):
        (Places(tmp_path, name).work / "deep").mkdir(parents=True)
        (Places(tmp_path, name).work / "deep" / ".mask.1234abcd.tmp.tif").touch()
    sweep(tmp_path)
    assert Places(tmp_path, "a").work.exists()
    assert not Places(tmp_path, "b").work.exists()
    holder.kill()
    holder.wait()
    sweep(tmp_path)
    assert not Places(tmp_path, "a").work.exists()


def test_a_folder_that_takes_no_lock_is_named(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match=r"a\.lock: cannot be locked"), hold(Places(tmp_path / "out", "a").lock):
        pass


def test_publishing_moves_all_and_leaves_no_work_folder(tmp_path):
    (tmp_path / "work" / "deep").mkdir(parents=True)
    (tmp_path / "work" / "deep" / "x").write_text("new")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("a user's own file")
    publish(tmp_path / "work", tmp_path / "out")
    assert (tmp_path / "out" / "deep" / "x").read_text() == "new"
    assert (tmp_path / "out" / "mine").exists()
    assert not (tmp_path / "work").exists()


def test_a_worker_ends_when_its_runner_does_and_leaves_no_process(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "bundle.cohort.worker"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        assert worker.stdin is not None
        worker.stdin.close()
        assert worker.wait(20) == 0
        assert worker.stdout.read() == b""
