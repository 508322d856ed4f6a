"""The engine: `python -m engine.worker` answers jobs, a line of JSON each.

It is a process of the bundle's own environment, since MONAI Label's (numpy 1.26) cannot hold the bundle. It stays up
between requests: importing torch and MONAI takes longer than segmenting a region.
"""

import json
from collections.abc import Callable
from typing import Any, Final

from bundle.cohort.attempt import Caught
from bundle.line_worker import answer_lines

from .prompting import prompts_from_labels
from .segmenting import fingerprint, segment

JOBS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "segment": segment,
    "fingerprint": fingerprint,
    "prompts": prompts_from_labels,
}


def main() -> None:
    """Work until the server ends, however that happens."""
    answer_lines(lambda text: json.dumps(answer(text)), json.dumps({"ready": True}))


def answer(text: str) -> dict[str, Any]:
    """The answer to a job: {"result": ...}, or {"error": one line, "trace": lines}; never raises."""
    with Caught() as caught:
        job = json.loads(text)
        return {"result": JOBS[job.pop("kind")](**job)}
    outcome = caught.outcome()
    return {"error": outcome.reason, "trace": outcome.trace}


if __name__ == "__main__":
    main()
