"""Copies of the checkout in which the commands of documents run, with what they are given; for run_docs.py."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from check_docs import ROOT, Command

from bundle.errors import ConfigError


def make_given(folder: Path, words: Sequence[str], maker: str, timeout_s: float) -> None:
    """Make a committed copy of the checkout in `folder`, and in it what the command `maker` makes of `words`.

    Raises:
        ConfigError: this is no git checkout, or `maker` fails.
    """
    for name in checkout_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    author = ["-c", "user.name=run_docs", "-c", "user.email=run_docs@localhost"]
    for git in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "As in the checkout"]):
        subprocess.run(["git", *git], cwd=folder, check=True)
    log = folder.parent / "given.txt"
    status = execute([sys.executable, *shlex.split(maker), *words], folder, {}, log, timeout_s)
    if status != 0:
        raise ConfigError(f"what commands are given cannot be made:\n{log.read_text(encoding='utf-8')[-2000:]}")


def copy_given(given: Path, folder: Path, document: Sequence[Command]) -> None:
    """Copy to `folder` what is given, but not what the document's own commands make."""
    shutil.copytree(given, folder, symlinks=True)
    ours = {str(part) for file in checkout_files() for part in (Path(file), *Path(file).parents)}
    for option, name in (pair for command in document for pair in pairwise(command.words)):
        path = folder / name
        inside = folder in path.resolve().parents  # a document may name /shared/out
        if option in ("--output_dir", "--out") and inside and str(Path(name)) not in ours:
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)


def checkout_files() -> list[str]:
    """Files of the checkout, new ones too, but not those that git ignores.

    Raises:
        ConfigError: this is no git checkout.
    """
    git = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        raise ConfigError(f"{ROOT}: documents run in a copy of the git checkout, which this is not")
    return [name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]


def execute(words: Sequence[str], folder: Path, environment: dict[str, str], log: Path, timeout_s: float) -> int | None:
    """Run a command with its output in `log`; gives its exit status, `None` when its time was over."""
    # The copy's own modules, not an installed checkout's; exported networks are kept beside, not among the user's.
    cache = {"XDG_CACHE_HOME": str(folder.parent / "cache"), "PYTHONPATH": str(folder)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env={**os.environ, **cache, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # its workers too
                process.wait()
