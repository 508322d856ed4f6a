"""Slides on a Ray cluster of two nodes, one of which is killed in the middle."""

import threading
import time

import pytest

from tests.cohort_runner.runs import OUTPUTS, cohort, rows, unfinished, write_slides

pytestmark = [
    pytest.mark.slow,
    # Ray leaves pipes and sockets of its processes to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

COUNT = 6


def test_a_cohort_is_finished_though_a_node_dies(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is the extra `cluster`")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("COHORT_DELAY_S", "1.0")
    monkeypatch.setenv("COHORT_OPENED", str(tmp_path / "opened.txt"))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else other work on this machine comes first
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # a token would be left in the home folder
    slides, out = write_slides(tmp_path / "slides", COUNT), tmp_path / "out"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    doomed = cluster.add_node(num_cpus=1)

    def kill() -> None:
        while not (log := tmp_path / "opened.txt").exists() or len(log.read_text().split()) < 3:
            time.sleep(0.05)
        cluster.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    given = {"slides": slides, "output_dir": out}
    try:
        cohort(tmp_path, **given, executor="ray", address=cluster.address, threads=1, retries=2).run()
    finally:
        killer.join(60)
        cluster.shutdown()
    assert not killer.is_alive()
    assert [row["status"] for row in rows(out).values()] == ["done"] * COUNT
    assert all({path.name for path in (out / name).iterdir()} == OUTPUTS for name in rows(out))
    assert unfinished(out) == []
    opened = (tmp_path / "opened.txt").read_text().split()
    assert len(opened) <= COUNT + 1  # the one in flight on the node that died
    cohort(tmp_path, **given).run()  # on this machine: nothing is left to do
    assert (tmp_path / "opened.txt").read_text().split() == opened
