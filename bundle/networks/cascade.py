"""A cheap network looks at every tile, a costly one decides where it sees something."""

import logging
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from bundle.classes import BACKGROUND_INDEX, NUM_CLASSES
from bundle.errors import ConfigError
from bundle.stream.prediction import class_probabilities
from bundle.weights import load_weights

logger = logging.getLogger(__name__)

SURE = 20.0
"""Logit of background in a tile that did not pass: a probability of all but 1e-8."""


class Cascade(nn.Module):
    """A network of two: `proposer` sees every tile, `decider` those in which it may have found a glomerulus.

    A tile passes where the proposer's probability of any glomerulus reaches `threshold` in at least `least_px` pixels;
    its logits are the decider's. The other tiles are background. With a low threshold the proposer only has to see
    that something is there, not what: a class that it misnames or outlines badly stays findable.

    Attributes:
        tiles_seen: tiles so far.
        tiles_passed: those that the decider saw.

    Args:
        proposer: maps (B, 3, H, W) to logits of 1 (glomerulus) or more channels (background first).
        decider: maps (B, 3, H, W) to logits of all classes, background first.
        threshold: 0 to 1; 0 passes every tile.
        least_px: pixels that the proposer sees, 1 or more.
        proposer_downsample: µm per pixel of the proposer's tiles over µm per pixel of the decider's, 1 or more: each
            network sees the resolution that it was trained at.
        proposer_weights: file to load the proposer's weights from.

    Raises:
        ConfigError: a threshold or number that makes no sense.
        WeightsError: the proposer's weights cannot be loaded.
    """

    exportable = False  # which tiles pass is no part of a graph

    def __init__(
        self,
        proposer: nn.Module,
        decider: nn.Module,
        threshold: float = 0.1,
        least_px: int = 20,
        proposer_downsample: float = 1.0,
        proposer_weights: Path | str | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= threshold <= 1 or least_px < 1:
            raise ConfigError(f"cascade: threshold {threshold} must be 0 to 1, least_px {least_px} at least 1")
        if proposer_downsample < 1:
            raise ConfigError(f"cascade: the proposer cannot see finer than the decider ({proposer_downsample} times)")
        if proposer_weights is not None:
            load_weights(proposer, proposer_weights)
        self.proposer = proposer
        self.decider = decider
        self.threshold = threshold
        self.least_px = least_px
        self.proposer_downsample = proposer_downsample
        self.tiles_seen = 0
        self.tiles_passed = 0

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Logits of background and the three classes (B, 4, H, W) for tiles (B, 3, H, W)."""
        glomerulus = 1 - class_probabilities(self.proposer(self._coarse(tiles)).float())[:, 0]
        passes = (glomerulus >= self.threshold).flatten(1).sum(1) >= self.least_px
        self.tiles_seen += len(tiles)
        self.tiles_passed += int(passes.sum())
        logits = tiles.new_zeros(len(tiles), NUM_CLASSES, *tiles.shape[2:])
        logits[:, BACKGROUND_INDEX] = SURE
        if passes.any():
            logits[passes] = self.decider(tiles[passes]).to(logits.dtype)
        return logits

    def _coarse(self, tiles: torch.Tensor) -> torch.Tensor:
        if self.proposer_downsample == 1:
            return tiles
        size = [round(side / self.proposer_downsample) for side in tiles.shape[2:]]
        return functional.interpolate(tiles, size, mode="bilinear", align_corners=False, antialias=True)

    def report(self) -> None:
        """Log how many tiles went to the decider."""
        share = self.tiles_passed / max(self.tiles_seen, 1)
        logger.info("cascade: %d of %d tiles passed (%.1f %%)", self.tiles_passed, self.tiles_seen, 100 * share)
