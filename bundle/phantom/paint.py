"""Paint the phantom block by block: colours are a pure function of the place in the world.

The blocks lie on one grid in the world, so that a pixel is the same number whatever window asks for it.
"""

import numpy as np

from bundle.classes import BACKGROUND_INDEX, GLOMERULUS_CLASSES
from bundle.phantom.canvas import Canvas
from bundle.phantom.layout import Layout
from bundle.phantom.parenchyma import paint_parenchyma, tissue_depth
from bundle.phantom.spec import PhantomSpec
from bundle.phantom.stains import densities, glass_rgb
from bundle.phantom.structures import MARGIN_UM, paint_structure
from bundle.phantom.texture import smoothstep, textures

BLOCK_PX = 256
"""Side of a block: its float layers fit into a core's cache."""

ORACLE_GLASS_RGB = (255, 255, 255)
ORACLE_RGB: dict[int, tuple[int, int, int]] = {
    BACKGROUND_INDEX: (225, 180, 200),
    **{c.index: c.rgb for c in GLOMERULUS_CLASSES},
}
"""Colour of each label on an oracle's tissue; its glass is `ORACLE_GLASS_RGB` (label 0 as well)."""


class Painter:
    """Paints blocks of one phantom's world."""

    def __init__(self, spec: PhantomSpec, layout: Layout) -> None:
        self._spec = spec
        self._layout = layout
        self._density = densities(spec.stain, spec.seed)
        self._glass = glass_rgb(spec.seed)

    @property
    def glass_rgb(self) -> np.ndarray:
        """Colour of blank glass, uint8 (3,)."""
        return np.array(ORACLE_GLASS_RGB, np.uint8) if self._spec.oracle else self._glass

    def block(self, column: int, row: int) -> np.ndarray | None:
        """uint8 (BLOCK_PX, BLOCK_PX, 3), without the oracle's glomeruli; None where there is only glass."""
        x, y = column * BLOCK_PX, row * BLOCK_PX
        return self.window(x, y, BLOCK_PX, BLOCK_PX)

    def window(self, x: int, y: int, width: int, height: int) -> np.ndarray | None:
        """As `block`, for a window whose edges lie on multiples of 16 pixels of the world."""
        extent_um = self._extent_um(x, y, width, height)
        if self._layout.tissue.is_clear_of(*extent_um):
            return None
        canvas = Canvas.blank(x, y, width, height, self._spec.mpp, textures(self._spec.mpp))
        depth = tissue_depth(self._layout.tissue, canvas)
        if depth.max() <= 0:
            return None
        if self._spec.oracle:
            return np.where(depth[..., None] > 0, ORACLE_RGB[0], ORACLE_GLASS_RGB).astype(np.uint8)
        paint_parenchyma(canvas, self._spec.seed)
        for structure in self._layout.near(*extent_um, MARGIN_UM):
            paint_structure(canvas, structure)
        return self._develop(canvas, depth)

    def _extent_um(self, x: int, y: int, width: int, height: int) -> tuple[float, float, float, float]:
        mpp = self._spec.mpp
        return x * mpp, y * mpp, (x + width) * mpp, (y + height) * mpp

    def _develop(self, canvas: Canvas, depth: np.ndarray) -> np.ndarray:
        """Amounts to RGB by Beer and Lambert, with a section of uneven thickness and the scanner's noise."""
        cover = smoothstep(depth + 1.5 * canvas.texture("mottle", 5), -canvas.soft_um, canvas.soft_um)
        x, y = canvas.positions_um()
        seed = self._spec.seed
        thickness = 1 + 0.08 * np.sin(x / 613 + seed) * np.sin(y / 479 + 2 * seed) + 0.03 * canvas.texture("cloud", 9)
        # Torn edges take more stain.
        thickness = thickness * cover * (1 + 0.25 * np.exp(-np.maximum(depth, 0) / 12))
        thickness = thickness.astype(np.float32)
        noise = 0.5 + 2.0 * canvas.texture("scanner", seed) * cover
        rgb = np.empty((canvas.height, canvas.width, 3), np.uint8)
        for channel in range(3):
            # A sum of five layers is quicker than a matrix product, whose threads would wait for each other.
            density = sum(
                weight * layer for weight, layer in zip(self._density[:, channel], canvas.amounts, strict=True)
            )
            light = self._glass[channel] * np.exp(-thickness * density)
            rgb[..., channel] = np.clip(light + noise, 0, 255)
        return rgb
