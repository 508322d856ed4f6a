"""Which reader opens a file: decided by inspection, so that none is trusted with a file that it gets wrong.

TIFF: a vendor's format that only OpenSlide understands goes there. JPEG tiles are decoded here, each once, at the
places that tifffile finds; of other tiles cuCIM, OpenSlide, tifffile in that order, each only if it shows the levels
and pixels that tifffile finds. Anything else: OpenSlide, or Pillow for PNG and JPEG.
"""

from pathlib import Path

import tifffile
from openslide import OpenSlide, OpenSlideError

from bundle.errors import SlideReadError
from bundle.readers.base import Reader, read_error
from bundle.readers.cucim_reader import cucim_reader
from bundle.readers.image_reader import ImageReader
from bundle.readers.jpeg_tiff import jpeg_reader
from bundle.readers.openslide_reader import OpenSlideReader
from bundle.readers.tiff_reader import TiffReader, check_tiff

__all__ = ["Reader", "open_reader"]

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_IMAGE = (b"\x89PNG", b"\xff\xd8\xff")
_OPENSLIDE_ALIKE = ("generic-tiff", "aperio")
"""TIFFs that every reader understands, in OpenSlide's names."""

_OPENSLIDE_COMPRESSIONS = (
    tifffile.COMPRESSION.JPEG,
    tifffile.COMPRESSION.APERIO_JP2000_YCBC,
    tifffile.COMPRESSION.APERIO_JP2000_RGB,
)
"""Of the others libtiff decodes damaged tiles without an error (measured with Deflate cut in half)."""


def open_reader(path: Path) -> Reader:
    """Open a slide file, or a folder of DICOM files, with the best reader for it.

    Raises:
        SlideReadError: missing, empty, truncated, in no known format, or no brightfield RGB image; names the file.
    """
    if path.is_dir():
        path = _dicom_in(path)
    magic = _magic(path)
    if path.suffix.lower() == ".vsi":
        # Its TIFF part is a preview only; as a slide it would be silently wrong.
        raise read_error(path, "Olympus VSI keeps its pixels in .ets files; convert it to OME-TIFF (QuPath, bfconvert)")
    vendor = _openslide_vendor(path)
    if magic in _TIFF:
        return _open_tiff(path, vendor)
    if vendor is not None:
        return OpenSlideReader(path)
    if magic[:4] in _IMAGE or magic[:3] in _IMAGE:
        return ImageReader(path)
    raise read_error(path, "in no known slide format; give SVS, NDPI, TIFF, OME-TIFF, DICOM, CZI, MRXS, PNG or JPEG")


def _open_tiff(path: Path, vendor: str | None) -> Reader:
    if vendor is not None and vendor not in _OPENSLIDE_ALIKE:
        check_tiff(path).close()
        return OpenSlideReader(path)
    reference = TiffReader(path)
    reader = jpeg_reader(reference) or cucim_reader(reference) or _matching_openslide(reference, vendor)
    if reader is None:
        return reference
    reference.close()
    return reader


def _matching_openslide(reference: TiffReader, vendor: str | None) -> OpenSlideReader | None:
    if vendor is None or reference.series.keyframe.compression not in _OPENSLIDE_COMPRESSIONS:
        return None
    try:
        reader = OpenSlideReader(reference.path)
    except SlideReadError:  # tifffile may still read it, and reports if not
        return None
    exact = reader.places_levels_exactly or not reference.decodes_colour
    if exact and reader.facts.level_sizes == reference.facts.level_sizes:
        reader.facts = reference.facts  # OpenSlide takes 72 dpi in the tags for the microscope's resolution
        return reader
    reader.close()
    return None


def _magic(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise read_error(path, f"cannot be opened ({error.strerror}); check the path") from error
    if not magic:
        raise read_error(path, "the file is empty; copy it again")
    return magic


def _openslide_vendor(path: Path) -> str | None:
    try:
        return OpenSlide.detect_format(path)
    except OpenSlideError as error:
        raise read_error(path, f"OpenSlide cannot inspect it ({error}); copy it again") from error


def _dicom_in(folder: Path) -> Path:
    """A file of the one DICOM series in `folder`; from it OpenSlide finds the others."""
    found: dict[str | None, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.stat().st_size and _openslide_vendor(path) == "dicom":
            reader = OpenSlideReader(path)
            found.setdefault(reader.stated("dicom.SeriesInstanceUID"), path)
            reader.close()
    if not found:
        raise read_error(folder, "is a folder without DICOM slide files; give the slide's file")
    if len(found) > 1:
        names = ", ".join(path.name for path in found.values())
        raise read_error(folder, f"holds {len(found)} DICOM slides; give one file of the slide you mean ({names})")
    return next(iter(found.values()))
