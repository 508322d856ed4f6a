"""Check what README.md and docs/*.md tell users to type: every command resolves, every file that is named exists.

Examples:
    python scripts/check_docs.py
    python scripts/check_docs.py --list docs/cluster.md
    python scripts/check_docs.py --run docs/evaluation.md

Without --run nothing is run. Of a command in a fenced `bash` block, the configs are merged and its overrides looked up
in them, as at the start of a run; a script must exist and have the options; extras must be in pyproject.toml. Words in
capitals (SLIDE, OUT) stand for the user's own. A block with the line `<!-- unchecked: REASON -->` above it is left out.
"""

import argparse
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundle.command_line import check_config_files, check_overrides
from bundle.errors import BundleError, ConfigError

ROOT = Path(__file__).parents[1]
RUNNER = Path(__file__).with_name("run_docs.py")
FENCE = re.compile(r"^(?:<!-- unchecked: (?P<reason>.+?) -->\n+)?```bash\n(?P<text>.*?)^```", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
FILE = re.compile(r"`((?:bundle|configs|docs|scripts|tests)/[\w./-]+\.\w+)`")
PLACEHOLDER = re.compile(r"(^|[^A-Za-z])[A-Z][A-Z_]*[A-Z]([^A-Za-z]|$)")
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*")
SHELL = {"for", "do", "done", "cd", "export", "srun", "sha256sum", "unzip"}
OTHERS = {"ray", "hf", "pytest", "monailabel", "curl", "java", "docker", "git", "QuPath"}
"""Programs of others, whose options are their own."""


@dataclass(frozen=True)
class Command:
    """One command of a document: its words, and why it is not checked, if it is not."""

    document: Path
    line: int
    words: tuple[str, ...]
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.document}:{self.line}: {shlex.join(self.words)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 1 if anything named does not exist."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", type=Path, nargs="*", help="default README.md and everything in docs/")
    parser.add_argument("--list", action="store_true", help="list the commands, each checked or why not")
    parser.add_argument("--run", action="store_true", help="then run them on small phantoms: scripts/run_docs.py")
    parser.add_argument("--output_dir", type=Path, help="with --run: keeps what is written; a new or empty folder")
    options = parser.parse_args(arguments)
    documents = options.documents or [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    faults: list[str] = []
    count = 0
    for document in documents:
        try:
            text = document.read_text(encoding="utf-8")
        except OSError as error:
            print(f"error: {document}: cannot be read ({error.strerror}); check the path", file=sys.stderr)
            return 1
        faults += missing_files(document, text)
        for command in commands(document, text):
            count += 1
            fault = None if command.reason else fault_of(command)
            faults += [f"{command}\n    {fault}"] if fault else []
            if options.list:
                print(f"{command}{f'   (unchecked: {command.reason})' if command.reason else ''}")
    print(f"{count} commands in {len(documents)} documents, {len(faults)} faults")
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    if faults or not options.run:
        return 1 if faults else 0
    kept = ["--output_dir", str(options.output_dir)] if options.output_dir else []
    return subprocess.run([sys.executable, str(RUNNER), *kept, *map(str, documents)]).returncode


def commands(document: Path, text: str) -> Iterator[Command]:
    """The commands of the fenced `bash` blocks, joined where a backslash breaks them, parted at `&&`, `;` and `|`."""
    for block in FENCE.finditer(text):
        line = text.count("\n", 0, block.start("text")) + 1
        for whole in block["text"].replace("\\\n", "  ").splitlines():
            lexer = shlex.shlex(re.sub(r"^#.*|\s#\s.*", "", whole), posix=True, punctuation_chars="|;&<>")
            lexer.whitespace_split, lexer.commenters = True, ""  # `#` is part of an override's name
            words: list[str] = []
            for word in [*lexer, ";"]:
                if word in ("&&", ";", "|", "&"):
                    if words:
                        yield Command(document, line, tuple(words), block["reason"])
                    words = []
                else:
                    words.append(word)
            line += 1


def missing_files(document: Path, text: str) -> list[str]:
    """Faults: links, and files of the project in backquotes, that lead nowhere."""
    linked = {(document.parent / link, link) for link in LINK.findall(text)}
    named = {(ROOT / name, name) for name in FILE.findall(text)}
    wrong = sorted(name for path, name in linked | named if not path.exists() and not PLACEHOLDER.search(path.stem))
    return [f"{document}: names {name}, which is not there" for name in wrong]


def fault_of(command: Command) -> str | None:
    """What is wrong with a command, in one line; `None` if nothing is."""
    try:
        _check(list(command.words))
    except BundleError as error:
        return str(error)
    return None


def _check(words: list[str]) -> None:
    while words and (ASSIGNMENT.fullmatch(words[0]) or words[0] in ("do", "srun", "nohup")):
        words = words[1:]
    lost = [w for w in words if w.startswith(("scripts/", "configs/")) and not PLACEHOLDER.search(w)]
    if lost := [name for name in lost if not (ROOT / name).exists()]:
        raise ConfigError(f"{lost[0]}: no such script or config")
    if not words or words[0] in SHELL | OTHERS or words[0].startswith("..."):
        return
    program, rest = Path(words[0]).name, words[1:]
    if "-m" in rest and rest[rest.index("-m") + 1] in ("monai.bundle", "bundle"):
        return _check_run(rest[rest.index("-m") + 2 :])
    if program.startswith("python") and rest[:1] == ["-m"]:
        return None
    if program in ("python", "bash") and rest:
        return _check_script(rest[0], rest[1:])
    if program == "pip":
        return _check_extras(re.findall(r"\.\[(.*?)\]", " ".join(rest)))
    raise ConfigError(f"{words[0]}: no program that is known here; mend it, or mark the block as unchecked")


def _check_run(words: list[str]) -> None:
    """The configs and overrides of a run; of other commands of MONAI the configs."""
    words = [word for word in words if word != "..."]
    if "--config_file" not in words:
        raise ConfigError("no --config_file")
    place = words.index("--config_file") + 1
    files = [file for file in re.findall(r"[^\[\]',\s]+", words[place]) if not PLACEHOLDER.search(file)]
    words[place] = str([str(ROOT / file) for file in files])
    check_config_files(words)
    if words[0] == "run":
        # An expression is of any kind, as the user's own value may be.
        check_overrides(["$" + word if re.fullmatch("[A-Z_]+", word) else word for word in words])


def _check_script(name: str, words: list[str]) -> None:
    script = ROOT / name
    if not script.is_file():
        raise ConfigError(f"{name}: no such script or config")
    if script.suffix == ".sh":
        return _check_extras(words if script.name == "install.sh" else [])
    source = script.read_text(encoding="utf-8")
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        if not re.search(rf'"{re.escape(option)}"', source):
            raise ConfigError(f"{name}: has no option {option}")
    return None


def _check_extras(names: Sequence[str]) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for name in (part for text in names for part in text.split(",")):
        if name not in known and not PLACEHOLDER.search(name):
            raise ConfigError(f"{name}: no extra of pyproject.toml; it has {', '.join(known)}")


if __name__ == "__main__":
    sys.exit(main())
