"""cuCIM: the fastest reader of JPEG 2000 in TIFF, on the CPU too; used only where tifffile confirms what it shows."""

from typing import Any

import numpy as np
import tifffile

from bundle.readers.base import Pixels
from bundle.readers.tiff_reader import TiffReader

_NO_PREDICTOR = 1
_COMPRESSIONS = (tifffile.COMPRESSION.APERIO_JP2000_RGB,)
"""Its damaged tiles raise. Not JPEG, which `jpeg_tiff` decodes; of it and of LZW a damaged tile shows uninitialised
memory. Not Deflate: with a predictor cuCIM 26.10 dies of a segmentation fault, without one its libtiff complains on
stderr at every opening. All measured."""
_PROBE_PX = 64
_ROUNDING = 2
"""Grey levels by which two JPEG 2000 decoders may differ."""


class CuCimReader:
    """cuCIM behind the `Reader` interface. Safe for threads: it reads by position, without a shared file pointer."""

    def __init__(self, image: Any, reference: TiffReader):
        """Made by `cucim_reader`, after its checks."""
        self.name = "cucim"
        self.facts = reference.facts
        self._image = image
        self._downsamples = image.resolutions["level_downsamples"]

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """See `Reader.read`."""
        # The location counts level-0 pixels and is rounded: aim at the pixel's middle, or it goes to a neighbour.
        downsample = self._downsamples[level]
        location = (int((x + 0.5) * downsample), int((y + 0.5) * downsample)) if level else (x, y)
        return np.asarray(self._image.read_region(location, (width, height), level))

    def close(self) -> None:
        """See `Reader.close`."""
        self._image.close()


def cucim_reader(reference: TiffReader) -> CuCimReader | None:
    """cuCIM on the file that `reference` has open, or None where it is absent or not to be trusted with that file.

    Trusted: tiled 8-bit RGB with levels as top-level pages, known compression, the same level sizes, and equal pixels
    in the middle of the coarsest level.
    """
    try:
        from cucim import CuImage  # type: ignore[attr-defined]
    except ImportError:
        return None
    if not _is_plain(reference):
        return None
    try:
        image = CuImage(str(reference.path))
        reader = CuCimReader(image, reference)
        if _agrees(reader, reference):
            return reader
    except (RuntimeError, ValueError, OSError, ArithmeticError):  # no reason is lost: the next reader reports it
        return None
    reader.close()
    return None


def _is_plain(reference: TiffReader) -> bool:
    pages = [level.keyframe for level in reference.series.levels]
    return all(
        page.is_tiled
        and page.compression in _COMPRESSIONS
        and page.predictor == _NO_PREDICTOR
        and page.samplesperpixel == 3
        and page.planarconfig == tifffile.PLANARCONFIG.CONTIG
        and 0 not in page.databytecounts  # left-out tiles
        for page in pages
    )


def _agrees(reader: CuCimReader, reference: TiffReader) -> bool:
    sizes = reference.facts.level_sizes
    if reader._image.resolutions["level_dimensions"] != tuple((size.width, size.height) for size in sizes):
        return False
    level = len(sizes) - 1
    width, height = (min(_PROBE_PX, side) for side in (sizes[level].width, sizes[level].height))
    corner = ((sizes[level].width - width) // 2, (sizes[level].height - height) // 2)
    shown = reader.read(level, *corner, width, height).astype(int)
    return bool(np.abs(shown - reference.read(level, *corner, width, height)).max() <= _ROUNDING)
