"""Run cells of the study once: each leaves a record by which the next start skips it, or sees that it has changed."""

import hashlib
import json
import logging
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from bundle.atomic import write_text
from bundle.errors import CellError
from bundle.study.plan import Cell

logger = logging.getLogger(__name__)

Runner = Callable[[Sequence[str], Path, Path], int]
"""Runs a command in a folder, appends what it says to a log, gives its exit status."""

RECORD: Final = "cell.json"
"""Written when a cell has ended well."""

BEGUN: Final = "cell_begun.json"
"""Written when a cell starts: tells whether what a killed one left is of the same inputs."""

LOG: Final = "log.txt"


def run_command(command: Sequence[str], folder: Path, log: Path) -> int:
    """A `Runner`: a subprocess, which ends with this process unless that is killed outright."""
    with open(log, "ab") as out, subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            return process.wait()
        finally:
            process.terminate()  # does nothing to a process that has ended


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Within, SIGTERM ends this process as Ctrl-C would, and its command with it, which else went on unseen."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_cell(cell: Cell, root: Path, runner: Runner = run_command) -> None:
    """Run a cell unless its record says that it has run with this command and these inputs.

    A cell that was killed or failed goes on from its state; where command or inputs have changed since, what it left
    is removed first, so that no table shows it.

    Args:
        cell: what to run.
        root: folder in which its command is run.
        runner: how.

    Raises:
        CellError: the command failed, left not all of its outputs, or an input is missing.
        OutputError: the record cannot be written.
    """
    missing = [path for path in cell.inputs if not path.is_file()]
    if missing:
        _remove(cell)
        raise CellError(f"{cell.name}: not run, as {missing[0]} is missing")
    fingerprint = _fingerprint(cell)
    if _is_done(cell, fingerprint):
        logger.info("%s: done before", cell.name)
        return
    # With a record the cell ended well, but its outputs are gone: its state would only end again at once.
    if record_of(cell) is not None or _read(cell.folder / BEGUN) != fingerprint:
        _remove(cell)
    _write(cell.folder / BEGUN, fingerprint)
    print(f"{cell.name}, in {root}:\n  {shell(cell)}", flush=True)
    start = time.monotonic()
    status = runner(cell.command, root, cell.folder / LOG)
    if status != 0:
        raise CellError(f"{cell.name}: failed with exit status {status}; see {cell.folder / LOG}")
    lacking = [path for path in cell.outputs if not path.is_file()]
    if lacking:
        raise CellError(f"{cell.name}: ended without {lacking[0]}; see {cell.folder / LOG}")
    _write(cell.folder / RECORD, fingerprint | {"seconds": round(time.monotonic() - start, 1)})


def shell(cell: Cell) -> str:
    """The cell's command as a user types it in the bundle's root."""
    return shlex.join(cell.command)


def record_of(cell: Cell) -> dict[str, Any] | None:
    """What a cell left when it ended well: command, hashes of its inputs, seconds (of its last start)."""
    return _read(cell.folder / RECORD)


def _is_done(cell: Cell, fingerprint: dict[str, Any]) -> bool:
    record = record_of(cell) or {}
    is_same = all(record.get(key) == value for key, value in fingerprint.items())
    return is_same and all(path.is_file() for path in cell.outputs)


def _fingerprint(cell: Cell) -> dict[str, Any]:
    hashes = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in cell.inputs}
    # Without the interpreter: the same environment at another place gives the same result.
    return {"command": list(cell.command[1:]), "sha256": hashes}


def _remove(cell: Cell) -> None:
    for path in (cell.folder / RECORD, cell.folder / BEGUN, cell.folder / LOG, *cell.state, *cell.outputs):
        path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _write(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")
