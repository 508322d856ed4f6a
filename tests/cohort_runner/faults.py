"""A reader with faults that no file can be relied on to cause, named by a test's override of `preprocessing`."""

import os
import signal
import time
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from bundle.transforms import OpenSlided


class FaultyOpenSlided(OpenSlided):
    """Opens slides, but crashes on crash.tif and hangs on hang.tif, as native readers may.

    The environment makes others slow (COHORT_DELAY_S, seconds) and counts them (COHORT_OPENED, a file of names).
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        name = Path(data["image"]).name
        if log := os.environ.get("COHORT_OPENED"):
            with open(log, "a", encoding="utf-8") as file:
                file.write(name + "\n")
        if name == "crash.tif":
            os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(600 if name == "hang.tif" else float(os.environ.get("COHORT_DELAY_S", "0")))
        return super().__call__(data)
