"""The worker: `python -m bundle.cohort.worker` segments the slides that the runner names.

It is a process of its own, so that a reader that crashes, hangs or eats all memory takes only its slide with it.
"""

from bundle.cohort.attempt import attempt
from bundle.cohort.job import Job
from bundle.line_worker import answer_lines

READY = "ready"


def main() -> None:
    """Work until the runner ends, however that happens."""
    answer_lines(lambda text: attempt(Job.from_json(text)).to_json(), READY)


if __name__ == "__main__":
    main()
