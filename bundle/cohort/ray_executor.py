"""Slides on the machines of a Ray cluster, or on this one with Ray's scheduler, where no address is given.

Each task asks a worker process on its node, as on one machine, so that timeouts, crashes and locks are the same. That
worker writes the results, to a folder that all nodes share; only outcomes travel.
"""

import os
from concurrent.futures import Future
from functools import cache
from typing import Any

import ray
from ray.exceptions import RayError

from bundle.cohort.job import Job, Outcome, Status
from bundle.cohort.process import ROOT, Limits, WorkerProcess
from bundle.errors import CohortError


class RayExecutor:
    """An `Executor` on Ray.

    Args:
        address: of a running cluster ("auto" on one of its nodes); `None` starts Ray on this machine alone.
        workers: slides at once where Ray is started here; a cluster decides by its CPUs and GPUs.
        limits: of a slide; it is tried again as often when its node died.
        gpus: of a slide; a fraction shares one.

    Raises:
        CohortError: there is no cluster at `address`.
    """

    def __init__(self, address: str | None, workers: int, limits: Limits, gpus: float) -> None:
        self._limits = limits
        cpus = workers * limits.threads
        here: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False} if address is None else {}
        # Ray reports its use to its makers unless it is told not to.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            environment = {"env_vars": {"PYTHONPATH": str(ROOT)}}
            ray.init(address or "local", log_to_driver=False, runtime_env=environment, **here)
        except ConnectionError as error:
            raise CohortError(f"{address}: no Ray cluster ({error}); start one by `ray start --head`") from error
        task = ray.remote(_run)
        self._task = task.options(num_cpus=limits.threads, num_gpus=gpus, max_retries=limits.retries)

    def submit(self, job: Job) -> Future[Outcome]:
        """See `bundle.cohort.local.Executor`."""
        settled: Future[Outcome] = Future()
        future: Future[str] = self._task.remote(job.to_json(), self._limits).future()
        future.add_done_callback(lambda done: settled.set_result(_outcome(done, job)))
        return settled

    def close(self) -> None:
        """See `bundle.cohort.local.Executor`."""
        ray.shutdown()


def _outcome(done: "Future[str]", job: Job) -> Outcome:
    error = done.exception()
    if error is None:
        return Outcome.from_json(done.result())
    if not isinstance(error, RayError):
        raise error
    first = str(error).strip().partition("\n")[0]
    return Outcome(Status.DIED, f"{job.image}: the node that worked on it died ({first})", str(error).splitlines())


def _run(job: str, limits: Limits) -> str:
    """The task: one slide."""
    # Ray gives the same process to one task after another, each with GPUs of its own.
    return _process(os.environ.get("CUDA_VISIBLE_DEVICES"), limits).run(Job.from_json(job)).to_json()


@cache
def _process(gpus: str | None, limits: Limits) -> WorkerProcess:
    return WorkerProcess(limits)
