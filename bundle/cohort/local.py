"""Slides side by side on this machine: a thread a worker, which asks one worker process after the other's slide."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from bundle.cohort.job import Job, Outcome
from bundle.cohort.process import Limits, WorkerProcess


class Executor(Protocol):
    """Where slides are worked on."""

    def submit(self, job: Job) -> Future[Outcome]:
        """Start work on a slide as soon as there is room; the future has no exception."""

    def close(self) -> None:
        """End all work."""


class LocalExecutor:
    """An `Executor` of `workers` processes on this machine."""

    def __init__(self, workers: int, limits: Limits) -> None:
        self._limits = limits
        self._processes: list[WorkerProcess] = []
        self._of_thread = threading.local()
        self._pool = ThreadPoolExecutor(workers, initializer=self._add_process)

    def _add_process(self) -> None:
        self._of_thread.process = WorkerProcess(self._limits)
        self._processes.append(self._of_thread.process)

    def submit(self, job: Job) -> Future[Outcome]:
        """See `Executor`."""
        return self._pool.submit(lambda: self._of_thread.process.run(job))

    def close(self) -> None:
        """See `Executor`."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.kill()
        self._pool.shutdown()
        for process in self._processes:
            process.close()
