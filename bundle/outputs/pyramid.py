"""Write a tiled pyramidal TIFF in flat memory: slides in colour, masks of classes.

The levels are top-level pages with `subfiletype=1`, not SubIFDs: OpenSlide and cuCIM show one level of a pyramid in
SubIFDs, QuPath reads both. Every pixel of level 0 is asked for once, top to bottom, and encoded at once; the tiles of
the smaller levels wait, encoded, in an unlinked temporary file beside the output.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import cv2
import imagecodecs
import numpy as np
import tifffile

from bundle.atomic import atomic_path
from bundle.geometry import Size

Compression = Literal["deflate", "zstd", "jpeg"]
Downsampling = Literal["nearest", "mean"]
Read = Callable[[int, int, int, int], np.ndarray]

CLASSIC_TIFF_BYTES = 3_000_000_000
"""Above this many uncompressed bytes the file is a BigTIFF: offsets of a classic TIFF end at 4 GB."""


def write_pyramid(
    path: Path | str,
    size: Size,
    read: Read,
    *,
    mpp: float | None,
    channels: Literal[1, 3],
    tile_px: int = 256,
    compression: Compression = "deflate",
    downsampling: Downsampling = "nearest",
    description: str | None = None,
    jpeg_quality: int = 87,
    workers: int | None = None,
) -> None:
    """Write `size` pixels that `read` gives, and half-size levels until the longest side fits in one tile.

    Args:
        path: the file to write; it appears whole or not at all.
        size: level 0, pixels.
        read: `read(x, y, width, height)` gives uint8 (height, width) for one channel, (height, width, 3) for three.
            It is called once per row of tiles, in order, with x = 0 and the full width.
        mpp: micrometres per level-0 pixel, written as pixels per centimetre into every level; None writes none.
        channels: 1 for a mask, 3 for RGB.
        tile_px: side of the square tiles, a multiple of 16.
        compression: "deflate" and "zstd" keep every value; "jpeg" (YCbCr 4:2:0 for RGB) is for slides.
        downsampling: "nearest" for class values, "mean" of 2x2 pixels for colours.
        description: the ImageDescription of level 0.
        jpeg_quality: 1 to 100.
        workers: threads that encode; None takes one per core.

    Raises:
        ValueError: size, channels or tile_px make no TIFF, or `read` gives another shape than asked for.
        OutputError: the file cannot be written.
    """
    if min(size.width, size.height) < 1 or channels not in (1, 3) or tile_px < 16 or tile_px % 16:
        raise ValueError(f"no tiled TIFF of {size}, {channels} channels and tiles of {tile_px} px (multiple of 16)")
    encoder = _Encoder(tile_px, compression, jpeg_quality)
    sizes = level_sizes(size, tile_px)
    bigtiff = size.width * size.height * channels * 4 / 3 > CLASSIC_TIFF_BYTES
    with (
        atomic_path(path) as temporary,
        ExitStack() as scratch,
        ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool,
        tifffile.TiffWriter(temporary, bigtiff=bigtiff) as writer,
    ):
        smaller = [_Level(s, tile_px, channels, scratch.enter_context(_unlinked(path))) for s in sizes[1:]]
        cascade = _Cascade(smaller, downsampling, lambda band: pool.map(encoder.encode, _tiles(band, tile_px)))
        pages = [cascade.level_0(read, size, tile_px, channels), *(level.replay() for level in smaller)]
        for k, (level_size, tiles) in enumerate(zip(sizes, pages, strict=True)):
            writer.write(
                tiles,
                shape=_shape(level_size.width, level_size.height, channels),
                description=description if k == 0 else None,
                subfiletype=1 if k else 0,
                **_page_options(channels, tile_px, compression, None if mpp is None else mpp * 2**k),
            )


def level_sizes(size: Size, tile_px: int) -> list[Size]:
    """Sizes of all levels in pixels: halved, rounded up, until one tile holds it (or the shortest side is 1)."""
    sizes = [size]
    # A side of 1 px cannot be halved: readers would see two downsamples in one level.
    while max(sizes[-1].width, sizes[-1].height) > tile_px and min(sizes[-1].width, sizes[-1].height) > 1:
        sizes.append(Size((sizes[-1].width + 1) // 2, (sizes[-1].height + 1) // 2))
    return sizes


def _page_options(channels: int, tile_px: int, compression: Compression, mpp: float | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "dtype": np.uint8,
        "tile": (tile_px, tile_px),
        "photometric": "rgb" if channels == 3 else "minisblack",
        # tifffile's "deflate" is the obsolete code 32946; 8 is the registered one
        "compression": "adobe_deflate" if compression == "deflate" else compression,
        # tifffile would otherwise put its own JSON into the ImageDescription
        "metadata": None,
        "software": False,
    }
    if mpp is not None:
        options |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    return options


@dataclass
class _Encoder:
    """Tile to bytes; tiles of one colour (blank glass, background) are encoded once."""

    tile_px: int
    compression: Compression
    jpeg_quality: int
    constants: dict[bytes, bytes] = field(default_factory=dict)

    def encode(self, tile: np.ndarray) -> bytes:
        colour = tile[0, 0].tobytes()
        if tile[-1, -1].tobytes() != colour or not (tile == tile[0, 0]).all():
            return self._compress(self._whole(tile))
        if colour not in self.constants:
            self.constants[colour] = self._compress(self._whole(tile))
        return self.constants[colour]

    def _whole(self, tile: np.ndarray) -> np.ndarray:
        missing = [(0, self.tile_px - n) for n in tile.shape[:2]]
        # Repeating the edge keeps JPEG's ringing out of the picture.
        padded = np.pad(tile, [*missing, *[(0, 0)] * (tile.ndim - 2)], mode="edge") if any(map(any, missing)) else tile
        return np.ascontiguousarray(padded)

    def _compress(self, tile: np.ndarray) -> bytes:
        if self.compression == "deflate":
            return bytes(imagecodecs.zlib_encode(tile.tobytes(), 6))
        if self.compression == "zstd":
            return bytes(imagecodecs.zstd_encode(tile.tobytes(), 9))
        colours = (
            {"colorspace": "RGB", "outcolorspace": "YCBCR", "subsampling": (2, 2)}
            if tile.ndim == 3
            else {"colorspace": "GRAYSCALE", "outcolorspace": "GRAYSCALE"}
        )
        return bytes(imagecodecs.jpeg8_encode(tile, self.jpeg_quality, **colours))


class _Level:
    """A smaller level: a band of one row of tiles in memory, its encoded tiles in an unlinked file."""

    def __init__(self, size: Size, tile_px: int, channels: int, file: IO[bytes]) -> None:
        self.size = size
        self._band = np.empty(_shape(size.width, min(tile_px, size.height), channels), np.uint8)
        self._filled = self._rows = 0
        self._file = file
        self._lengths: list[int] = []

    def add(self, rows: np.ndarray) -> np.ndarray | None:
        """Take rows from the level above; give the band when it is whole."""
        self._band[self._filled : self._filled + len(rows)] = rows
        self._filled += len(rows)
        self._rows += len(rows)
        if self._filled < len(self._band) and self._rows < self.size.height:
            return None
        band, self._filled = self._band[: self._filled], 0
        return band

    def spool(self, tiles: Iterable[bytes]) -> None:
        for tile in tiles:
            self._file.write(tile)
            self._lengths.append(len(tile))

    def replay(self) -> Iterator[bytes]:
        self._file.seek(0)
        for length in self._lengths:
            yield self._file.read(length)


class _Cascade:
    """Hands each band, halved, to the level below it."""

    def __init__(
        self, levels: list[_Level], downsampling: Downsampling, encode: Callable[[np.ndarray], Iterable[bytes]]
    ) -> None:
        self._levels = levels
        self._downsampling = downsampling
        self._encode = encode

    def level_0(self, read: Read, size: Size, tile_px: int, channels: int) -> Iterator[bytes]:
        for y in range(0, size.height, tile_px):
            height = min(tile_px, size.height - y)
            band = read(0, y, size.width, height)
            if band.dtype != np.uint8 or band.shape != _shape(size.width, height, channels):
                raise ValueError(f"read(0, {y}, {size.width}, {height}) gave {band.dtype} {band.shape}")
            self._push(0, band)
            yield from self._encode(band)

    def _push(self, index: int, band: np.ndarray) -> None:
        if index == len(self._levels):
            return
        whole = self._levels[index].add(_halve(band, self._downsampling))
        if whole is not None:
            self._levels[index].spool(self._encode(whole))
            self._push(index + 1, whole)


def _unlinked(path: Path | str) -> IO[bytes]:
    """A nameless file on the disk of the output: the system's folder for temporary files may be memory."""
    return tempfile.TemporaryFile(dir=Path(path).parent)


def _shape(width: int, height: int, channels: int) -> tuple[int, ...]:
    return (height, width, 3) if channels == 3 else (height, width)


def _tiles(band: np.ndarray, tile_px: int) -> Iterator[np.ndarray]:
    return (band[:, x : x + tile_px] for x in range(0, band.shape[1], tile_px))


def _halve(band: np.ndarray, downsampling: Downsampling) -> np.ndarray:
    if downsampling == "nearest":
        return band[::2, ::2]
    odd = [(0, n % 2) for n in band.shape[:2]]
    even = np.pad(band, [*odd, *[(0, 0)] * (band.ndim - 2)], mode="edge") if any(map(any, odd)) else band
    return np.asarray(
        cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA), np.uint8
    )
