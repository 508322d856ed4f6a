"""The report of a slide: one HTML page that needs nothing else, made from the slide and the outputs beside it."""

import base64
import hashlib
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, Template
from markupsafe import Markup
from tqdm import tqdm

from bundle.atomic import write_text
from bundle.classes import GLOBAL, GLOMERULUS_CLASSES, GlomerulusClass
from bundle.report.deepzoom import DeepZoom, EmbeddedPyramid, base64_jpeg, embed
from bundle.report.entries import Entry, read_entries
from bundle.report.figures import percentage
from bundle.report.files import GLOMERULI, REPORT, SUMMARY, read_json
from bundle.report.quality import Finding, QualityCheck
from bundle.slide import Slide

BUDGET_BYTES = 15_000_000
"""Of a page, without its viewer (0.4 MB)."""

CROP_PX = 160
CROP_MARGIN = 0.2
"""Of the longer side of a glomerulus, on each side of its crop."""

SCRIPTS = ("interval.js", "state.js", "corrections.js", "viewer.js", "overlay.js", "gallery.js", "panel.js", "main.js")
"""Files of the page's script, in order."""


def write_report(slide: Slide, folder: Path, *, budget_bytes: int = BUDGET_BYTES, progress: bool = False) -> Path:
    """Write report.html into `folder`, which holds glomeruli.geojson and summary.json of `slide`; give its path.

    Args:
        slide: open; read region by region.
        folder: outputs of inference.
        budget_bytes: the page's size; tiles get what crops and outlines leave, at least the coarsest. Finer tiles are
            left to scripts/view.py.
        progress: show a bar.

    Raises:
        AnnotationError: one of the two files is missing or not as inference writes it.
        SlideReadError: the slide's pixels are damaged.
        OutputError: the page cannot be written.
    """
    collection, summary = read_json(folder / GLOMERULI), read_json(folder / SUMMARY)
    entries = read_entries(collection, folder / GLOMERULI)
    crops = [_crop(slide, entry) for entry in tqdm(entries, "report, crops", disable=not progress, leave=False)]
    zoom = DeepZoom(slide.size)
    taken = len(json.dumps([collection, crops]))
    pyramid = embed(slide, zoom, budget_bytes - taken, progress)
    findings = QualityCheck()(slide, [entry.polygon for entry in entries])
    text = render(summary, collection, entries, crops, zoom, pyramid, findings)
    write_text(folder / REPORT, text)
    return folder / REPORT


def render(
    summary: Mapping[str, Any],
    collection: Mapping[str, Any],
    entries: Sequence[Entry],
    crops: Sequence[Mapping[str, Any]],
    zoom: DeepZoom,
    pyramid: EmbeddedPyramid,
    findings: Sequence[Finding],
) -> str:
    """The page's HTML; whatever comes from files is escaped.

    Args:
        summary: the document of summary.json.
        collection: the document of glomeruli.geojson.
        entries: its glomeruli.
        crops: picture and window of each of them.
        zoom: geometry of the slide's tiles.
        pyramid: the tiles held.
        findings: of the quality check.
    """
    data = {
        "slide": summary["slide"],
        "classes": [{"name": c.name, "title": title(c), "rgb": c.rgb} for c in GLOMERULUS_CLASSES],
        "collection": collection,
        "glomeruli": [
            {"probability": e.probability, "area": e.area_um2, "diameter": e.diameter_um, **crop}
            for e, crop in zip(entries, crops, strict=True)
        ],
        "zoom": _zoom(zoom, pyramid),
    }
    styles, library, script = class_colours() + asset("report.css"), asset("openseadragon.min.js"), page_script()
    return template().render(
        data=data,
        summary=summary,
        facts=list(_facts(summary)),
        classes=[{"title": title(c), **asdict(c), **_sizes(entries, c.name)} for c in GLOMERULUS_CLASSES],
        total=len(entries),
        percent=percentage(sum(e.name == GLOBAL.name for e in entries), len(entries)),
        findings=findings,
        warnings=sum(finding.status == "warning" for finding in findings),
        downsample=zoom.downsample(pyramid.max_level),
        styles=Markup(styles),
        library=Markup(library),
        script=Markup(script),
        licence=asset("openseadragon.LICENSE.txt"),
        policy=content_policy(styles, library, script),
    )


