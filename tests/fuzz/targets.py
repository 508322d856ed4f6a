"""What is fuzzed: kinds of files, how they are mutated, and what a user's program does with one."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from bundle.data.annotations import read_annotation, write_geojson
from bundle.data.datalist import read_items, write_datalist
from bundle.errors import SlideReadError
from bundle.geometry import Size
from bundle.slide import Slide, open_slide
from bundle.weights import load_weights
from tests.fuzz import valid_files
from tests.fuzz.mutations import mutate_bytes
from tests.fuzz.text_mutations import mutate_text
from tests.fuzz.tiff_mutations import mutate_tiff

SEED = 20260729
"""Never changed: it names the inputs in bug reports."""

_SIDE_PX = 96


@dataclass(frozen=True)
class Kind:
    """A group of inputs: `write` makes the valid files, `mutate` one input of a file, `use` what a program does."""

    write: Callable[[Path], list[Path]]
    mutate: Callable[[bytes, Path, np.random.Generator], bytes]
    use: Callable[[Path], None]
    count: int
    """Inputs of a full run."""


@dataclass(frozen=True)
class Case:
    """One input: the `index`-th of a kind, or a `file` that is read as one of that kind."""

    kind: str
    index: int = 0
    file: Path | None = None


class WrongResultError(Exception):
    """A file was accepted, but what came of it breaks a promise of the reader."""


def write_case(case: Case, valid: Path, folder: Path) -> Path:
    """Write the input `case` to `folder`; `valid` is where the valid files are kept."""
    if case.file is not None:
        path = folder / case.file.name
        path.symlink_to(case.file.resolve())  # may be a sparse file of gigabytes
        return path
    kind = KINDS[case.kind]
    sources = _sources(case.kind, valid)
    source = sources[case.index % len(sources)]
    rng = np.random.default_rng((SEED, zlib.crc32(case.kind.encode()), case.index))
    path = folder / f"{case.kind}_{case.index}_{source.name}"
    path.write_bytes(kind.mutate(source.read_bytes(), source, rng))
    return path


@cache
def _sources(kind: str, valid: Path) -> list[Path]:
    folder = valid / kind
    folder.mkdir(exist_ok=True, parents=True)
    return KINDS[kind].write(folder)


def use_slide(path: Path) -> None:
    """Open a slide, look at all of it, and at the corners and the middle of every level."""
    with open_slide(path) as slide:
        slide.thumbnail(_SIDE_PX)
        for downsample in (1.7, 4.0, 8.0):
            slide.read_downsampled(-8, -8, _SIDE_PX, _SIDE_PX, downsample)
        for level in range(len(slide.levels)):
            _read_level(slide, level)


def _read_level(slide: Slide, level: int) -> None:
    size = slide.levels[level].size
    corners = [(-8, -8), (size.width // 2, size.height // 2), (size.width - 40, size.height - 40)]
    for x, y in corners:
        pixels = slide.read(level, x, y, _SIDE_PX, _SIDE_PX)
        if pixels.shape != (_SIDE_PX, _SIDE_PX, 3) or pixels.dtype != np.uint8:
            raise WrongResultError(f"pixels {pixels.shape} {pixels.dtype}")
        if not np.array_equal(pixels, slide.read(level, x, y, _SIDE_PX, _SIDE_PX)):
            raise WrongResultError("two reads of one place differ: uninitialised memory")


def use_text(path: Path) -> None:
    """A datalist is read and written, anything else is an annotation."""
    if "datalist" in path.name:
        use_datalist(path)
    else:
        use_annotation(path)


def use_annotation(path: Path) -> None:
    """Read an annotation, paint it, write it as GeoJSON and read that."""
    slide_id = "slide" if path.suffix == ".csv" else None
    annotation = read_annotation(path, slide_id=slide_id, slide_size=Size(20, 12))
    for glomerulus in (*annotation.glomeruli, *annotation.background):
        if not glomerulus.polygon.is_valid or glomerulus.polygon.is_empty:
            raise WrongResultError("an invalid polygon")
    annotation.rasterize(0, 0, 64, 64, 1.0)
    annotation.rasterize_instances(-1e5, -1e5, 64, 64, 3125.0)
    copy = path.with_suffix(".copy.geojson")
    try:
        write_geojson(annotation, copy)
        again = read_annotation(copy)
    finally:
        copy.unlink(missing_ok=True)
    if len(again.glomeruli) != len(annotation.glomeruli):
        raise WrongResultError("objects are lost in GeoJSON")


def use_datalist(path: Path) -> None:
    """Read a datalist, make the transforms' dictionaries, write it and read that."""
    items = read_items(path)
    for split in items.values():
        for item in split:
            item.as_dict()
    copy = path.with_name(f"copy_{path.name}")
    try:
        write_datalist(items, copy)
        again = read_items(copy)
    finally:
        copy.unlink(missing_ok=True)
    if {split: len(found) for split, found in again.items()} != {split: len(found) for split, found in items.items()}:
        raise WrongResultError("items are lost in writing")


def use_weights(path: Path) -> None:
    """Load weights into the network that the valid ones are of."""
    load_weights(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)), path)


def _any_file(content: bytes, path: Path, rng: np.random.Generator) -> bytes:
    return mutate_bytes(content, rng)


def _image(content: bytes, path: Path, rng: np.random.Generator) -> bytes:
    return mutate_tiff(content, rng) if path.suffix in (".tif", ".tiff", ".svs") else mutate_bytes(content, rng)


def misbehave(path: Path) -> None:
    """Do what the file says: the reader that the tests of the trials run."""
    exec(path.read_text(), {"path": path, "SlideReadError": SlideReadError})


KINDS = {
    "slide": Kind(valid_files.write_slides, _image, use_slide, 2000),
    "text": Kind(valid_files.write_texts, mutate_text, use_text, 2000),
    "image": Kind(valid_files.write_images, _image, use_slide, 200),
    "mask": Kind(valid_files.write_masks, _image, use_annotation, 400),
    "weights": Kind(valid_files.write_weights, _any_file, use_weights, 400),
}
"""By the name that the command line knows."""

USES = {**{name: kind.use for name, kind in KINDS.items()}, "misdeed": misbehave}
"""What is done with a file of a kind."""
