"""A worker process that reads jobs from its input, a line each, and answers in lines."""

import faulthandler
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def answer_lines(answer: Callable[[str], str], ready: str) -> None:
    """Say `ready`, then answer every line of the input until it ends, which it does when the asking process ends.

    Does not return: the process ends at once then, in the middle of a job too.

    Args:
        answer: a job's line to its answer's; must not raise.
        ready: first line of the output.
    """
    faulthandler.enable()  # a native crash tells where
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the asking process's to handle
    # Jobs and answers have files of their own. What libraries print goes to the log. And a process that a library forks
    # (OpenVINO's telemetry does) closes `sys.stdin`: it hung for ever while this one was reading from that.
    jobs = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(text: str) -> None:
        answers.write(text + "\n")
        answers.flush()

    say(ready)
    pool = ThreadPoolExecutor(1)
    for line in jobs:
        pool.submit(lambda text: say(answer(text)), line)
    os._exit(0)  # nobody waits for the job any more, and its lock goes with the process