def title(glomerulus_class: GlomerulusClass) -> str:
    """A class's name to read: "Global sclerosis"."""
    return glomerulus_class.name.replace("_", " ").capitalize()


def fixed(value: float | None, digits: int) -> str:
    """A number with its thousands set apart, halves rounded up as a browser does it; a dash for `None`."""
    if value is None:
        return "\N{EN DASH}"
    return f"{Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):,}"


def class_colours() -> str:
    """CSS that gives whatever is of a class, `data-class`, its colour as `--class`."""
    return "".join(f'[data-class="{c.name}"] {{ --class: rgb{c.rgb} }}\n' for c in GLOMERULUS_CLASSES)


def content_policy(styles: str, *scripts: str) -> str:
    """A Content-Security-Policy that lets the page run its own scripts and nothing else."""
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src 'self' data: blob:; connect-src 'self'; "
        f"style-src {_hash(styles)}; script-src {' '.join(map(_hash, scripts))}"
    )


@cache
def template() -> Template:
    """The page's template; whatever it is given is escaped."""
    environment = Environment(loader=PackageLoader("bundle.report", "assets"), autoescape=True, trim_blocks=True)
    environment.filters["fixed"] = fixed
    return environment.get_template("report.html.j2")


@cache
def asset(name: str) -> str:
    """A text file of the folder `assets`."""
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")


@cache
def page_script() -> str:
    """The page's own script: the files of `SCRIPTS` in one function."""
    return '(() => {\n"use strict";\n' + "\n".join(asset(name) for name in SCRIPTS) + "})();\n"


def _facts(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where all of it came from, name and value, as summary.json has it."""
    slide, provenance = summary["slide"], summary["provenance"]
    yield "Slide", slide["file"]
    yield "SHA-256", slide["sha256"] or "none: a folder"
    yield "Read by", slide["reader"]
    for name, value in provenance.items():
        parts = value.items() if isinstance(value, dict) else ()
        yield name.replace("_", " ").capitalize(), ", ".join(f"{k} {v}" for k, v in parts) or str(value)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _sizes(entries: Sequence[Entry], name: str) -> dict[str, Any]:
    """Count, median area (µm²) and median diameter (µm) of a class; `None` where nothing was measured."""
    own = [entry for entry in entries if entry.name == name]
    areas = [entry.area_um2 for entry in own if entry.area_um2 is not None]
    diameters = [entry.diameter_um for entry in own if entry.diameter_um is not None]
    return {
        "count": len(own),
        "area_um2": statistics.median(areas) if areas else None,
        "diameter_um": statistics.median(diameters) if diameters else None,
    }


def _crop(slide: Slide, entry: Entry) -> dict[str, Any]:
    """A square picture of the glomerulus and its window, level-0 pixels: left, top, side."""
    left, top, right, bottom = entry.polygon.bounds
    side = max(right - left, bottom - top, 1.0) * (1 + 2 * CROP_MARGIN)
    x, y = (left + right - side) / 2, (top + bottom - side) / 2
    pixels = min(CROP_PX, max(16, round(side)))
    return {
        "picture": base64_jpeg(slide.read_downsampled(x, y, pixels, pixels, side / pixels)),
        "window": [round(value, 2) for value in (x, y, side)],
    }


def _zoom(zoom: DeepZoom, pyramid: EmbeddedPyramid) -> dict[str, Any]:
    size = zoom.level_size(pyramid.max_level)
    return {
        "width": size.width,
        "height": size.height,
        "tile": zoom.tile_px,
        "overlap": zoom.overlap_px,
        "minLevel": pyramid.min_level,
        "maxLevel": pyramid.max_level,
        "fullMaxLevel": zoom.max_level,
        "downsample": zoom.downsample(pyramid.max_level),
        "tiles": pyramid.tiles,
        "pictures": pyramid.pictures,
    }
