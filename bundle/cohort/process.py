"""A worker as its runner sees it: jobs in, outcomes out, and an outcome even when the worker dies or hangs."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bundle.cohort.job import Job, Outcome, Status

START_LIMIT_S: Final = 600.0
"""For the worker's imports."""

LOG_TAIL_BYTES: Final = 20_000
ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Limits:
    """What a worker may take.

    Attributes:
        threads: of its computation.
        timeout_s: seconds a slide may take.
        retries: how often a slide is tried again whose worker died; not where it failed or took too long.
        cwd: working folder, to which relative paths in settings are relative.
    """

    threads: int
    timeout_s: float
    retries: int
    cwd: str


class WorkerProcess:
    """A worker that is started when it is needed, and again when it has died; used for one slide after another."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._process: subprocess.Popen[str] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as this object
        self._is_closed = False

    def run(self, job: Job) -> Outcome:
        """Segment a slide; `Status.DIED` when its worker died at every attempt, `Status.LATE` when it took too long."""
        outcome = self._attempt(job)
        for _ in range(self.limits.retries):
            if outcome.status is not Status.DIED or self._is_closed:
                break
            outcome = self._attempt(job)
        return outcome

    def kill(self) -> None:
        """End the worker and what another thread asks of it; no other is started."""
        self._is_closed = True
        if (process := self._process) is not None:
            process.kill()

    def close(self) -> None:
        """End the worker, when no other thread asks anything of it any more."""
        self.kill()
        if self._process is not None:
            self._end(self._process)
        self._log.close()

    def _end(self, process: subprocess.Popen[str]) -> int:
        """The exit status of a worker that has died, its pipes closed."""
        self._process = None
        with process:
            return process.wait()

    def _attempt(self, job: Job) -> Outcome:
        process = self._process or self._start()
        if process is None:
            return self._died("could not be started", None)
        self._empty_log()
        answer, is_late = self._ask(process, job.to_json(), self.limits.timeout_s)
        if answer:
            return Outcome.from_json(answer)
        status = self._end(process)
        if is_late:
            reason = f"{job.image}: took longer than {self.limits.timeout_s:g} s; give more by --timeout_s"
            return Outcome(Status.LATE, reason, self._tail())
        return self._died(_how(status), job.image)

    def _start(self) -> subprocess.Popen[str] | None:
        if self._is_closed:
            return None
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        # Torch, MKL and OpenBLAS take their number of threads from this.
        threads = os.environ.get("OMP_NUM_THREADS", str(self.limits.threads))
        self._empty_log()
        process = subprocess.Popen(
            [sys.executable, "-m", "bundle.cohort.worker"],
            cwd=self.limits.cwd,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": threads},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
        )
        self._process = process
        answer, _ = self._ask(process, "", START_LIMIT_S)
        if not answer:
            self._end(process)
            return None
        return process

    def _ask(self, process: subprocess.Popen[str], text: str, limit_s: float) -> tuple[str, bool]:
        """The worker's next line, empty when it has died; and whether it was killed for taking too long."""
        late = threading.Event()

        def kill() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(limit_s, kill)
        timer.daemon = True
        timer.start()
        try:
            if process.stdin is None or process.stdout is None:
                raise AssertionError("the worker has no pipes")
            if text:
                process.stdin.write(text + "\n")
                process.stdin.flush()
            return process.stdout.readline(), late.is_set()
        except BrokenPipeError:  # it died between two slides
            return "", late.is_set()
        finally:
            timer.cancel()

    def _died(self, how: str, image: str | None) -> Outcome:
        reason = f"{image or 'worker'}: the process that worked on it {how}; see the traceback"
        return Outcome(Status.DIED, reason, self._tail())

    def _empty_log(self) -> None:
        self._log.seek(0)  # the offset is shared with the worker
        self._log.truncate()

    def _tail(self) -> list[str]:
        """The end of what the worker said: the place of a native crash, among others."""
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), LOG_TAIL_BYTES, max(0, size - LOG_TAIL_BYTES))
        return tail.decode("utf-8", "replace").splitlines()


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    name = signal.Signals(-status).name
    hint = " (out of memory, or killed by somebody)" if -status == signal.SIGKILL else ""
    return f"was ended by {name}{hint}"
