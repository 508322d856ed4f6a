"""The pixels of a mask image file, refused before they are decoded where the file declares more than memory holds."""

import math
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bundle.data.medical import MEDICAL_SUFFIXES, read_medical, suffix_of
from bundle.errors import AnnotationError, SlideReadError
from bundle.readers.tiff_reader import check_tiff

MASK_SUFFIXES: Final = (".png", ".bmp", ".tif", ".tiff", *MEDICAL_SUFFIXES)
MAX_MASK_PX: Final = 400_000_000
_MAX_BYTES: Final = 4 * MAX_MASK_PX
_DAMAGE: Final = (
    ArithmeticError,
    AttributeError,
    Image.DecompressionBombError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tifffile.TiffFileError,
)
"""What Pillow, tifffile and imagecodecs raise on damaged files; found by `scripts/fuzz.py`."""


def mask_size(path: Path) -> tuple[int, int]:
    """(width, height) of a mask image, pixels; `AnnotationError` when it is none."""
    if suffix_of(path) in MEDICAL_SUFFIXES:
        height, width = read_medical(path).array.shape[:2]
        return width, height
    with _damage_named(path):
        if suffix_of(path) in (".tif", ".tiff"):
            with check_tiff(path) as tiff:
                page = tiff.series[0].keyframe
                return int(page.imagewidth), int(page.imagelength)
        with _open_image(path) as image:
            return image.size


def load_mask(path: Path) -> NDArray:
    """The pixels, (height, width) or (height, width, 3), at least one.

    Raises:
        AnnotationError: the file is no image, damaged or too large.
    """
    width, height = mask_size(path)
    if width * height > MAX_MASK_PX:
        raise AnnotationError(
            f"{path}: mask of {width} x {height} pixels is too large to load; give polygons (GeoJSON) or a smaller mask"
        )
    if suffix_of(path) in MEDICAL_SUFFIXES:
        array = read_medical(path).array
    else:
        with _damage_named(path):
            array = _read_tiff(path) if suffix_of(path) in (".tif", ".tiff") else _read_image(path)
    if array.ndim == 3:
        array = array[..., 0] if array.shape[2] < 3 else array[..., :3]
    if array.ndim not in (2, 3) or not array.size:
        raise AnnotationError(f"{path}: has shape {array.shape}; a mask is one grey or RGB image")
    return array


def _read_tiff(path: Path) -> NDArray:
    with check_tiff(path) as tiff:
        level = tiff.series[0].levels[0]
        # A tile is decoded whole, and may be declared larger than the image.
        tile_bytes = math.prod(level.keyframe.chunks) * level.dtype.itemsize
        if max(level.nbytes, tile_bytes) > _MAX_BYTES:
            raise ValueError(f"declares {max(level.nbytes, tile_bytes) / 1e9:.1f} GB")
        return np.asarray(level.asarray())


def _read_image(path: Path) -> NDArray:
    with _open_image(path) as image:
        return np.asarray(image)


def _open_image(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        # Pillow warns from 89 million pixels on; masks of slides are that large.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except SlideReadError as error:
        raise AnnotationError(str(error)) from None
    except Image.DecompressionBombError:
        raise _unreadable(path, "too large for this format") from None
    except UnidentifiedImageError:
        raise _unreadable(path, "no image that can be read") from None
    except _DAMAGE as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, problem: object) -> AnnotationError:
    return AnnotationError(f"{path}: mask cannot be read ({' '.join(str(problem).split())}); save it as PNG or TIFF")
