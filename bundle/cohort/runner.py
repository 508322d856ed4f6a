"""The cohort runner that `configs/cohort.yaml` names: every slide is attempted, then there is a summary."""

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from monai.utils import ensure_tuple
from tqdm import tqdm

from bundle.cohort.attempt import fail
from bundle.cohort.job import Job, Outcome, Status
from bundle.cohort.local import Executor, LocalExecutor
from bundle.cohort.lock import is_free, sweep
from bundle.cohort.places import SUMMARY, Places
from bundle.cohort.process import Limits
from bundle.cohort.progress import CohortBar
from bundle.cohort.segmentation import Segmentation, read_segmentation
from bundle.cohort.slides import CohortSlide, list_slides
from bundle.cohort.state import is_done, read_record
from bundle.cohort.summary import row_of, write_summary
from bundle.errors import CohortError, ConfigError
from bundle.study.running import ending_on_sigterm

logger = logging.getLogger(__name__)

POLL_S: Final = 0.5
"""How often slides that another runner has in work are looked at."""


class Cohort:
    """Segments many slides with an inference workflow.

    Args:
        bundle_root: folder of the bundle.
        slides: see `bundle.cohort.slides.list_slides`.
        output_dir: a sub-folder a slide, `failed/` and the summary; several runners may share it.
        inference: config file, or several, of the workflow.
        inference_overrides: settings of the workflow, nested as it is.
        mpp: µm per level-0 pixel of slides for which the list gives none; `None` believes the files.
        workers: slides at once on this machine.
        threads: of a slide; by default the cores are shared out among the workers.
        gpus: of a slide, with Ray.
        executor: "local" or "ray".
        address: of a Ray cluster; `None` starts Ray on this machine.
        timeout_s: seconds a slide may take.
        retries: how often a slide is tried again whose worker or node died.
        wait: whether to wait for slides that another runner has in work; else the summary says so.
        check_hashes: whether outputs of earlier runs are checked by their bytes, not their size only.
        progress: show a progress bar.

    Raises:
        ConfigError: a number or the executor's name cannot be meant.
    """

    def __init__(
        self,
        *,
        bundle_root: Path | str,
        slides: Path | str | None,
        output_dir: Path | str,
        inference: Path | str | Sequence[Path | str],
        inference_overrides: Mapping[str, Any] | None = None,
        mpp: float | None = None,
        workers: int = 1,
        threads: int | None = None,
        gpus: float = 0.0,
        executor: str = "local",
        address: str | None = None,
        timeout_s: float = 14400.0,
        retries: int = 1,
        wait: bool = True,
        check_hashes: bool = False,
        progress: bool = True,
    ) -> None:
        if workers < 1 or timeout_s <= 0 or retries < 0:
            raise ConfigError(f"workers {workers}, timeout_s {timeout_s}, retries {retries}: give 1 or more, >0, >=0")
        if executor not in ("local", "ray"):
            raise ConfigError(f"executor {executor!r}: choose local or ray")
        if "://" in str(output_dir):
            raise ConfigError(f"output_dir {output_dir}: must be a folder; mount the bucket, or copy the outputs after")
        self.bundle_root = bundle_root
        self.slides = slides
        self.root = Path(output_dir).absolute()
        self.inference = [Path(file) for file in ensure_tuple(inference)]
        self.inference_overrides = dict(inference_overrides or {})
        self.mpp = mpp
        self.workers = workers
        self.threads = threads or max(1, len(os.sched_getaffinity(0)) // workers)
        self.gpus = gpus
        self.executor = executor
        self.address = address
        self.timeout_s = timeout_s
        self.retries = retries
        self.wait = wait
        self.check_hashes = check_hashes
        self.progress = progress

    def run(self) -> None:
        """Segment what is not done, then write the summary of all slides.

        Raises:
            CohortError: slides failed; all others are done. Or the list of slides cannot be meant.
            BundleError: the list, the config or the weights cannot be read, or the output folder cannot be written.
        """
        slides = list_slides(self.slides, self.mpp)
        segmentation = read_segmentation(self.inference, self.inference_overrides, self.bundle_root)
        sweep(self.root)
        jobs = [self._job(slide, segmentation) for slide in slides]
        outcomes = {job.name: Outcome(Status.KEPT) for job in jobs if not job.known_failure and is_done(job)}
        todo = [job for job in jobs if job.name not in outcomes]
        logger.info("%d slides, %d of them done before", len(jobs), len(outcomes))
        if todo:
            bar = CohortBar(len(todo), len(outcomes), disable=not self.progress)
            with ending_on_sigterm(), bar, self._executor() as executor:
                outcomes |= self._work(todo, executor, bar)
        write_summary([row_of(slide, outcomes[slide.name], self.root) for slide in slides], self.root)
        failures = [outcome for outcome in outcomes.values() if outcome.status is Status.FAILED]
        if failures:
            summary = self.root / f"{SUMMARY}.html"
            raise CohortError(f"{len(failures)} of {len(slides)} slides failed; see {summary}")

    def _job(self, slide: CohortSlide, segmentation: Segmentation) -> Job:
        failure = read_record(Places(self.root, slide.name).failure)
        return Job(
            name=slide.name,
            image=str(slide.image),
            root=str(self.root),
            config_files=segmentation.files,
            overrides=segmentation.overrides,
            arguments=segmentation.arguments,
            config_hash=segmentation.config_hash,
            weights_hash=segmentation.weights_hash,
            mpp=slide.mpp,
            region=None if slide.region is None else list(slide.region),
            check_hashes=self.check_hashes,
            known_failure=None if failure is None else failure["attempt"],
        )

    @property
    def _limits(self) -> Limits:
        return Limits(self.threads, self.timeout_s, self.retries, os.getcwd())

    @contextmanager
    def _executor(self) -> Iterator[Executor]:
        if self.executor == "local":
            with closing(LocalExecutor(self.workers, self._limits)) as local:
                yield local
            return
        try:
            from bundle.cohort.ray_executor import RayExecutor
        except ImportError as error:
            raise CohortError("executor ray: Ray is not installed; pip install -e '.[cluster]'") from error
        with closing(RayExecutor(self.address, self.workers, self._limits, self.gpus)) as on_ray:
            yield on_ray

    def _work(self, jobs: Sequence[Job], executor: Executor, bar: CohortBar) -> dict[str, Outcome]:
        """The outcome of every job by its name, none of them `DIED` or `LATE`."""
        outcomes: dict[str, Outcome] = {}
        pending: dict[Future[Outcome], Job] = {executor.submit(job): job for job in jobs}
        elsewhere: list[Job] = []
        while pending or elsewhere:
            if not pending:
                time.sleep(POLL_S)
            for future in wait(pending, POLL_S if elsewhere else None, FIRST_COMPLETED).done:
                job = pending.pop(future)
                outcome = future.result()
                if outcome.status in (Status.DIED, Status.LATE):
                    outcome = fail(job, outcome)
                if outcome.status is Status.BUSY and self.wait:
                    elsewhere.append(job)
                else:
                    outcomes[job.name] = outcome
                    _tell(job, outcome, bar)
            free = [job for job in elsewhere if is_free(job.places.lock)]
            elsewhere = [job for job in elsewhere if job not in free]
            pending |= {executor.submit(job): job for job in free}
        return outcomes


def _tell(job: Job, outcome: Outcome, bar: CohortBar) -> None:
    is_failure = outcome.status is Status.FAILED
    if is_failure:  # also here, since on a full disk it is in no file
        tqdm.write(f"{job.name} failed: {outcome.reason}", file=sys.stderr)
    bar.add(is_failure)
