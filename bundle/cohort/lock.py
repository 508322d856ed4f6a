"""Locks on one output folder, so that several runners share its slides.

The lock is the kernel's (`flock`): it goes with the process that holds it, however that ends, and is never stale. It is
taken by the process that works on the slide, not by the runner, which may be killed before it.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bundle.cohort.places import SUMMARY_LOCK, Places, in_flight
from bundle.errors import OutputError


@contextmanager
def hold(path: Path, wait_s: float = 0.0) -> Iterator[bool]:
    """Hold the lock file `path` within; yields whether it was free.

    Args:
        path: made where it is missing.
        wait_s: how long to wait for it.

    Raises:
        OutputError: the folder cannot be written, or its file system has no locks.
    """
    # A lock that only is a file, filelock's way out on a file system without flock, would outlive a kill -9.
    lock = FileLock(path, timeout=wait_s, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        pass
    except OSError as error:
        raise OutputError(f"{path}: cannot be locked ({error}); see docs/cluster.md on file systems") from error
    try:
        yield lock.is_locked
    finally:
        lock.release()


def is_free(path: Path) -> bool:
    """Whether nobody holds the lock at this moment.

    Raises:
        OutputError: see `hold`.
    """
    with hold(path) as is_ours:
        return is_ours


def sweep(root: Path) -> None:
    """Remove what killed runs left unfinished in the output folder `root`; slides in work are left alone.

    Raises:
        OutputError: the folder cannot be written, or its file system has no locks.
    """
    is_free(Places(root, SUMMARY_LOCK).lock)  # else every slide would find out
    for places in in_flight(root):
        with hold(places.lock) as is_ours:
            if is_ours:
                shutil.rmtree(places.work, ignore_errors=True)
