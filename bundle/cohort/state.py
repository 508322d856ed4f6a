"""What is known of a slide from earlier runs: done with which input and settings, or failed and why."""

import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bundle.atomic import write_text
from bundle.cohort.job import Job
from bundle.cohort.places import STATE, publish
from bundle.errors import OutputError, SlideReadError
from bundle.hashing import file_sha256


def read_record(path: Path) -> dict[str, Any] | None:
    """The record at `path`; `None` where there is none that can be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def is_done(job: Job) -> bool:
    """Whether the slide was done with these settings, its file has the size and time it had, and outputs are there."""
    record = read_record(job.places.state)
    if record is None or record.get("settings") != job.settings or not _are_intact(job, record):
        return False
    try:
        return record.get("signature") == input_signature(Path(job.image))
    except SlideReadError:
        return False


def is_done_with(job: Job, input_sha256: str) -> bool:
    """The same by the bytes of the input: a file that was copied or touched is no other slide."""
    record = read_record(job.places.state)
    is_same = record is not None and (record.get("settings"), record.get("input")) == (job.settings, input_sha256)
    return record is not None and is_same and _are_intact(job, record)


def _are_intact(job: Job, record: dict[str, Any]) -> bool:
    return all(
        (file := job.places.folder / name).is_file()
        and file.stat().st_size == known["bytes"]
        and (not job.check_hashes or file_sha256(file) == known["sha256"])
        for name, known in record["outputs"].items()
    )


def input_signature(image: Path) -> list[int]:
    """Number, bytes and latest change (ns) of a slide's files: cheap, and another where they changed.

    Raises:
        SlideReadError: they cannot be seen.
    """
    with _reading(image):
        stats = [file.stat() for file in _input_files(image)]
    return [len(stats), sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)]


def input_hash(image: Path) -> str:
    """SHA-256 of a slide's bytes: of the file, or of names and hashes of the files that it consists of.

    Raises:
        SlideReadError: they cannot be read.
    """
    with _reading(image):
        files = _input_files(image)
        if files == [image]:
            return str(file_sha256(image))
        hashes = [[file.relative_to(image.parent).as_posix(), file_sha256(file)] for file in files]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def _input_files(image: Path) -> list[Path]:
    if image.is_dir():
        return sorted(path for path in image.rglob("*") if path.is_file())
    if image.suffix.lower() == ".mrxs":  # the pixels of MIRAX are in a folder beside the file
        return [image, *sorted(path for path in image.with_suffix("").rglob("*") if path.is_file())]
    return [image]


@contextmanager
def _reading(image: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SlideReadError(f"{image}: cannot be read ({error.strerror}); check the path") from error


def publish_done(job: Job, signature: Sequence[int], input_sha256: str, seconds: float) -> None:
    """Move the finished slide from its work folder to its own, the state last; what an earlier run left there goes.

    Raises:
        OutputError: its folder cannot be written.
    """
    places = job.places
    outputs = {
        path.relative_to(places.work).as_posix(): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(places.work.rglob("*"))
        if path.is_file()
    }
    earlier = read_record(places.state) or {"outputs": {}}
    with _writing(places.folder):
        places.state.unlink(missing_ok=True)  # first: from here on the slide is not done
        for name in earlier["outputs"]:
            (places.folder / name).unlink(missing_ok=True)
        publish(places.work, places.folder)
        places.failure.unlink(missing_ok=True)
    _write_done(job, signature, input_sha256, outputs, seconds)


def refresh_done(job: Job, signature: Sequence[int]) -> None:
    """Write down that the slide's file, touched or copied, is the one that was done.

    Raises:
        OutputError: it cannot be written.
    """
    record = read_record(job.places.state) or {}
    _write_done(job, signature, record["input"], record["outputs"], record["seconds"])
    job.places.failure.unlink(missing_ok=True)


def _write_done(job: Job, signature: Sequence[int], input_sha256: str, outputs: object, seconds: float) -> None:
    _write(
        job,
        job.places.state,
        {
            "status": "done",
            "input": input_sha256,
            "settings": job.settings,
            "signature": list(signature),
            "outputs": outputs,
            "seconds": seconds,
        },
    )


def write_failure(job: Job, reason: str, trace: Sequence[str]) -> None:
    """Set a failed slide apart: its reason and traceback; what is unfinished of it goes, what was done before stays.

    Raises:
        OutputError: it cannot be written.
    """
    # Gone first, since on a full disk there is no room for the record else.
    shutil.rmtree(job.places.work, ignore_errors=True)
    _write(job, job.places.failure, {"status": "failed", "reason": reason, "traceback": list(trace)})


def _write(job: Job, target: Path, record: dict[str, Any]) -> None:
    facts = {
        "slide": job.name,
        "image": job.image,
        **record,
        "attempt": uuid.uuid4().hex,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
    }
    work = job.places.work
    with _writing(target):
        write_text(work / STATE, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(work / STATE, target)
        work.rmdir()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error}); check free space and permissions") from error
