"""What the network says of a slide, at model resolution, on disk rather than in memory."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from bundle.geometry import Size


@dataclass(frozen=True)
class ClassMap:
    """Two planes of a slide at model resolution, both uint8, shape (H, W), memory-mapped.

    Attributes:
        classes: 0 background, 1 normal, 2 segmental, 3 global sclerosis.
        foreground: probability of any glomerulus, 0 to 255.
        confidence: probability of the class in `classes`, 0 to 255; of background where that is 0.
        downsample: level-0 pixels per pixel.
        scratch: the folder of the planes; it goes with this object.
    """

    classes: NDArray[np.uint8]
    foreground: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    downsample: float
    scratch: "TemporaryDirectory[str]"

    @classmethod
    def empty(cls, size: Size, downsample: float) -> "ClassMap":
        """An all-background map of `size` pixels; untouched rows take no space on disk."""
        scratch = TemporaryDirectory(prefix="glomeruli-")

        def plane(name: str) -> NDArray[np.uint8]:
            path = Path(scratch.name) / f"{name}.npy"
            return np.lib.format.open_memmap(path, "w+", np.uint8, (size.height, size.width))

        return cls(plane("classes"), plane("foreground"), plane("confidence"), downsample, scratch)

    @property
    def size(self) -> Size:
        """Width and height, pixels at model resolution."""
        return Size(self.classes.shape[1], self.classes.shape[0])
