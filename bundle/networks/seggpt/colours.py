"""SegGPT's language: classes are colours of an image, painted for the prompts and read from the prediction."""

import math
from itertools import combinations, permutations

import numpy as np
import torch

from bundle.classes import GLOMERULUS_CLASSES, IGNORE_INDEX, NUM_CLASSES
from bundle.errors import ConfigError

PALETTES = {
    "seggpt": ((0, 0, 0), (255, 255, 255), (255, 255, 127), (255, 127, 255)),
    "distinct": ((0, 0, 0), (255, 255, 0), (255, 0, 255), (0, 255, 255)),
}
"""RGB of background and the three classes, by name.

"seggpt" is what `SegGptImageProcessor.get_palette(3)` of transformers gives. "distinct" is for networks trained here:
its classes lie 361 levels apart, not 128, so that calling one the other costs as much as missing it; and the mean of
its classes is nearer to each of them than to background, so that a network finds them before it can tell them apart.
"""


def default_temperature(name: str) -> float:
    """Half the squared distance of the palette's two nearest colours, squared 8-bit levels.

    A colour that lies the part p of the way from one of them to the other then has the log-odds 4 (p - 1/2), the
    tangent of logit(p) at 1/2: its probability is about p. Calibration on held-back tiles may find a better one.

    Args:
        name: of the palette.
    """
    return min(math.dist(one, other) for one, other in combinations(PALETTES[name], 2)) ** 2 / 2


_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def normalise(colours: torch.Tensor) -> torch.Tensor:
    """RGB in 0..1, shape (..., 3, H, W), by the mean and deviation of ImageNet, as SegGPT was trained."""
    mean, std = _statistics(colours)
    return (colours - mean) / std


def denormalise(colours: torch.Tensor) -> torch.Tensor:
    """Undo `normalise`."""
    mean, std = _statistics(colours)
    return colours * std + mean


def paint(labels: torch.Tensor, palette: torch.Tensor) -> torch.Tensor:
    """Class indices (..., H, W) as RGB in 0..1, shape (..., 3, H, W), by a palette (4, 3) in 0..255.

    Unknown pixels (255) are painted as background: the colours have no word for them.
    """
    known = torch.where(labels == IGNORE_INDEX, 0, labels).long()
    return (palette[known] / 255).movedim(-1, -3)


def class_scores(colours: torch.Tensor, palette: torch.Tensor) -> torch.Tensor:
    """How near each pixel is to each class's colour: minus the squared distance in 8-bit levels, (B, 4, H, W).

    The same as the segmentation scores of `SegGptImageProcessor.post_process_semantic_segmentation`.

    Args:
        colours: RGB in 0..1, (B, 3, H, W); clipped to that range.
        palette: (4, 3) in 0..255.
    """
    levels = (colours * 255).clamp(0, 255)
    return -(levels[:, None] - palette[:, :, None, None]).square().sum(2)


def palettes(repetitions: int, seed: int, name: str = "seggpt") -> torch.Tensor:
    """Palettes (repetitions, 4, 3) in 0..255: that of `name`, then others of its orders of the colours at random.

    Background stays black. No order comes twice.

    Raises:
        ConfigError: `repetitions` is below 1 or above the number of orders, or there is no palette of that name.
    """
    if name not in PALETTES:
        raise ConfigError(f"SegGPT: palette must be one of {', '.join(PALETTES)}, not {name}")
    first, *others = permutations(range(1, NUM_CLASSES))
    if not 1 <= repetitions <= len(others) + 1:
        raise ConfigError(
            f"SegGPT: repetitions must be 1 to {len(others) + 1}, not {repetitions}: "
            f"the colours of {len(GLOMERULUS_CLASSES)} classes have no more orders"
        )
    np.random.default_rng(seed).shuffle(others)
    orders = [(0, *order) for order in [first, *others][:repetitions]]
    return torch.tensor(PALETTES[name], dtype=torch.float32)[torch.tensor(orders)]


def _statistics(like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(like.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))  # type: ignore[return-value]
