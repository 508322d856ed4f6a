"""Example tiles with masks that few-shot segmentation is shown: the values, not where they come from."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bundle.classes import BACKGROUND_INDEX, CLASS_NAMES, GLOMERULUS_CLASSES, IGNORE_INDEX
from bundle.errors import PromptError
from bundle.geometry import Rect

LABEL_VALUES: Final = (BACKGROUND_INDEX, *(c.index for c in GLOMERULUS_CLASSES), IGNORE_INDEX)


@dataclass(frozen=True)
class PromptSource:
    """Where a prompt comes from.

    Attributes:
        image: slide or image file.
        label: annotation or mask file.
        glomerulus_id: id of the glomerulus in the annotation file; empty where the file gives none, or where the
            prompt shows a region rather than one glomerulus.
        glomerulus_number: its number in the annotation file, from 1; `None` for a region.
        class_name: the class that the prompt is for.
        stain: of the slide.
        patient: of the slide; prompts of a test patient spoil the test.
        region: the tile in level-0 pixels of the slide; may reach past its edge. Corner exact, size rounded.
        mpp: micrometres per level-0 pixel.
        sha256: of the image file; `None` for a folder (a DICOM slide).
    """

    image: Path
    label: Path
    glomerulus_id: str
    glomerulus_number: int | None
    class_name: str
    stain: str
    patient: str
    region: Rect
    mpp: float
    sha256: str | None


@dataclass(frozen=True, eq=False)
class PromptSet:
    """N tiles with their masks, at model resolution.

    Attributes:
        images: uint8 (N, 3, S, S), RGB.
        labels: uint8 (N, S, S): 0 background, 1 to 3 the classes of `bundle.classes`, 255 unknown or off the image.
        sources: where each prompt comes from; empty when that is not known.

    Raises:
        PromptError: shapes, types or values are not these.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    sources: tuple[PromptSource, ...] = ()

    def __post_init__(self) -> None:
        count, side = (self.labels.shape[0], self.labels.shape[-1]) if self.labels.ndim else (0, 0)
        if (
            count == 0
            or side == 0
            or self.images.shape != (count, 3, side, side)
            or self.labels.shape != (count, side, side)
        ):
            raise PromptError(
                f"prompts: images {self.images.shape} and labels {self.labels.shape} are not (N, 3, S, S) and "
                f"(N, S, S) with N and S above 0"
            )
        if self.images.dtype != np.uint8 or self.labels.dtype != np.uint8:
            raise PromptError(
                f"prompts: images are {self.images.dtype} and labels {self.labels.dtype}; both must be uint8"
            )
        unknown = np.setdiff1d(self.labels, LABEL_VALUES)
        if len(unknown):
            raise PromptError(f"prompts: label {unknown[0]} is no class; use 0 to {len(CLASS_NAMES)} and 255")
        if self.sources and len(self.sources) != count:
            raise PromptError(f"prompts: {len(self.sources)} sources for {count} prompts; give one each, or none")

    def __len__(self) -> int:
        """Number of prompts."""
        return len(self.labels)

    @property
    def class_counts(self) -> dict[str, int]:
        """Prompts of every class of `bundle.classes`, by name; all 0 where the sources are not known."""
        counted = Counter(source.class_name for source in self.sources)
        return {name: counted[name] for name in CLASS_NAMES}
