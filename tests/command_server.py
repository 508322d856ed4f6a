"""Start a program of Python's without the seconds in which it imports torch and MONAI.

A server process, one a test process, imports them once and is forked for each program. Of this project it imports
nothing: what a program does with its arguments, folder, exit status and output is as in a process of its own.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

LONGEST_MESSAGE = 100_000


class Command:
    """A started program; the part of `subprocess.Popen` that the tests use.

    Args:
        line: [python, script, ...] or [python, "-m", module, ...].
        cwd: its working directory.
        environment: its environment; `OMP_NUM_THREADS` must be the server's.
    """

    def __init__(self, line: Sequence[str], cwd: Path, environment: dict[str, str]) -> None:
        self.returncode: int | None = None
        self._outputs = [TemporaryFile("w+", encoding="utf-8") for _ in range(2)]  # noqa: SIM115 closed when read
        status, write_end = os.pipe()
        message = json.dumps({"line": list(line[1:]), "cwd": str(cwd), "environment": environment}).encode()
        descriptors = [write_end, *(file.fileno() for file in self._outputs)]
        socket.send_fds(_server(environment["OMP_NUM_THREADS"]), [message], descriptors)
        os.close(write_end)
        self._status = os.fdopen(status, "rb", buffering=0)
        self.pid = int(self._status.readline())

    def poll(self) -> int | None:
        """Its exit status; `None` while it runs."""
        return self._wait(0)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Its output and errors once it has ended.

        Raises:
            subprocess.TimeoutExpired: it runs for more than `timeout` seconds; it is killed.
        """
        if self._wait(timeout) is None:
            self.send_signal(signal.SIGKILL)
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        output, errors = (self._read(file) for file in self._outputs)
        return output, errors

    def _wait(self, timeout: float) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            with self._status:
                self.returncode = int(self._status.readline())
        return self.returncode

    def _read(self, file: IO[str]) -> str:
        with file:
            file.seek(0)
            return file.read()


@cache
def _server(threads: str) -> socket.socket:
    """The socket of a new server, which ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    line = [sys.executable, __file__, str(theirs.fileno())]
    process = subprocess.Popen(line, pass_fds=[theirs.fileno()], env=environment)
    theirs.close()
    atexit.register(lambda: (ours.close(), process.wait()))
    return ours


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for every request; gives the request in the fork, and None in the server when its owner has gone."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, LONGEST_MESSAGE, 3)
        if not message:
            return None
        status, *outputs = descriptors
        if os.fork() == 0:  # watches over the program
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            program = os.fork()
            if program == 0:
                os.close(status)
                for number, output in enumerate(outputs, 1):
                    os.dup2(output, number)
                    os.close(output)
                request: dict[str, Any] = json.loads(message)
                return request
            os.write(status, f"{program}\n".encode())
            _, ended = os.waitpid(program, 0)
            os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    import runpy

    import monai.bundle
    import monai.engines  # noqa: F401

    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if (wanted := serve(socket.socket(fileno=int(sys.argv[1])))) is not None:
        os.chdir(wanted["cwd"])
        os.environ.clear()
        os.environ.update(wanted["environment"])
        if wanted["line"][0] == "-m":
            sys.path[0], sys.argv = wanted["cwd"], wanted["line"][1:]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = wanted["line"]
            sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
            runpy.run_path(sys.argv[0], run_name="__main__")
