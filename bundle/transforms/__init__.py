"""MONAI dictionary transforms that MONAI lacks."""

from bundle.transforms.color import RandHueSaturationd, RandStaind
from bundle.transforms.paste import RandPasteGlomerulid
from bundle.transforms.slide import (
    ClassIndicesd,
    CloseSlided,
    DecideClassesd,
    OpenSlided,
    PrepareSlide,
    RasterizeLabeld,
    ReadSlided,
)

__all__ = [
    "ClassIndicesd",
    "CloseSlided",
    "DecideClassesd",
    "OpenSlided",
    "PrepareSlide",
    "RandHueSaturationd",
    "RandPasteGlomerulid",
    "RandStaind",
    "RasterizeLabeld",
    "ReadSlided",
]
