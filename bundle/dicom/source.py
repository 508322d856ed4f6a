"""The DICOM images of a slide: which instances its levels are, and what results that refer to them must repeat."""

import math
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import VLWholeSlideMicroscopyImageStorage

from bundle.errors import OutputError
from bundle.geometry import Size

_NO_LEVEL = frozenset({"LABEL", "OVERVIEW", "LOCALIZER"})
"""Image types (third value) that show the whole glass or its label, not the scan."""

_NEEDED = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "FrameOfReferenceUID",
    "TotalPixelMatrixColumns",
    "TotalPixelMatrixRows",
    "TotalPixelMatrixOriginSequence",
    "ImageOrientationSlide",
    "ContainerIdentifier",
    "SpecimenDescriptionSequence",
)
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""Type 2 attributes of every image; converters leave them out, and highdicom copies them."""


@dataclass(frozen=True)
class SourceLevel:
    """One resolution of a DICOM slide: the instance's `header` (no pixels), `size` in px, `mpp` along x and y in um."""

    header: Dataset
    size: Size
    mpp: tuple[float, float]


def source_levels(path: Path) -> tuple[SourceLevel, ...]:
    """The levels of a DICOM slide, finest first: of the file's series, in its folder, or of the folder's.

    Raises:
        OutputError: the slide is not DICOM, or lacks an attribute that a result has to repeat; names it.
    """
    series = _series_of(path)
    levels: dict[Size, SourceLevel] = {}
    for file in sorted(path.iterdir() if path.is_dir() else path.parent.iterdir()):
        header = _header(file)
        if header is not None and series in (None, header.SeriesInstanceUID) and _is_level(header):
            series = header.SeriesInstanceUID
            level = _level(file, header)
            # Focal planes and pieces of one level have one size: the first stands for all.
            levels.setdefault(level.size, level)
    if not levels:
        raise _not_dicom(path)
    return tuple(sorted(levels.values(), key=lambda level: -level.size.width))


def level_for(levels: tuple[SourceLevel, ...], mpp: float | None) -> SourceLevel:
    """The coarsest of `levels` whose pixels are no larger than `mpp` um, the finest if none is or `mpp` is None."""
    fine_enough = [level for level in levels if mpp is not None and max(level.mpp) <= mpp * 1.001]
    return fine_enough[-1] if fine_enough else levels[0]


def _series_of(path: Path) -> str | None:
    if path.is_dir():
        return None
    header = _header(path)
    if header is None:
        raise _not_dicom(path)
    return str(header.SeriesInstanceUID)


def _header(file: Path) -> Dataset | None:
    """The header of a whole-slide image; None of any other file."""
    if not file.is_file():
        return None
    try:
        header = dcmread(file, stop_before_pixels=True)
    except (InvalidDicomError, OSError, EOFError):
        return None
    return header if header.get("SOPClassUID") == VLWholeSlideMicroscopyImageStorage else None


def _is_level(header: Dataset) -> bool:
    return not _NO_LEVEL.intersection(header.get("ImageType", ()))


def _level(file: Path, header: Dataset) -> SourceLevel:
    for keyword in _NEEDED:
        if keyword not in header:
            raise OutputError(f"{file}: lacks {keyword}, which DICOM results must repeat; convert the slide again")
    for keyword in _MAY_BE_EMPTY:
        if keyword not in header:
            setattr(header, keyword, None)
    size = Size(int(header.TotalPixelMatrixColumns), int(header.TotalPixelMatrixRows))
    return SourceLevel(header, size, _mpp(file, header))


def _mpp(file: Path, header: Dataset) -> tuple[float, float]:
    """um per px along x and y; DICOM gives mm between rows, then between columns."""
    try:
        groups = header.SharedFunctionalGroupsSequence[0]
        between_rows, between_columns = (float(mm) * 1000 for mm in groups.PixelMeasuresSequence[0].PixelSpacing)
    except (AttributeError, IndexError, TypeError, ValueError):
        between_rows, between_columns = math.nan, math.nan
    if not (between_rows > 0 and between_columns > 0):
        raise OutputError(f"{file}: states no PixelSpacing, without which results have no place; convert it again")
    return between_columns, between_rows


def _not_dicom(path: Path) -> OutputError:
    return OutputError(
        f"{path}: is no DICOM slide, and DICOM results refer to one; "
        "convert the slide to DICOM first (such as with wsidicomizer) and segment the result"
    )
