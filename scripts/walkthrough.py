"""Run the cells of scripts/walkthrough_text.md; write docs/walkthrough.md with what they print, and their pictures.

    python scripts/walkthrough.py
    python scripts/walkthrough.py --output_dir OUT/images --document OUT/walkthrough.md

The text is a notebook in Markdown. A fenced `bash` cell is run as it stands, a fenced `python` cell in one namespace
with those before it; what a Python cell prints goes below it, the figures that it draws become the pictures that are
named after it. No result is in the text itself: new weights need no more than a new run.
"""

import argparse
import contextlib
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from bundle.atomic import atomic_path, write_text
from bundle.errors import BundleError, CellError

ROOT = Path(__file__).resolve().parents[1]
TEXT = ROOT / "scripts" / "walkthrough_text.md"
IMAGES = "images/walkthrough"
WORK = "output/walkthrough"
"""How the text names the folders of pictures and of outputs; a run may have others."""
PYTHON = ".venv/bin/python"
CELL = re.compile(r"^```(?P<kind>bash|python)\n(?P<code>.*?)^```\n", re.M | re.S)
PICTURE = re.compile(rf"\]\({IMAGES}/(?P<name>[\w.]+)\)")


@dataclass(frozen=True)
class Places:
    """Where a run works and writes: outputs of the commands, pictures, and the document."""

    work_dir: Path
    output_dir: Path
    document: Path

    def mine(self, text: str) -> str:
        """`text` with this run's folder of outputs for the document's."""
        return text.replace(WORK, self.work_dir.as_posix())

    def readers(self, text: str) -> str:
        """`text` with the document's folder of outputs for this run's."""
        return text.replace(self.work_dir.as_posix(), WORK)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--output_dir", type=Path, default=ROOT / "docs" / IMAGES, help="folder of the pictures, default docs/" + IMAGES
    )
    add("--document", type=Path, default=ROOT / "docs" / "walkthrough.md", help="default docs/walkthrough.md")
    add("--work_dir", type=Path, help="folder of the commands' outputs, which are kept; default a temporary one")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="walkthrough-") as temporary:
            work_dir = (options.work_dir or Path(temporary)).resolve()
            write_walkthrough(TEXT.read_text(encoding="utf-8"), Places(work_dir, options.output_dir, options.document))
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def write_walkthrough(text: str, places: Places) -> None:
    """Run the cells of `text` from the top; write the document and its pictures.

    Raises:
        CellError: a command failed, or a cell draws more or fewer pictures than are named after it.
        OutputError: the document or a picture cannot be written.
    """
    matplotlib.use("Agg")
    output_dir, document = places.output_dir.resolve(), places.document.resolve()
    parts = []
    # As in a notebook that was started in the checkout.
    with contextlib.chdir(ROOT), _importable(ROOT):
        state: dict[str, Any] = {}
        for before, cell, after in _cells(text):
            parts += [before, cell[0]]
            if cell["kind"] == "bash":
                run_commands(places.mine(cell["code"]))
                continue
            printed, state = run_python(places.mine(cell["code"]), state)
            parts += [f"\n```text\n{places.readers(printed)}```\n"] if printed else []
            _save_pictures(PICTURE.findall(after), output_dir, cell["code"])
    parts.append(_after_last_cell(text))
    images = Path(os.path.relpath(output_dir, document.parent)).as_posix()
    write_text(document, "".join(parts).replace(f"]({IMAGES}/", f"]({images}/"))


def run_commands(code: str) -> None:
    """Run the commands of a `bash` cell, a line each, with this Python; what they print is shown.

    Raises:
        CellError: a command failed.
    """
    for line in code.replace("\\\n", " ").splitlines():
        print(f"$ {line}", file=sys.stderr)
        words = [sys.executable if word == PYTHON else word for word in shlex.split(line)]
        if words and (status := subprocess.run(words, check=False).returncode):
            raise CellError(f"walkthrough: `{line}` ended with status {status}; what it printed says why")


def run_python(code: str, state: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Run a `python` cell with the names in `state`; gives what it prints, and the names after it."""
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(printed):
        file = Path(folder) / "cell.py"
        file.write_text(code, encoding="utf-8")
        names = runpy.run_path(str(file), init_globals=dict(state))
    return printed.getvalue(), {name: value for name, value in names.items() if not name.startswith("__")}


def _cells(text: str) -> Iterator[tuple[str, re.Match[str], str]]:
    """Each cell with the text between it and the cell before, and that up to the next one."""
    cells = list(CELL.finditer(text))
    ends = [0, *(cell.end() for cell in cells)]
    starts = [*(cell.start() for cell in cells), len(text)]
    for number, cell in enumerate(cells):
        yield text[ends[number] : cell.start()], cell, text[cell.end() : starts[number + 1]]


def _after_last_cell(text: str) -> str:
    return CELL.split(text)[-1]


def _save_pictures(names: Sequence[str], output_dir: Path, code: str) -> None:
    figures = [plt.figure(number) for number in plt.get_fignums()]
    plt.close("all")
    if len(figures) != len(names):
        raise CellError(f"walkthrough: a cell draws {len(figures)} pictures, {len(names)} are named after it:\n{code}")
    for name, figure in zip(names, figures, strict=True):
        save_picture(figure, output_dir / name)


def save_picture(figure: Figure, path: Path) -> None:
    """Write a PNG of 256 colours: tissue in all its colours takes four times the bytes.

    Raises:
        OutputError: `path` cannot be written.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100, format="png")
    picture = Image.open(drawn).convert("RGB")
    # An octree keeps the few colours of outlines and classes, which a median cut gives up for those of tissue; but it
    # takes the white of the page for glass.
    few = picture.quantize(255, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette = np.append(np.resize(np.array(few.getpalette(), np.uint8), 255 * 3), [255] * 3)
    white = (np.asarray(picture) == 255).all(axis=2)
    saved = Image.fromarray(np.where(white, 255, np.asarray(few)).astype(np.uint8))
    saved.putpalette(palette.astype(np.uint8).tobytes())
    with atomic_path(path) as temporary:
        saved.save(temporary, optimize=True)


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


if __name__ == "__main__":
    sys.exit(main())
