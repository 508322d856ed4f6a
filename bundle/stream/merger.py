"""Blend overlapping tiles in a rolling band of rows; rows that no later tile touches leave as classes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data.utils import compute_importance_map
from monai.inferers import Merger
from monai.utils import BlendMode

from bundle.errors import ConfigError
from bundle.geometry import Size
from bundle.stream.prediction import ClassMap, decide

COLUMNS = 2048
"""Columns of a band that are decided at once."""


class BandMerger(Merger):
    """MONAI `Merger` that keeps only the rows still in work and writes the others to a `ClassMap`.

    Tiles must come in row order (`TileSplitter` does that). A pixel's probabilities are the mean over its tiles,
    weighted by a Gaussian centred on each tile; `decide` makes a class of them.

    Args:
        merged_shape: (1, C, H, W), pixels at model resolution, padding included.
        cropped_shape: the same without the padding.
        downsample: level-0 pixels per pixel at model resolution.
        blend: "gaussian", or "constant" for equal weights.
        sigma_scale: standard deviation of the Gaussian, in tile sides. At 1/8, as MONAI has it, a tile weighs next to
            nothing at its edge, so that none shows in the result (at 1/4 it still has a fifth of the weight there).
        threshold: least probability of a glomerulus, 0 to 1.
        device: where the band lies.

    Raises:
        ConfigError: `threshold` is no probability above 0.
    """

    def __init__(
        self,
        merged_shape: Sequence[int],
        cropped_shape: Sequence[int] | None = None,
        downsample: float = 1.0,
        blend: str = "gaussian",
        sigma_scale: float = 0.125,
        threshold: float = 0.5,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(merged_shape, cropped_shape, device)
        if not 0 < threshold <= 1:
            raise ConfigError(f"merger: the threshold must be a probability above 0 and up to 1, not {threshold}")
        self.blend = BlendMode(blend)
        self.sigma_scale = sigma_scale
        self.threshold = threshold
        height, width = self.cropped_shape[2:]
        self.output = ClassMap.empty(Size(width, height), downsample, threshold)
        self._band: _Band | None = None

    def aggregate(self, values: torch.Tensor, location: Sequence[int]) -> None:
        """Add the probabilities of one tile.

        Args:
            values: (1, C, h, w), C = 2 (background, glomerulus) or 4 (background and the three classes).
            location: (row, column) of its top-left pixel at model resolution.

        Raises:
            ValueError: its row is above that of the tile before.
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
        down, across = (
            compute_importance_map((side,), mode=self.blend, sigma_scale=self.sigma_scale, device=device)
            for side in (height, width)
        )
        # MONAI's own plane of weights has one floor for the product; along the slide's border, where both neighbours
        # lie on it, it would give them equal weights and show the tile's edge. Here each side has its floor.
        tile_weight = torch.outer(down, across)
        columns = self.merged_shape[3]
        sums = torch.zeros((channels, height, columns), device=device)
        return _Band(sums, torch.zeros((height, columns), device=device), tile_weight)

    def _advance(self, band: "_Band", row: int) -> None:
        """Write the band's rows above `row` and move the band there."""
        if row > band.top:
            top = band.top
            for column, probabilities in band.leave(row):
                self._write(top, column, probabilities)
            self.output.release()

    def _write(self, top: int, left: int, probabilities: torch.Tensor) -> None:
        height, width = self.cropped_shape[2:]
        inside = probabilities[:, : max(height - top, 0), : max(width - left, 0)]
        decision = decide(inside, self.threshold)
        window = np.s_[top : top + inside.shape[1], left : left + inside.shape[2]]
        self.output.classes[window] = _numpy(decision.classes)
        self.output.foreground[window] = _numpy((decision.foreground * 255).round())
        self.output.confidence[window] = _numpy((decision.confidence * 255).round())


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

    def leave(self, row: int) -> Iterator[tuple[int, torch.Tensor]]:
        """First column and mean probabilities (C, n, w) of the rows above `row`, which leave the band.

        The band then starts at `row`. Some columns at a time: what is computed of a row of tiles would otherwise take
        more memory than the band itself.
        """
        height, width = self.weight.shape
        done = min(row - self.top, height)
        for left in range(0, width, COLUMNS):
            columns = slice(left, left + COLUMNS)
            # A pixel that no tile covered has weight 0 and stays background.
            yield left, self.sums[:, :done, columns] / self.weight[:done, columns].clamp_min(1e-12)
            for rows in (self.sums[..., columns], self.weight[..., columns]):
                kept = rows[..., done:, :].clone()
                rows.zero_()
                rows[..., : height - done, :] = kept
        self.top = row


def _numpy(values: torch.Tensor) -> np.ndarray:
    return values.clamp(0, 255).to(torch.uint8).cpu().numpy()
