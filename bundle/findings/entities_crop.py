"""One glomerulus as a picture: a square at fixed µm/px around it, with its mask."""

import math
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from bundle.data.annotations import Annotation, Glomerulus
from bundle.errors import ConfigError
from bundle.slide import Slide


@dataclass(frozen=True)
class Crop:
    """A cut-out glomerulus.

    Attributes:
        image: RGB uint8, shape (S, S, 3); white beyond the slide.
        mask: uint8, shape (S, S): the glomerulus's class index, 0 elsewhere, also on its neighbours.
        coverage: share of the outline's area inside of the crop; below 1 it is cut.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    coverage: float


@dataclass(frozen=True)
class Cropper:
    """Cuts squares around the middle of a glomerulus's bounding box.

    Attributes:
        crop_px: side of a crop.
        crop_mpp: µm per px of a crop, whatever the slide's.

    Raises:
        ConfigError: a value that makes no crop.
    """

    crop_px: int = 320
    crop_mpp: float = 1.0

    def __post_init__(self) -> None:
        is_resolution = isinstance(self.crop_mpp, int | float) and math.isfinite(self.crop_mpp) and self.crop_mpp > 0
        if not isinstance(self.crop_px, int) or self.crop_px < 1 or not is_resolution:
            raise ConfigError(
                f"crops of {self.crop_px} px at {self.crop_mpp} um/px: give a whole number and a resolution above 0"
            )

    def __call__(self, slide: Slide, glomerulus: Glomerulus) -> Crop:
        """The crop of a glomerulus in level-0 px of the slide's frame.

        Raises:
            UnknownResolutionError: the slide's resolution is not known.
            SlideReadError: its pixels are damaged.
        """
        downsample = self.crop_mpp / slide.require_mpp()
        left, top, right, bottom = glomerulus.polygon.bounds
        side = self.crop_px * downsample
        x, y = (left + right - side) / 2, (top + bottom - side) / 2
        image = slide.read_region(x, y, self.crop_px, self.crop_px, self.crop_mpp)
        mask = Annotation((glomerulus,)).rasterize(x, y, self.crop_px, self.crop_px, downsample)
        inside = shapely.clip_by_rect(glomerulus.polygon, x, y, x + side, y + side).area / glomerulus.polygon.area
        return Crop(image, mask, min(1.0, inside))
