"""The eight symmetries of a square tile: tissue has no up, down, left or right."""

import torch

SYMMETRIES = [(turns, flipped) for turns in range(4) for flipped in (False, True)]
"""(quarter turns, flipped first)."""


def seen(tiles: torch.Tensor, turns: int, flipped: bool) -> torch.Tensor:
    """Tiles (B, C, h, w) flipped, then turned; (B, C, w, h) after an odd number of quarter turns."""
    return torch.rot90(tiles.flip(3) if flipped else tiles, turns, (2, 3))


def undone(values: torch.Tensor, turns: int, flipped: bool) -> torch.Tensor:
    """What `seen` was given."""
    upright = torch.rot90(values, -turns, (2, 3))
    return upright.flip(3) if flipped else upright
