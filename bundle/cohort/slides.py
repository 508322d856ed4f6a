"""Which slides a cohort has: those of a folder, of a datalist, or of a table."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.cohort.places import RESERVED
from bundle.data.datalist_files import SPLITS, read_sections, read_table
from bundle.data.slides import find_slides
from bundle.errors import CohortError


@dataclass(frozen=True)
class CohortSlide:
    """A slide of a cohort; whether it is there and can be read shows when it is its turn.

    Attributes:
        name: of its folder of outputs; no two slides share it.
        image: absolute path.
        mpp: µm per level-0 pixel, where the slide's own is not meant.
        region: x, y, width, height in level-0 pixels.
    """

    name: str
    image: Path
    mpp: float | None = None
    region: tuple[int, ...] | None = None


def list_slides(path: Path | str | None, mpp: float | None = None) -> list[CohortSlide]:
    """The slides that `path` means.

    Args:
        path: a folder of slides; a datalist (JSON, all its splits); a CSV with a column `image` or `slide` and, where
            wanted, `name`, `mpp` and `region` (a datalist's CSV too); or one slide. Paths in a file are relative to its
            folder.
        mpp: of slides for which the file gives none.

    Raises:
        CohortError: no path, no slide in it, a row that cannot be meant, or two slides of one name.
        DatalistError: the file is malformed.
        SlideReadError: nothing is at `path`, or the folder holds no slide.
    """
    if path is None:
        raise CohortError("no slides: give --slides a folder, a datalist or a CSV file")
    path = Path(path).absolute()
    if path.suffix.lower() in (".json", ".csv"):
        rows = [(f"{path}: slide {i}", row) for i, row in enumerate(_rows(path), start=1)]
        slides = [_slide_of(row, path.parent, mpp, where) for where, row in rows]
    else:
        items = find_slides(path)
        slides = [CohortSlide(item["name"] or path.stem, Path(item["image"]), mpp) for item in items]
    if not slides:
        raise CohortError(f"{path}: lists no slide")
    return list(_with_unique_names(slides, path))


def _rows(path: Path) -> Iterable[Mapping[str, Any]]:
    if path.suffix.lower() == ".csv":
        return read_table(path)
    sections = read_sections(path)
    return [row for split in SPLITS for row in sections[split]]


def _slide_of(row: Mapping[str, Any], folder: Path, mpp: float | None, where: str) -> CohortSlide:
    image = row.get("image") or row.get("slide")
    if not isinstance(image, str):
        raise CohortError(f"{where}: has no image; give the path of a slide in the column image or slide")
    # Beside an image, a datalist's slide is an id.
    name = row.get("name") or (row.get("slide") if row.get("image") else None) or ""
    own_mpp = row.get("mpp", mpp)
    if own_mpp is not None and (isinstance(own_mpp, bool) or not isinstance(own_mpp, int | float)):
        raise CohortError(f"{where}: mpp {own_mpp!r} is no number; give micrometres per pixel, such as 0.25")
    region = row.get("region")
    if region is not None and not (isinstance(region, list) and [type(value) for value in region] == [int] * 4):
        raise CohortError(f"{where}: region {region!r} is not [x, y, width, height] in whole level-0 pixels")
    return CohortSlide(str(name), folder / image, own_mpp, None if region is None else tuple(region))


def _with_unique_names(slides: list[CohortSlide], path: Path) -> Iterable[CohortSlide]:
    stems = Counter(slide.name or slide.image.stem for slide in slides)
    names = []
    for slide in slides:
        name = slide.name or slide.image.stem
        if not slide.name and (stems[name] > 1 or name in RESERVED):
            name = slide.image.name  # two scans may share a stem; then the suffix keeps their outputs apart
        if name in RESERVED or name.startswith(".") or Path(name).name != name:
            raise CohortError(f"{path}: {name!r} cannot be the name of a folder of outputs; give {slide.image} another")
        names.append(name)
        yield CohortSlide(name, slide.image, slide.mpp, slide.region)
    for name, count in Counter(names).items():
        if count > 1:
            raise CohortError(f"{path}: {count} slides are called {name!r}; tell them apart by a column `name`")
