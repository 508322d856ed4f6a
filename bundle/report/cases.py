"""The segmented slides of a folder, as scripts/view.py serves them."""

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import escape

from bundle.errors import AnnotationError, ConfigError, SlideReadError
from bundle.geometry import Rect
from bundle.report.deepzoom import DeepZoom, tile_jpeg
from bundle.report.files import CORRECTED, GLOMERULI, REMEDY, REPORT, SUMMARY, read_json
from bundle.slide import Slide, open_slide

FACTS = {"file", "mpp", "offset_in_file_px", "width_px", "height_px"}
"""Of the slide, in summary.json."""

SERVER_MARK = b'<meta name="viewer-server" content="">'
"""Where report.html is told that a server shows it."""


@dataclass(frozen=True)
class Case:
    """One slide's outputs.

    Attributes:
        folder: with glomeruli.geojson and summary.json.
        image: the slide, or `None` where it was not found: then only what report.html holds is shown.
        lock: held by whoever writes into the folder.
    """

    folder: Path
    image: Path | None
    lock: threading.Lock = field(default_factory=threading.Lock, compare=False)

    @cached_property
    def slide(self) -> Slide:
        """The slide, open, its frame the one that was segmented.

        Raises:
            SlideReadError: it was not found, cannot be read or is another slide of this name.
            AnnotationError: summary.json is missing, no JSON object or does not say what was segmented.
        """
        facts = _slide_facts(self.folder / SUMMARY)
        if self.image is None:
            raise SlideReadError(f"{facts['file']}: not found beside its outputs; say where it is (--slides FOLDER)")
        slide = open_slide(self.image, mpp=facts["mpp"])
        (x, y), (width, height) = facts["offset_in_file_px"], (facts["width_px"], facts["height_px"])
        frame = Rect(x - slide.bounds.x, y - slide.bounds.y, width, height)
        if frame == Rect(0, 0, slide.size.width, slide.size.height):
            return slide
        slide.close()
        try:
            return open_slide(self.image, mpp=facts["mpp"], region=frame)
        except ConfigError as error:
            raise SlideReadError(f"{self.image}: is not the slide that was segmented ({error})") from error

    def page(self, base: str) -> bytes:
        """report.html, made first where it is missing, told that tiles and corrections are at `base`.

        Raises:
            BundleError: it cannot be made.
        """
        with self.lock:
            if not (self.folder / REPORT).is_file():
                # Here, since it brings torch, which takes longer to import than all else.
                from bundle.report.page import write_report

                write_report(self.slide, self.folder)
        # Opened here: a wrong slide is found out in one line, not tile by tile.
        has_tiles = self.image is not None and self.slide.size.width > 0
        facts = {
            "save": f"{base}corrections",
            "tiles": f"{base}slide_files" if has_tiles else None,
            "corrected": f"{base}{CORRECTED}" if (self.folder / CORRECTED).is_file() else None,
        }
        told = SERVER_MARK.replace(b'""', f'"{escape(json.dumps(facts))}"'.encode())
        return self.read(REPORT).replace(SERVER_MARK, told, 1)

    def read(self, name: str) -> bytes:
        """A file of the folder.

        Raises:
            AnnotationError: it is not there.
        """
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise AnnotationError(f"{name}: cannot be read ({error.strerror})") from error

    def zoom(self) -> DeepZoom:
        """The geometry of the slide's tiles; raises as `slide`."""
        return DeepZoom(self.slide.size)

    def tile(self, level: int, column: int, row: int) -> bytes | None:
        """A JPEG tile of the slide, see `tile_jpeg`; `None` if there is no such tile. Raises as `slide`."""
        return tile_jpeg(self.slide, self.zoom(), level, column, row)


def find_cases(folder: Path, slides: Sequence[Path] = ()) -> dict[str, Case]:
    """The segmented slides in `folder`, itself or its sub-folders, by name.

    Args:
        folder: an `output_dir` of inference or of a cohort.
        slides: files, or folders of files, where slides are looked for ahead of the outputs' own folders.

    Raises:
        ConfigError: nothing was segmented there.
        AnnotationError: a summary.json is no JSON object.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give the --output_dir of an inference")
    candidates = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    found = [path for path in candidates if (path / GLOMERULI).is_file() and (path / SUMMARY).is_file()]
    if not found:
        raise ConfigError(f"{folder}: holds no {GLOMERULI} with its {SUMMARY}; run inference into it first")
    names = [path.relative_to(folder.parent).as_posix() for path in found]
    cases = [Case(path, _find_slide(path, [*slides, path, folder])) for path in found]
    return dict(zip(names, cases, strict=True))


def _find_slide(folder: Path, places: Sequence[Path]) -> Path | None:
    """The slide that summary.json names, in the first of `places` that has it."""
    facts = read_json(folder / SUMMARY).get("slide")
    # The last part only: a name must not lead out of the places that the user gave.
    name = Path(str(facts.get("file", ""))).name if isinstance(facts, dict) else ""
    candidates = [place if place.is_file() and place.name == name else place / name for place in places]
    return next((path for path in candidates if name and path.exists()), None)


def _slide_facts(path: Path) -> dict[str, Any]:
    facts = read_json(path).get("slide")
    if not isinstance(facts, dict) or not facts.keys() >= FACTS:
        raise AnnotationError(f"{path}: its 'slide' does not have {', '.join(sorted(FACTS))}; {REMEDY}")
    return facts
