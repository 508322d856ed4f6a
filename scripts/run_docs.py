"""Run the commands of documents, each document's in a copy of the checkout of its own: `check_docs.py --run` starts it.

    python scripts/run_docs.py --output_dir DIR docs/evaluation.md

A document's commands run in its order on small phantoms, under the names that the documents give their readers' things
(SLIDES, datalist.json). run_docs.yaml says what stands for a word, which commands are shortened, and which cannot run
and why. For each command is printed: ran, not run with the reason, or failed with the last lines of its output.
"""

import argparse
import glob
import os
import re
import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import yaml
from check_docs import ASSIGNMENT, ROOT, Command, commands
from docs_copies import copy_given, execute, make_given

from bundle.errors import BundleError, ConfigError

TABLE = Path(__file__).with_suffix(".yaml")
TAIL_LINES = 15
SYNTAX = {"for", "do", "done"}


@dataclass(frozen=True)
class Table:
    """run_docs.yaml, where each entry is explained. `not_run` and `shortened` have the member `match`, a pattern."""

    timeout_s: float
    given: str
    rest: str
    words: dict[str, str | dict[str, str]]
    left_out: dict[str, str]
    shortened: list[dict[str, str]]
    not_run: list[dict[str, str]]


@dataclass
class Folder:
    """A document's copy of the checkout, and what has happened in it."""

    path: Path
    logs: list[Path] = field(default_factory=list)
    last_run: list[str] = field(default_factory=list)

    def printed(self, pattern: str) -> str:
        """What `pattern` finds last in the output of the commands so far; `ConfigError` if nothing."""
        text = "\n".join(log.read_text(encoding="utf-8", errors="replace") for log in self.logs)
        found = re.findall(pattern, text)
        if not found:
            raise ConfigError(f"no command before it has printed {pattern!r}")
        return str(found[-1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the documents that the command line names; returns the exit status: 1 if a command fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", type=Path, nargs="+")
    parser.add_argument("--output_dir", type=Path, help="keeps the copies and logs; a new or empty folder")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="run_docs_") as temporary:
        try:
            return run_documents(options.documents, (options.output_dir or Path(temporary)).resolve())
        except (BundleError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1


def run_documents(documents: Sequence[Path], output_dir: Path) -> int:
    """Run their commands below `output_dir`, print a line for each; returns 1 if any fails, else 0.

    Raises:
        ConfigError: `output_dir` holds something, this is no git checkout, or the things given cannot be made.
    """
    if output_dir.exists() and any(output_dir.iterdir()):
        raise ConfigError(f"{output_dir}: holds files already; give a new folder")
    table = Table(**yaml.safe_load(TABLE.read_text(encoding="utf-8")))
    found = [c for document in documents for c in commands(document, document.read_text(encoding="utf-8"))]
    counts = {"ran": 0, "not run": 0, "FAILED": 0}
    to_run = [command for command in found if _reason(command, table) is None]
    if to_run:
        words = sorted({part for c in to_run for word in c.words for part in re.findall(r"[\w./]+", word)})
        make_given(output_dir / "given", words, table.given, 4 * table.timeout_s)
    for document, group in groupby(found, lambda command: command.document):
        folder = Folder(output_dir / re.sub(r"\W+", "_", os.path.relpath(document, ROOT)).strip("_"))
        in_order = list(group)
        if any(command in to_run for command in in_order):
            copy_given(output_dir / "given", folder.path, in_order)
        for command in in_order:
            state, note = _outcome(command, folder, table)
            counts[state] += 1
            print(f"{state:8}{os.path.relpath(command.document)}:{command.line}: {shlex.join(command.words)}")
            print(f"        {note}", flush=True)
    print(", ".join(f"{count} {state}" for state, count in counts.items()), end="")
    print(f" in {len(documents)} documents, {_cpu_s():.0f} s of CPU")
    return 1 if counts["FAILED"] else 0


def _cpu_s() -> float:
    """CPU time of all processes that were started and have ended, s."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reason(command: Command, table: Table) -> str | None:
    """Why a command is not run; `None` if it is."""
    if command.reason or command.words[0] in SYNTAX:
        return command.reason or "a part of a loop"
    return next((rule["reason"] for rule in table.not_run if re.search(rule["match"], str(command))), None)


def _outcome(command: Command, folder: Folder, table: Table) -> tuple[str, str]:
    """The state that is printed, and a note: time and changes, or reason, or output."""
    if reason := _reason(command, table):
        return "not run", reason
    try:
        environment, words, notes = prepare(command, folder, table)
    except ConfigError as error:
        return "FAILED", str(error)
    began, cpu_began = time.monotonic(), _cpu_s()
    log = folder.path / f"log_{len(folder.logs):02d}.txt"
    status = execute(words, folder.path, environment, log, table.timeout_s)
    folder.logs.append(log)
    seconds = f"{time.monotonic() - began:.1f} s, {_cpu_s() - cpu_began:.1f} s of CPU"
    if status != 0:
        tail = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()[-TAIL_LINES:]
        how = f"exit status {status}" if status is not None else f"stopped after {table.timeout_s:g} s"
        return "FAILED", "\n        ".join([f"{seconds}, {how}: {shlex.join(words)}", *tail])
    return "ran", "; ".join([seconds, *notes])


def prepare(command: Command, folder: Folder, table: Table) -> tuple[dict[str, str], list[str], list[str]]:
    """Environment, words and notes of what really runs: given values for the reader's, shortened, its own Python.

    Raises:
        ConfigError: it goes on from a command that is not there, or needs what none has printed.
    """
    words, notes = list(command.words), []
    if words[0] in table.left_out:
        notes.append(f"without {words[0]}: {table.left_out[words.pop(0)]}")
    environment = dict[str, str]()
    while ASSIGNMENT.fullmatch(words[0]):
        name, _, environment[name] = words.pop(0).partition("=")
    if words[0] == "...":
        if not folder.last_run:
            raise ConfigError("no run before it to which `...` could add")
        words = [*folder.last_run, *words[1:]]
    if words[-1] == "...":
        words = [*words[:-1], *shlex.split(table.rest.format(line=command.line))]
    if "--config_file" in words:
        folder.last_run = words
    for rule in table.shortened:
        if re.search(rule["match"], shlex.join(words)):
            words = [*words, *shlex.split(rule["add"])]
            notes.append(f"shortened: {rule['add']}")
            break
    words = [file for word in words for file in _expanded(_replaced(word, folder, table), folder.path)]
    if Path(words[0]).name == "python":
        words[0] = sys.executable
    return environment, words, notes


def _replaced(word: str, folder: Folder, table: Table) -> str:
    for name, value in table.words.items():
        pattern = rf"(?<![\w.]){re.escape(name)}(?!\w)"
        if re.search(pattern, word):
            text = value if isinstance(value, str) else folder.printed(value["printed"])
            word = re.sub(pattern, lambda _, text=text: text, word)  # type: ignore[misc]
    return word


def _expanded(word: str, folder: Path) -> list[str]:
    """A shell's expansion of `*` alone: of other wildcards regular expressions in the words have many."""
    return (sorted(glob.glob(word, root_dir=folder)) if "*" in word else []) or [word]


if __name__ == "__main__":
    sys.exit(main())
