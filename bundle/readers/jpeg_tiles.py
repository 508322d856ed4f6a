"""The JPEG tiles of one level of a TIFF: raw bytes to pixels, at full, half, quarter or eighth size.

A decoder that is asked for a smaller picture leaves out the high frequencies of each 8 x 8 block (DCT scaling, as in
libjpeg's `scale_denom`): cheaper than to decode all and shrink, and close to the mean of the pixels. Measured on
phantom slides against that mean: 0.6 grey levels off on average, 99.9 % of the values within 7; at most 18, 8 and 4 at
half, quarter and eighth size.
"""

import cv2
import imagecodecs
import numpy as np
import tifffile

from bundle.geometry import Size
from bundle.readers.base import Pixels
from bundle.readers.jpeg_guard import JPEG_END, JPEG_START, is_whole, tile_table

REDUCTIONS = (2, 4, 8)
"""Factors by which a tile can be shrunk while it is decoded."""

_SCALED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_NO_TRANSFORM = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""Adobe's marker: the components are RGB. Without it, as in Aperio's tiles, decoders take them for YCbCr."""
_BLOCK_PX = 16
"""Side of a JPEG block with halved chroma: the sides of a TIFF's tiles are multiples of it."""


def has_jpeg_tiles(page: tifffile.TiffPage) -> bool:
    """Whether `page` is stored in RGB or YCbCr JPEG tiles, so that `JpegTiles` can decode it."""
    tables = page.jpegtables
    return (
        page.is_tiled
        and page.compression == tifffile.COMPRESSION.JPEG
        and page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
        and page.planarconfig == tifffile.PLANARCONFIG.CONTIG
        and page.samplesperpixel == 3
        and page.bitspersample == 8
        and page.jpegheader is None
        and (tables is None or (isinstance(tables, bytes) and tables.startswith(JPEG_START) and JPEG_END in tables))
        and page.tilewidth % _BLOCK_PX == page.tilelength % _BLOCK_PX == 0
    )


class JpegTiles:
    """The tiles of a page for which `has_jpeg_tiles` holds; the page is not kept.

    Attributes:
        size: the level, px.
        table: where the tiles are in the file.
    """

    def __init__(self, page: tifffile.TiffPage):
        """`page`: of an open TIFF whose structure is whole."""
        table = tile_table(page)
        assert table is not None
        self.table = table
        self.size = Size(page.imagewidth, page.imagelength)
        # tifffile's rule: photometric RGB means that the components are RGB, except under a JFIF header.
        is_raw = page.photometric == tifffile.PHOTOMETRIC.RGB and not page.is_jfif
        tables = page.jpegtables or JPEG_START + JPEG_END
        self._header = tables[: tables.rindex(JPEG_END)] + (_NO_TRANSFORM if is_raw else b"")

    def decode(self, index: int, data: bytes, reduction: int) -> Pixels:
        """The pixels of tile `index` from its bytes, without the padding beyond the level's edge.

        Args:
            index: counts tiles row by row.
            data: the tile as stored.
            reduction: 1, 2, 4 or 8; each px of the result is the mean of as many px along both axes.

        Returns:
            RGB uint8, shape (height / reduction, width / reduction, 3), rounded up at the level's edge.

        Raises:
            OSError, RuntimeError: the tile is damaged.
        """
        if not is_whole(data):
            raise OSError(f"JPEG tile {index} of {len(data)} bytes is damaged")
        stream = self._header + data[len(JPEG_START) :] if self._header != JPEG_START else data
        row, column = divmod(index, self.table.across)
        width = min(self.table.width, self.size.width - column * self.table.width)
        height = min(self.table.height, self.size.height - row * self.table.height)
        padded = (width, height) != (self.table.width, self.table.height)
        if reduction > 1 and not padded:
            return _checked(_decode_scaled(stream, reduction), index, width // reduction, height // reduction)
        pixels = _checked(np.asarray(imagecodecs.jpeg8_decode(stream))[:height, :width], index, width, height)
        # The padding shares blocks with the picture, and DCT scaling would mix it in.
        return pixels if reduction == 1 else _mean(pixels, reduction)


def _decode_scaled(stream: bytes, reduction: int) -> Pixels | None:
    flags = _SCALED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        bgr = cv2.imdecode(np.frombuffer(stream, np.uint8), flags)
    except cv2.error as error:
        raise OSError(str(error)) from error
    return None if bgr is None else np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr), np.uint8)


def _checked(pixels: Pixels | None, index: int, width: int, height: int) -> Pixels:
    if pixels is None or pixels.shape != (height, width, 3):
        raise OSError(f"JPEG tile {index} is damaged: it does not hold {width} x {height} px in colour")
    return pixels


def _mean(pixels: Pixels, reduction: int) -> Pixels:
    height, width = (-(-side // reduction) for side in pixels.shape[:2])
    missing = [(0, reduced * reduction - side) for reduced, side in zip((height, width), pixels.shape[:2], strict=True)]
    whole = np.pad(pixels, [*missing, (0, 0)], mode="edge")
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
