"""What the network says of a slide: from logits to probabilities to classes, at model resolution, on disk."""

import mmap
from dataclasses import dataclass
from tempfile import TemporaryFile

import numpy as np
import torch
from numpy.typing import NDArray

from bundle.geometry import Size
from bundle.tissue import TissueMask

ROWS = 256
"""Rows of a map that are worked on at once."""


def class_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Probabilities over background and glomerulus classes, (B, C, H, W) with C >= 2, from logits.

    One channel is the study's head: a sigmoid, read as (background, glomerulus). More are a softmax.
    """
    if logits.shape[1] == 1:
        glomerulus = logits.sigmoid()
        return torch.cat([1 - glomerulus, glomerulus], dim=1)
    return logits.softmax(dim=1)


@dataclass(frozen=True)
class Decision:
    """What probabilities (C, H, W) mean; three planes of shape (H, W).

    Attributes:
        classes: 0 background, 1 to 3 the classes.
        foreground: probability of any glomerulus.
        confidence: probability of the class in `classes`; 0 on background.
    """

    classes: torch.Tensor
    foreground: torch.Tensor
    confidence: torch.Tensor


def decide(probabilities: torch.Tensor, threshold: float) -> Decision:
    """A pixel is glomerulus where the classes' sum reaches `threshold`, and then of the most probable class.

    Not the argmax over all channels: two classes of 0.3 each are a glomerulus of uncertain class, not background.
    """
    foreground = probabilities[1:].sum(0)
    confidence, best = probabilities[1:].max(0)
    is_glomerulus = foreground >= threshold
    return Decision((best + 1) * is_glomerulus, foreground, confidence * is_glomerulus)


@dataclass(frozen=True)
class ClassMap:
    """Three planes of a slide at model resolution, all uint8, shape (H, W), memory-mapped.

    Attributes:
        classes: 0 background, 1 normal, 2 segmental, 3 global sclerosis.
        foreground: probability of any glomerulus, 0 to 255.
        confidence: probability of the class in `classes`, 0 to 255; 0 on background.
        downsample: level-0 pixels per pixel.
        threshold: least probability of a glomerulus, 0 to 1: where `foreground` reaches it, `classes` is not 0.
    """

    classes: NDArray[np.uint8]
    foreground: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    downsample: float
    threshold: float

    @classmethod
    def empty(cls, size: Size, downsample: float, threshold: float = 0.5) -> "ClassMap":
        """An all-background map of `size` pixels; untouched rows take no space on disk."""
        return cls(_plane(size), _plane(size), _plane(size), downsample, threshold)

    def clear_outside(self, tissue: TissueMask) -> None:
        """Make background of everything off the tissue, rows at a time."""
        for top in range(0, self.size.height, ROWS):
            rows = slice(top, min(top + ROWS, self.size.height))
            blank = ~tissue.at(rows, self.size.width, self.downsample)
            for plane in self._planes:
                plane[rows][blank] = 0
            self.release()

    def release(self) -> None:
        """Let the pages read or written so far leave this process; what they hold stays in the file.

        Otherwise its memory would grow by three bytes a pixel: 3 GB for 100,000 x 100,000 px at 0.8 um/px.
        """
        for plane in self._planes:
            # Windows trims the pages of a mapped file by itself.
            if isinstance(plane.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                plane.base.madvise(mmap.MADV_DONTNEED)

    @property
    def _planes(self) -> tuple[NDArray[np.uint8], ...]:
        return self.classes, self.foreground, self.confidence

    @property
    def size(self) -> Size:
        """Width and height, pixels at model resolution."""
        return Size(self.classes.shape[1], self.classes.shape[0])


def _plane(size: Size) -> NDArray[np.uint8]:
    # A nameless file: it goes with the array, also when the process is killed.
    with TemporaryFile(prefix="glomeruli-") as file:
        file.truncate(size.width * size.height)
        pages = mmap.mmap(file.fileno(), size.width * size.height)
    return np.ndarray((size.height, size.width), np.uint8, buffer=pages)
