"""Run inputs in child processes that may crash, hang or ask for all memory, and tell what became of each.

A child is a fork of a server that has everything imported, so that a new one after a crash costs nothing.
"""

import faulthandler
import logging
import multiprocessing as mp
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from bundle.errors import BundleError
from tests.fuzz.targets import USES, Case, write_case

MEMORY_LIMIT_BYTES = 4 * 2**30
"""Address space beyond the imports: a strip TIFF of a gigapixel, the largest that is decoded whole, takes 3 GB."""

VIOLATIONS = ("crash", "hang", "untyped error", "wrong result", "unclear message")
VALID = "valid"
_LONGEST = 2000
"""Characters of a message that can still be read."""


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    `result`: "valid", the name of the typed error, or one of `VIOLATIONS`. `detail`: the message, or where it broke.
    `cpu_s`: of the child. `memory_mb`: resident memory at its peak, above that before.
    """

    case: Case
    result: str
    detail: str
    cpu_s: float = 0.0
    memory_mb: float = 0.0

    @property
    def is_violation(self) -> bool:
        """Whether the reader broke its promise."""
        return self.result in VIOLATIONS


def run_cases(
    cases: Iterable[Case], failures: Path | None = None, *, workers: int = 1, timeout_s: float = 60.0
) -> Iterator[Outcome]:
    """The outcomes of `cases`, in the order in which they finish; no input can stop the others.

    Args:
        cases: what to run.
        failures: where inputs with a violation are kept; None to keep none.
        workers: child processes.
        timeout_s: of one input, wall clock; then the child is killed.
    """
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with tempfile.TemporaryDirectory(prefix="fuzz_") as folder:
        waiting = iter(cases)
        children = [_Child(context, Path(folder) / str(i), failures) for i in range(workers)]
        busy = [child for child in children if child.give(next(waiting, None), timeout_s)]
        try:
            while busy:
                first = min(child.deadline for child in busy)
                ready = wait([child.pipe for child in busy], max(0.0, first - time.monotonic()))
                for child in [c for c in busy if c.pipe in ready or c.deadline <= time.monotonic()]:
                    yield child.outcome()
                    if not child.give(next(waiting, None), timeout_s):
                        busy.remove(child)
        finally:
            for child in children:
                child.stop()


class _Child:
    """A child process and the case that it works on; started again after it died."""

    def __init__(self, context: "mp.context.ForkServerContext", folder: Path, failures: Path | None):
        self._context, self._folder, self._failures = context, folder, failures
        folder.mkdir()
        self.deadline = 0.0
        self._case: Case | None = None
        self._start()

    def give(self, case: Case | None, timeout_s: float) -> bool:
        """Hand over the next case; False when there is none."""
        self._case, self.deadline = case, time.monotonic() + timeout_s
        if case is None:
            return False
        if self._process.exitcode is not None:
            self._start()
        self.pipe.send(case)
        return True

    def outcome(self) -> Outcome:
        """Of the case that was handed over, after it finished, died or took too long."""
        assert self._case is not None
        try:
            result: Outcome = self.pipe.recv() if self.pipe.poll() else self._kill(self._case)
        except EOFError:
            self._process.join()
            result = Outcome(self._case, "crash", f"{_death(self._process.exitcode)} {self._last_words()}")
        self._keep(result)
        return result

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def _start(self) -> None:
        self.pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(theirs, self._folder), daemon=True)
        self._process.start()
        theirs.close()

    def _kill(self, case: Case) -> Outcome:
        self._process.kill()
        self._process.join()
        return Outcome(case, "hang", "killed after the time limit")

    def _last_words(self) -> str:
        """The Python line that called into the native code that died."""
        log = (self._folder / "stderr").read_text(errors="replace").splitlines()
        frames = [
            line.strip()
            for line in log
            if line.startswith("  File ")
            and "tests/fuzz/" not in line
            and "/multiprocessing/" not in line
            and "selectors.py" not in line
        ]
        return frames[0] if frames else ""

    def _keep(self, outcome: Outcome) -> None:
        for path in self._folder.glob("in/*"):
            if outcome.is_violation and self._failures is not None:
                self._failures.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, self._failures / path.name)
            path.unlink()


def _death(exitcode: int | None) -> str:
    return signal.Signals(-exitcode).name if exitcode is not None and exitcode < 0 else f"exit {exitcode}"


def _serve(pipe: Connection, folder: Path) -> None:
    """The child: one case after the other until the pipe closes."""
    _protect(folder)
    (folder / "in").mkdir(exist_ok=True)
    while True:
        try:
            case = pipe.recv()
        except EOFError:
            return
        pipe.send(_run(case, folder))


def _protect(folder: Path) -> None:
    """Bound the memory, keep no core file, and send what native libraries print to a file."""
    with open("/proc/self/statm") as statm:
        taken = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_LIMIT_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    log = open(folder / "stderr", "w")  # noqa: SIM115, for the life of the process
    os.dup2(log.fileno(), 2)
    faulthandler.enable(file=log)
    warnings.simplefilter("ignore")
    logging.disable()


def _run(case: Case, folder: Path) -> Outcome:
    path = write_case(case, folder, folder / "in")
    before_mb, started_s = _reset_peak(), time.process_time()
    result, detail = _use(case, path)
    return Outcome(case, result, detail, time.process_time() - started_s, _memory_mb("VmHWM") - before_mb)


def _use(case: Case, path: Path) -> tuple[str, str]:
    try:
        USES[case.kind](path)
    except BundleError as error:
        text = str(error)
        is_clear = len(text.splitlines()) == 1 and text.startswith(str(path)) and len(text) < _LONGEST
        return type(error).__name__ if is_clear else "unclear message", text
    except Exception as error:  # any type at all: those that are no BundleError are what is looked for
        kind = "wrong result" if type(error).__name__ == "WrongResultError" else "untyped error"
        return kind, f"{type(error).__name__}: {error} [{_where(error)}]"
    return VALID, ""


def _where(error: BaseException) -> str:
    """The last line of the bundle in the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{os.sep}bundle{os.sep}" in frame.filename and "monai" not in frame.filename]
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _reset_peak() -> float:
    """Resident memory now, MB; the peak (VmHWM) starts from here."""
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")
    return _memory_mb("VmRSS")


def _memory_mb(name: str) -> float:
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(name))
    return int(line.split()[1]) / 1024


if sys.platform != "linux":  # /proc and RLIMIT_AS
    raise ImportError("fuzzing runs on Linux")
