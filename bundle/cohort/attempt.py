"""One attempt at one slide, in a worker: take the lock, run the workflow, leave outputs or the reason why not."""

import logging
import shutil
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from monai.bundle import ConfigWorkflow

from bundle.cohort.job import Job, Outcome, Status
from bundle.cohort.lock import hold
from bundle.cohort.state import (
    input_hash,
    input_signature,
    is_done,
    is_done_with,
    publish_done,
    read_record,
    refresh_done,
    write_failure,
)
from bundle.command_line import config_fingerprint, user_message
from bundle.data.slides import find_slides
from bundle.errors import CohortError, ConfigError, OutputError, SlideReadError

logger = logging.getLogger(__name__)


def attempt(job: Job) -> Outcome:
    """Segment the slide unless it is done or another runner has it; never raises on what a slide can cause."""
    with Caught() as caught, hold(job.places.lock) as is_ours:
        return _with_lock(job) if is_ours else Outcome(Status.BUSY)
    return caught.outcome()  # without a lock there is no right to write the reason down


def fail(job: Job, outcome: Outcome) -> Outcome:
    """Set apart a slide whose worker died, unless another runner has taken it since; never raises, as `attempt`."""
    with Caught() as caught, hold(job.places.lock) as is_ours:
        if not is_ours:
            return Outcome(Status.BUSY)
        return _failed(job, Outcome(Status.FAILED, outcome.reason, outcome.trace))
    return caught.outcome()


def _with_lock(job: Job) -> Outcome:
    earlier = read_record(job.places.failure)
    if earlier is not None and earlier["attempt"] != job.known_failure:
        return Outcome(Status.FAILED, earlier["reason"], earlier["traceback"])
    with Caught() as caught:
        return _segmented(job)
    return _failed(job, caught.outcome())


def _failed(job: Job, outcome: Outcome) -> Outcome:
    try:
        write_failure(job, outcome.reason, outcome.trace)
    except OutputError as error:  # the disk is full: the reason still goes to the summary
        logger.warning("%s", error)
    return outcome


def _segmented(job: Job) -> Outcome:
    if is_done(job):
        job.places.failure.unlink(missing_ok=True)
        return Outcome(Status.KEPT)
    start = time.monotonic()
    image = Path(job.image)
    _check_is_one_slide(image)
    signature = input_signature(image)
    input_sha256 = input_hash(image)
    shutil.rmtree(job.places.work, ignore_errors=True)
    if is_done_with(job, input_sha256):
        refresh_done(job, signature)
        return Outcome(Status.KEPT)
    _run_workflow(job)
    if not (job.places.work.is_dir() and any(job.places.work.iterdir())):
        raise CohortError(f"{image}: the workflow ended without any output; check its config files")
    publish_done(job, signature, input_sha256, round(time.monotonic() - start, 2))
    return Outcome(Status.DONE)


def _check_is_one_slide(image: Path) -> None:
    if [item["image"] for item in find_slides(image)] != [str(image)]:
        raise SlideReadError(f"{image}: is a folder of slides, not a slide; give its slides one by one")


def _run_workflow(job: Job) -> None:
    if config_fingerprint(job.arguments) != job.config_hash:
        raise ConfigError(f"{job.config_files[0]}: the config has changed since the cohort was started; start it again")
    slide = {"slide": job.image, "output_dir": str(job.places.work), "mpp": job.mpp, "progress": False}
    region = {} if job.region is None else {"dataset#data#region": job.region}
    run_inference(job.config_files, job.arguments, {**job.overrides, **slide, **region})


def run_inference(files: Sequence[str], arguments: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Run an inference workflow in this process, which then has `arguments` for its command line.

    Args:
        files: config files; later ones override earlier ones.
        arguments: files and overrides that the user asked for, see `Segmentation.arguments`.
        settings: overrides by id, those of the slide among them.

    Raises:
        BundleError: slide, config or weights cannot be used, or an output cannot be written.
    """
    # The config's check of the command line and its fingerprint in summary.json are of what the user asked for.
    sys.argv[1:] = arguments
    workflow = ConfigWorkflow(list(files), workflow_type="inference", **settings)
    workflow.initialize()
    workflow.run()
    workflow.finalize()


class Caught:
    """Context that keeps whatever error ends it: a bug met on one slide must not stop the others, nor be lost."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> "Caught":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.error = error
        return isinstance(error, Exception | SystemExit)  # some libraries call sys.exit

    def outcome(self) -> Outcome:
        """The failure, with its reason in one line: what the user can cure, or else the error itself."""
        if self.error is None:
            raise AssertionError("nothing was caught")
        reason = user_message(self.error) or " ".join(f"{type(self.error).__name__}: {self.error}".split())
        lines = "".join(traceback.format_exception(self.error)).splitlines()
        return Outcome(Status.FAILED, reason, lines)
