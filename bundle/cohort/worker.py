"""The worker: `python -m bundle.cohort.worker` reads jobs from its input, a line each, and answers in lines.

It is a process of its own, so that a reader that crashes, hangs or eats all memory takes only its slide with it.
"""

import faulthandler
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TextIO

from bundle.cohort.attempt import attempt
from bundle.cohort.job import Job

READY = "ready"


def main() -> None:
    """Work until the input ends, which it does when the runner ends, however that happens."""
    faulthandler.enable()  # a native crash tells where
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the runner's to handle
    # Jobs and answers have files of their own. What libraries print goes to the log. And a process that a library forks
    # (OpenVINO's telemetry does) closes `sys.stdin`: it hung for ever while this one was reading from that.
    jobs = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _answer(answers, READY)
    pool = ThreadPoolExecutor(1)
    for line in jobs:
        pool.submit(lambda text: _answer(answers, attempt(Job.from_json(text)).to_json()), line)
    os._exit(0)  # at once, in the middle of a slide too: nobody waits for it any more, and its lock goes with it


def _answer(answers: TextIO, text: str) -> None:
    answers.write(text + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
