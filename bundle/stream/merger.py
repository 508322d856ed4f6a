"""Blend overlapping tiles in a rolling band of rows; rows that no later tile touches leave as classes."""

from collections.abc import Sequence
from dataclasses import dataclass

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
        self._band: _Band | None = None

    def aggregate(self, values: torch.Tensor, location: Sequence[int]) -> None:
        """Add the probabilities of one tile.

        Args:
            values: (1, C, h, w), C = 2 (background, glomerulus) or 4 (background and the three classes).
            location: (row, column) of its top-left pixel at model resolution.
        """
        if self._band is None:
            self._band = self._start(values)
        row, column = location
        if row < self._band.top:
            raise ValueError(f"tiles must come in row order: row {row} after row {self._band.top}")
        self._advance(self._band, row)
        self._band.add(values[0], column)

    def finalize(self) -> ClassMap:
        """Let the last rows go and return the map."""
        if not self.is_finalized:
            if self._band is not None:
                self._advance(self._band, self._band.top + self._band.weight.shape[0])
            self.is_finalized = True
        return self.output

    def _start(self, values: torch.Tensor) -> "_Band":
        _, channels, height, width = values.shape
        device = self.device or values.device
        tile_weight = compute_importance_map(
            (height, width), mode=self.blend, sigma_scale=self.sigma_scale, device=device
        ).float()
        columns = self.merged_shape[3]
        sums = torch.zeros((channels, height, columns), device=device)
        return _Band(sums, torch.zeros((height, columns), device=device), tile_weight)

    def _advance(self, band: "_Band", row: int) -> None:
        """Write the band's rows above `row` and move the band there."""
        if row > band.top:
            self._write(band.top, band.leave(row))

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


@dataclass
class _Band:
    """The rows in work: weighted sums of probabilities (C, h, W), weights (h, W), the weight of a tile (h, w)."""

    sums: torch.Tensor
    weight: torch.Tensor
    tile_weight: torch.Tensor
    top: int = 0

    def add(self, probabilities: torch.Tensor, column: int) -> None:
        """Add a tile (C, h, w) whose first row is the band's."""
        columns = slice(column, column + probabilities.shape[2])
        self.sums[:, :, columns] += probabilities * self.tile_weight
        self.weight[:, columns] += self.tile_weight

    def leave(self, row: int) -> torch.Tensor:
        """Mean probabilities (C, n, W) of the rows above `row`, which leave the band; the band then starts at `row`."""
        done = min(row - self.top, self.weight.shape[0])
        # A pixel that no tile covered has weight 0 and stays background.
        mean = self.sums[:, :done] / self.weight[:done].clamp_min(1e-12)
        for rows in (self.sums, self.weight):
            kept = rows[..., done:, :].clone()
            rows.zero_()
            rows[..., : kept.shape[-2], :] = kept
        self.top = row
        return mean


def _numpy(values: torch.Tensor) -> np.ndarray:
    return values.clamp(0, 255).to(torch.uint8).cpu().numpy()
