"""What every slide reader offers to `bundle.slide`, and the checks that all of them share.

A reader knows one file: its levels, its metadata and how to decode a rectangle that lies inside a level. Frames,
padding, resampling and resolution overrides are the business of `bundle.slide`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from bundle.errors import SlideReadError
from bundle.geometry import Rect, Size

Pixels = npt.NDArray[np.uint8]

WHITE = (255, 255, 255)
DECODE_ERRORS = (OSError, RuntimeError, ValueError, LookupError, TypeError, ArithmeticError)
"""What the decoders raise on damaged pixel data; imagecodecs' errors are RuntimeErrors."""


@dataclass(frozen=True)
class SlideFacts:
    """What a file says about itself.

    `level_sizes`: finest first. `mpp_xy`: um/px of level 0 along x and y, None if not stated.
    `bounds`: the part of level 0 that holds the scan, level-0 px.
    `reductions`: factors by which a `ReducingReader` shrinks levels; a level of w px becomes one of ceil(w / factor).
    """

    level_sizes: tuple[Size, ...]
    mpp_xy: tuple[float, float] | None
    objective_power: float | None
    bounds: Rect
    reductions: tuple[int, ...] = ()


class Reader(Protocol):
    """One open file. `read` may be called from several threads at once."""

    name: str
    facts: SlideFacts

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """RGB pixels (height, width, 3) of a rectangle inside `level`, in px of that level.

        Raises one of `DECODE_ERRORS` when the pixel data is damaged.
        """

    def close(self) -> None:
        """Release the file."""


@runtime_checkable
class ReducingReader(Reader, Protocol):
    """A reader that can shrink a level while it decodes it, and that keeps decoded tiles for overlapping reads.

    `decoded_tiles`: how many stored tiles it decoded so far.
    """

    decoded_tiles: int

    def read_reduced(self, level: int, reduction: int, x: int, y: int, width: int, height: int) -> Pixels:
        """`Reader.read` of `level` shrunk by one of `SlideFacts.reductions`; the rectangle is in px of the result."""


def read_error(path: Path, problem: object) -> SlideReadError:
    """A one-line error that starts with the file's name; library messages may span several lines."""
    return SlideReadError(f"{path}: {' '.join(str(problem).split())}")


def whole(size: Size) -> Rect:
    """The rectangle of all pixels of an image of `size`."""
    return Rect(0, 0, size.width, size.height)


def over_background(rgba: Pixels, background: tuple[int, int, int] = WHITE, *, premultiplied: bool = False) -> Pixels:
    """Composite (height, width, 4) pixels on an opaque background; returns (height, width, 3)."""
    alpha = rgba[..., 3:].astype(np.uint16)
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(rgba[..., :3])
    colour = rgba[..., :3].astype(np.uint16) * (255 if premultiplied else alpha)
    mixed = (colour + np.array(background, np.uint16) * (255 - alpha) + 127) // 255
    return np.minimum(mixed, 255).astype(np.uint8)
