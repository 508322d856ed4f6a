"""Tiled JPEG TIFF, the format of most slides: every stored tile decoded once, at the cheapest sufficient scale.

Used instead of cuCIM and OpenSlide, which decode a tile again for each read that touches it and always in full.
"""

import os
import threading
from dataclasses import replace
from functools import partial

import numpy as np

from bundle.geometry import Rect
from bundle.readers.base import Pixels
from bundle.readers.jpeg_tiles import REDUCTIONS, JpegTiles, has_jpeg_tiles
from bundle.readers.tiff_reader import TiffReader
from bundle.readers.tile_cache import process_cache

_SPARE_COLUMNS = 16
"""Tiles kept beyond a whole row, for threads that read a little ahead of each other."""


class JpegReader:
    """A `ReducingReader` of tiled JPEG TIFF. Safe for threads: it reads by position, without a shared file pointer.

    Decoded tiles are kept in the process's `TileCache`, as many as the rows of stored tiles under one read: reads that
    go along rows, each row overlapping the one before, find their overlap there.
    """

    def __init__(self, reference: TiffReader):
        """Made by `jpeg_reader`, after its checks; `reference` may be closed then."""
        self.name = "libjpeg-turbo"
        self.facts = replace(reference.facts, reductions=REDUCTIONS)
        self.decoded_tiles = 0
        self._levels = [JpegTiles(level.keyframe) for level in reference.series.levels]
        self._file = open(reference.path, "rb", buffering=0)  # noqa: SIM115
        self._cache = process_cache()
        self._owner = object()
        self._lock = threading.Lock()

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """See `Reader.read`."""
        return self.read_reduced(level, 1, x, y, width, height)

    def read_reduced(self, level: int, reduction: int, x: int, y: int, width: int, height: int) -> Pixels:
        """See `ReducingReader.read_reduced`."""
        table = self._levels[level].table
        step_x, step_y = table.width // reduction, table.height // reduction
        wanted = Rect(x, y, width, height)
        # One read touches so many rows of tiles at most, wherever it starts.
        rows = min((height - 2) // step_y + 2, -(-len(table.offsets) // table.across))
        self._cache.reserve(self._owner, rows * (table.across + _SPARE_COLUMNS) * step_x * step_y * 3)
        pixels = np.full((height, width, 3), 255, np.uint8)
        for row in range(y // step_y, (y + height - 1) // step_y + 1):
            for column in range(x // step_x, (x + width - 1) // step_x + 1):
                index = row * table.across + column
                # Scanners leave out empty tiles: they are glass, so white.
                if table.counts[index]:
                    decode = partial(self._decode, level, reduction, index)
                    tile = self._cache.get((self._owner, level, reduction, index), decode)
                    _paste(tile, column * step_x, row * step_y, pixels, wanted)
        return pixels

    def close(self) -> None:
        """See `Reader.close`."""
        self._cache.release(self._owner)
        self._file.close()

    def _decode(self, level: int, reduction: int, index: int) -> Pixels:
        table = self._levels[level].table
        data = os.pread(self._file.fileno(), int(table.counts[index]), int(table.offsets[index]))
        with self._lock:
            self.decoded_tiles += 1
        return self._levels[level].decode(index, data, reduction)


def jpeg_reader(reference: TiffReader) -> JpegReader | None:
    """A reader of the file that `reference` has open, or None if one of its levels is not in JPEG tiles."""
    if not hasattr(os, "pread") or not all(has_jpeg_tiles(level.keyframe) for level in reference.series.levels):
        return None
    return JpegReader(reference)


def _paste(tile: Pixels, x: int, y: int, pixels: Pixels, place: Rect) -> None:
    """Copy what `tile`, whose corner is (x, y), shows of `place` into its `pixels`."""
    height, width = tile.shape[:2]
    left, top = max(x, place.x), max(y, place.y)
    right, bottom = min(x + width, place.x + place.width), min(y + height, place.y + place.height)
    pixels[top - place.y : bottom - place.y, left - place.x : right - place.x] = tile[
        top - y : bottom - y, left - x : right - x
    ]
