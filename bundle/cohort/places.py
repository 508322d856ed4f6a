"""Where a cohort's files lie. All that is unfinished is in one folder a slide, so that cleaning up is removing that.

OUT/NAME/              outputs of a good slide, and state.json, which is written last
OUT/failed/NAME.json   a failed slide: reason and traceback
OUT/summary.*          tables of all slides
OUT/.cohort/locks/     a lock file a slide; empty, and left there: removing one would let two hold it
OUT/.cohort/work/NAME/ a slide in flight
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FAILED: Final = "failed"
HIDDEN: Final = ".cohort"
STATE: Final = "state.json"
SUMMARY: Final = "summary"
RESERVED: Final = frozenset({FAILED, HIDDEN, *(f"{SUMMARY}.{suffix}" for suffix in ("csv", "md", "html"))})
"""Names in the output folder that no slide can have."""


@dataclass(frozen=True)
class Places:
    """The files of the slide `name` (or of the summary, `Places(root, SUMMARY_LOCK)`) in the output folder `root`."""

    root: Path
    name: str

    @property
    def folder(self) -> Path:
        """Outputs of the slide."""
        return self.root / self.name

    @property
    def state(self) -> Path:
        """Record of a slide that is done."""
        return self.folder / STATE

    @property
    def failure(self) -> Path:
        """Record of a slide that failed."""
        return self.root / FAILED / f"{self.name}.json"

    @property
    def lock(self) -> Path:
        """Whoever holds it works on the slide."""
        return self.root / HIDDEN / "locks" / f"{self.name}.lock"

    @property
    def work(self) -> Path:
        """What is unfinished; only the holder of the lock touches it."""
        return self.root / HIDDEN / "work" / self.name


SUMMARY_LOCK: Final = ".summary"


def in_flight(root: Path) -> Iterator[Places]:
    """Slides with something unfinished: in work now, or left by a run that was killed."""
    work = root / HIDDEN / "work"
    if work.is_dir():
        yield from (Places(root, folder.name) for folder in sorted(work.iterdir()))


def publish(work: Path, folder: Path) -> None:
    """Move all files of `work` to `folder`, in the order of their names, each in one step; then remove `work`."""
    for file in sorted(path for path in work.rglob("*") if path.is_file()):
        target = folder / file.relative_to(work)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)
    shutil.rmtree(work)
