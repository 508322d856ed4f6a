"""Blend overlapping tiles in a rolling band of rows; rows that no later tile touches leave as classes."""

from collections.abc import Sequence

import numpy as np
import torch
from monai.data.utils import compute_importance_map
from monai.inferers import Merger
from monai.utils import BlendMode

from bundle.geometry import Size
from bundle.stream.prediction import ClassMap


class BandMerger(Merger):
    """MONAI `Merger` that keeps only the rows still in work and writes the others to a `ClassMap`.

    Tiles must come in row order (`TileSplitter` does that). A pixel's probabilities are the mean over its tiles,
    weighted by a Gaussian centred on each tile. It is glomerulus where their sum over the classes reaches
    `threshold`, and of the most probable class then.

    Args:
        merged_shape: (1, C, H, W), pixels at model resolution, padding included.
        cropped_shape: the same without the padding.
        downsample: level-0 pixels per pixel at model resolution.
        blend: "gaussian", or "constant" for equal weights.
        sigma_scale: standard deviation of the Gaussian, in tile sides.
        threshold: least probability of a glomerulus.
        device: where the band lies.
    """

    def __init__(
        self,
        merged_shape: Sequence[int],
        cropped_shape: Sequence[int] | None = None,
        downsample: float = 1.0,
        blend: str = "gaussian",
        sigma_scale: float = 0.25,
        threshold: float = 0.5,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(merged_shape, cropped_shape, device)
        self.blend = BlendMode(blend)
        self.sigma_scale = sigma_scale
        self.threshold = threshold
        height, width = self.cropped_shape[2:]
        self.output = ClassMap.empty(Size(width, height), downsample)
        self._top = 0
        self._sum: torch.Tensor | None = None
        self._weight: torch.Tensor | None = None
        self._tile_weight: torch.Tensor | None = None

    def aggregate(self, values: torch.Tensor, location: Sequence[int]) -> None:
        """Add the probabilities of one tile.

        Args:
            values: (1, C, h, w), C = 2 (background, glomerulus) or 4 (background and the three classes).
            location: (row, column) of its top-left pixel at model resolution.
        """
        row, column = location
        _, channels, height, width = values.shape
        if self._sum is None:
            self._start(channels, height, width, values)
        if row < self._top:
            raise ValueError(f"tiles must come in row order: row {row} after row {self._top}")
        self._advance(row)
        assert self._sum is not None and self._weight is not None and self._tile_weight is not None
        window = (slice(0, height), slice(column, column + width))
        self._sum[:, *window] += values[0] * self._tile_weight
        self._weight[window] += self._tile_weight

    def finalize(self) -> ClassMap:
        """Let the last rows go and return the map."""
        if not self.is_finalized:
            if self._sum is not None:
                self._advance(self._top + self._sum.shape[1])
            self.is_finalized = True
        return self.output

    def _start(self, channels: int, height: int, width: int, like: torch.Tensor) -> None:
        device = self.device or like.device
        self._tile_weight = compute_importance_map(
            (height, width), mode=self.blend, sigma_scale=self.sigma_scale, device=device
        ).float()
        self._sum = torch.zeros((channels, height, self.merged_shape[3]), device=device)
        self._weight = torch.zeros((height, self.merged_shape[3]), device=device)

    def _advance(self, row: int) -> None:
        """Write the band's rows above `row` and move the band there."""
        assert self._sum is not None and self._weight is not None
        done = min(row - self._top, self._sum.shape[1])
        if done > 0:
            self._write(self._top, self._sum[:, :done] / self._weight[:done].clamp_min(1e-12))
            for band in (self._sum, self._weight):
                kept = band[..., done:, :].clone()
                band.zero_()
                band[..., : kept.shape[-2], :] = kept
        self._top = row

    def _write(self, top: int, probabilities: torch.Tensor) -> None:
        height, width = self.cropped_shape[2:]
        rows = slice(top, min(top + probabilities.shape[1], height))
        if rows.start >= rows.stop:
            return
        foreground, (best, classes) = probabilities[1:].sum(0), probabilities[1:].max(0)
        is_glomerulus = foreground >= self.threshold
        kept = (slice(0, rows.stop - rows.start), slice(0, width))
        self.output.classes[rows] = _numpy((classes + 1) * is_glomerulus)[kept]
        self.output.foreground[rows] = _numpy((foreground * 255).round())[kept]
        self.output.confidence[rows] = _numpy((torch.where(is_glomerulus, best, 1 - foreground) * 255).round())[kept]


def _numpy(values: torch.Tensor) -> np.ndarray:
    return values.clamp(0, 255).to(torch.uint8).cpu().numpy()

