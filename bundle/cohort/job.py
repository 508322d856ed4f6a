"""What a runner asks of a worker, and what it hears back: plain values, one line of JSON each."""

import json
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from bundle.cohort.places import Places


class Status(StrEnum):
    """How an attempt at a slide ended."""

    DONE = "done"
    KEPT = "kept"  # was done before, by an earlier run or another runner
    FAILED = "failed"
    BUSY = "busy"  # another runner has it in work
    DIED = "died"  # the worker was killed or crashed
    LATE = "late"  # the worker took too long and was killed


@dataclass(frozen=True)
class Job:
    """One slide to be segmented.

    Attributes:
        name: of the slide's outputs.
        image: slide file or DICOM folder, absolute.
        root: output folder of the cohort, absolute.
        config_files: of the inference workflow, absolute.
        overrides: of that workflow, by id.
        arguments: `config_files` and `overrides` as the command line would have them.
        config_hash: see `bundle.command_line.config_fingerprint`.
        weights_hash: see `bundle.cohort.segmentation`.
        mpp: µm per level-0 pixel, where the slide's own is not meant.
        region: x, y, width, height in level-0 pixels; all of the slide if `None`.
        check_hashes: whether outputs of an earlier run are checked by their bytes, not their size only.
        known_failure: the attempt that failed before this run; a later one was another runner's, and final.
    """

    name: str
    image: str
    root: str
    config_files: list[str]
    overrides: dict[str, Any]
    arguments: list[str]
    config_hash: str | None
    weights_hash: str
    mpp: float | None = None
    region: list[int] | None = None
    check_hashes: bool = False
    known_failure: str | None = None

    @property
    def places(self) -> Places:
        """Where the slide's files lie."""
        return Places(Path(self.root), self.name)

    @property
    def settings(self) -> dict[str, Any]:
        """What the result depends on besides the slide's bytes."""
        names = ("config_hash", "weights_hash", "mpp", "region")
        return {name: getattr(self, name) for name in names}

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """The job of a line."""
        given = json.loads(text)
        return cls(**{f.name: given[f.name] for f in fields(cls)})


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        status: see `Status`.
        reason: one line, where it failed or died.
        trace: lines of the traceback.
    """

    status: Status
    reason: str = ""
    trace: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Outcome":
        """The outcome of a line."""
        given = json.loads(text)
        return cls(Status(given["status"]), given["reason"], given["trace"])
