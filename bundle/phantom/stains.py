"""Colours through optical density: Beer and Lambert's law on what each stain binds to.

The vectors of haematoxylin, eosin and Schiff's reagent are near those of Ruifrok and Johnston (2001) as ImageJ's colour
deconvolution has them, bent towards what scanners of kidney slides show; silver and light green are estimated by eye.
"""

from typing import Final

import numpy as np

from bundle.phantom.spec import Stain

NUCLEUS, CYTOPLASM, MATRIX, COLLAGEN, RED_CELL = range(5)
"""What the painter lays down, in amounts of about 0 to 1. Matrix is basement membrane, mesangium, scar and hyalin."""
MATERIALS: Final = 5

_HAEMATOXYLIN = (0.60, 0.72, 0.34)
_EOSIN = (0.14, 0.88, 0.45)
_EOSIN_IN_RED_CELLS = (0.16, 0.78, 0.60)
_SCHIFF = (0.22, 0.88, 0.42)
_SILVER = (0.54, 0.59, 0.60)
_LIGHT_GREEN = (0.68, 0.45, 0.58)

# Per stain: its dyes (rows of RGB density) and how much of each dye every material binds.
_DYES: Final[dict[Stain, tuple[tuple[float, float, float], ...]]] = {
    "HE": (_HAEMATOXYLIN, _EOSIN, _EOSIN_IN_RED_CELLS),
    "PAS": (_HAEMATOXYLIN, _SCHIFF, _EOSIN_IN_RED_CELLS),
    "PAMS": (_HAEMATOXYLIN, _SILVER, _LIGHT_GREEN),
}
_BINDING: Final[dict[Stain, tuple[tuple[float, float, float], ...]]] = {
    # nucleus, cytoplasm, matrix, collagen, red cell
    "HE": ((1.35, 0.30, 0), (0.11, 0.55, 0), (0.05, 0.80, 0), (0.04, 0.46, 0), (0, 0.10, 1.2)),
    "PAS": ((1.25, 0.15, 0), (0.15, 0.28, 0), (0.05, 1.20, 0), (0.09, 0.36, 0), (0.05, 0.20, 0.5)),
    "PAMS": ((0.75, 0.05, 0.30), (0, 0.04, 0.36), (0, 2.3, 0.10), (0.02, 0.36, 0.26), (0.05, 0.08, 0.65)),
}


def densities(stain: Stain, seed: int) -> np.ndarray:
    """RGB optical density per unit of each material, float32 (MATERIALS, 3), varied a little by `seed`."""
    rng = np.random.default_rng([seed, 2])
    dyes = np.array(_DYES[stain]) * rng.uniform(0.93, 1.07, (3, 3)) * rng.uniform(0.8, 1.2, (3, 1))
    binding = np.array(_BINDING[stain]) * rng.uniform(0.85, 1.15, (MATERIALS, 3))
    return (binding @ dyes).astype(np.float32)


def glass_rgb(seed: int) -> np.ndarray:
    """Colour of blank glass, uint8 (3,): near white, tinted by the scanner."""
    return np.random.default_rng([seed, 3]).integers(240, 249, 3).astype(np.uint8)
