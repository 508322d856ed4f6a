"""The engine as the server sees it: a job in, its result out, one at a time; started when needed, and again if it dies.

Nothing of the bundle is imported here: its environment and MONAI Label's exclude each other (numpy).
"""

import json
import logging
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class EngineError(Exception):
    """A job failed; the message is one line that says what is wrong and what to do."""


class Engine:
    """The bundle's own Python, running `engine.worker`.

    Args:
        python: interpreter of the bundle's environment.
        root: the bundle.
        app_dir: this app.
        log: file for what the engine prints.
    """

    def __init__(self, python: Path, root: Path, app_dir: Path, log: Path) -> None:
        self.python = python
        self.root = root
        self.app_dir = app_dir
        self.log = log
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, kind: str, **job: Any) -> dict[str, Any]:
        """The result of a job, see `engine.worker.JOBS`; waits for those that others have asked for before.

        Raises:
            EngineError: the job failed, or the engine cannot be started or died.
        """
        text = json.dumps({"kind": kind, **job}, default=str)
        with self._lock:
            process = self._process or self._start()
            answer = self._exchange(process, text)
        if "error" in answer:
            logger.error("engine: %s\n%s", answer["error"], "\n".join(answer["trace"]))
            raise EngineError(answer["error"])
        return dict(answer["result"])

    def close(self) -> None:
        """End the engine; the next job starts it again."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            with process:
                process.kill()

    def _start(self) -> "subprocess.Popen[str]":
        if not self.python.is_file():
            raise EngineError(
                f"{self.python}: no such interpreter; make the bundle's environment with scripts/install.sh, or start "
                f"the server with --conf bundle_python PYTHON"
            )
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "w") as log:
            self._process = process = subprocess.Popen(
                [str(self.python), "-m", "engine.worker"],
                cwd=self.root,
                env=bundle_environment(self.root, self.app_dir),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
            )
        self._exchange(process, "")
        return process

    def _exchange(self, process: "subprocess.Popen[str]", text: str) -> dict[str, Any]:
        try:
            if process.stdin is None or process.stdout is None:
                raise AssertionError("the engine has no pipes")
            if text:
                process.stdin.write(text + "\n")
                process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return dict(json.loads(line))
        self._process = None
        with process:
            process.kill()
        raise EngineError(f"the engine ended with status {process.returncode}; its log {self.log} says more")


def bundle_environment(root: Path, *more: Path) -> dict[str, str]:
    """Environment variables for the bundle's own Python: MONAI Label's search path is not for it."""
    path = os.pathsep.join(str(folder) for folder in (*more, root))
    return {**{k: v for k, v in os.environ.items() if k != "PYTHONHOME"}, "PYTHONPATH": path}
