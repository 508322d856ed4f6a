"""The classes of glomeruli: one table for annotations, masks, metrics and colours."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class GlomerulusClass:
    """One class: `index` in masks and logits, `name` in tables, `rgb` in QuPath and overlays."""

    index: int
    name: str
    rgb: tuple[int, int, int]


NORMAL: Final = GlomerulusClass(1, "normal", (0, 160, 70))
SEGMENTAL: Final = GlomerulusClass(2, "segmental_sclerosis", (255, 165, 0))
GLOBAL: Final = GlomerulusClass(3, "global_sclerosis", (200, 30, 60))

GLOMERULUS_CLASSES: Final = (NORMAL, SEGMENTAL, GLOBAL)
CLASS_NAMES: Final = tuple(c.name for c in GLOMERULUS_CLASSES)
BACKGROUND_INDEX: Final = 0
NUM_CLASSES: Final = 4
"""Channels of the default head: background and the three classes."""

IGNORE_INDEX: Final = 255
"""Label of pixels about which the annotation says nothing: unlabelled is not background."""


def class_of_index(index: int) -> GlomerulusClass:
    """The class whose mask value is `index` (1 to 3); `KeyError` for any other value."""
    return {c.index: c for c in GLOMERULUS_CLASSES}[index]
