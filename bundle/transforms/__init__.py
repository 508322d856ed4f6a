"""MONAI dictionary transforms that MONAI lacks."""

from bundle.transforms.color import RandHueSaturationd, RandStaind
from bundle.transforms.negatives import RandHardNegatived
from bundle.transforms.normalise import StainNormaliser
from bundle.transforms.paste import RandPasteGlomerulid
from bundle.transforms.restain import RandRestaind
from bundle.transforms.slide import (
    ClassIndicesd,
    CloseSlided,
    DecideClassesd,
    OpenSlided,
    PrepareSlide,
    RasterizeLabeld,
    ReadSlided,
)
from bundle.transforms.urinary import RandUrinarySpaced

__all__ = [
    "ClassIndicesd",
    "CloseSlided",
    "DecideClassesd",
    "OpenSlided",
    "PrepareSlide",
    "RandHardNegatived",
    "RandHueSaturationd",
    "RandPasteGlomerulid",
    "RandRestaind",
    "RandStaind",
    "RandUrinarySpaced",
    "RasterizeLabeld",
    "ReadSlided",
    "StainNormaliser",
]
