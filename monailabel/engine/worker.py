"""The engine: `python -m engine.worker` reads jobs from its input, a line of JSON each, and answers in lines.

It is a process of the bundle's own environment, since MONAI Label's (numpy 1.26) cannot hold the bundle. It stays up
between requests: importing torch and MONAI takes longer than segmenting a region.
"""

import faulthandler
import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TextIO

from bundle.cohort.attempt import Caught

from .prompting import prompts_from_labels
from .segmenting import fingerprint, segment

JOBS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "segment": segment,
    "fingerprint": fingerprint,
    "prompts": prompts_from_labels,
}


def main() -> None:
    """Work until the input ends, which it does when the server ends, however that happens."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    # Jobs and answers have files of their own: what libraries print goes to the log, see bundle/cohort/worker.py.
    jobs = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _say(answers, {"ready": True})
    pool = ThreadPoolExecutor(1)
    for line in jobs:
        pool.submit(lambda text: _say(answers, answer(text)), line)
    os._exit(0)  # at once, also in the middle of a slide: nobody waits for it any more


def answer(text: str) -> dict[str, Any]:
    """The answer to a job: {"result": ...}, or {"error": one line, "trace": lines}; never raises."""
    with Caught() as caught:
        job = json.loads(text)
        return {"result": JOBS[job.pop("kind")](**job)}
    outcome = caught.outcome()
    return {"error": outcome.reason, "trace": outcome.trace}


def _say(answers: TextIO, value: dict[str, Any]) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
