"""A window of the phantom's world while it is painted: positions, textures, amounts of each material."""

from dataclasses import dataclass

import numpy as np

from bundle.phantom.stains import MATERIALS
from bundle.phantom.texture import PERIOD_PX, Textures, window


@dataclass(frozen=True, eq=False)
class Canvas:
    """Pixels [x, x + width) by [y, y + height) of the world at `mpp`, and `amounts` (MATERIALS, height, width)."""

    x: int
    y: int
    mpp: float
    amounts: np.ndarray
    textures: Textures

    @classmethod
    def blank(cls, x: int, y: int, width: int, height: int, mpp: float, textures: Textures) -> "Canvas":
        """A canvas with no material on it."""
        return cls(x, y, mpp, np.zeros((MATERIALS, height, width), np.float32), textures)

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.amounts.shape[2])

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.amounts.shape[1])

    @property
    def soft_um(self) -> float:
        """Half the width of an edge that does not alias."""
        return max(0.4, 0.6 * self.mpp)

    def positions_um(self) -> tuple[np.ndarray, np.ndarray]:
        """x (1, width) and y (height, 1) of the pixel centres."""
        x = (np.arange(self.x, self.x + self.width) + 0.5) * self.mpp
        y = (np.arange(self.y, self.y + self.height) + 0.5) * self.mpp
        return x[None, :], y[:, None]

    def part(self, x0_um: float, y0_um: float, x1_um: float, y1_um: float) -> "Canvas | None":
        """The view on a box, cut to this canvas; painting on it paints here. None where they do not meet."""
        left, top = (max(0, int(np.floor(v / self.mpp)) - o) for v, o in ((x0_um, self.x), (y0_um, self.y)))
        right = min(self.width, int(np.ceil(x1_um / self.mpp)) - self.x)
        bottom = min(self.height, int(np.ceil(y1_um / self.mpp)) - self.y)
        if left >= right or top >= bottom:
            return None
        view = self.amounts[:, top:bottom, left:right]
        return Canvas(self.x + left, self.y + top, self.mpp, view, self.textures)

    def texture(self, name: str, seed: int = 0) -> np.ndarray:
        """The window of a texture (see `Textures`), float32 (height, width), at an offset that `seed` decides."""
        x = self.x + seed * 389 % PERIOD_PX
        y = self.y + seed * 743 % PERIOD_PX
        return window(getattr(self.textures, name), x, y, self.width, self.height)

    def nuclei(self, density: np.ndarray | float, seed: int) -> np.ndarray:
        """1 inside nuclei, of which the share `density` (0 to 1, may vary over the window) is kept."""
        return self.texture("nucleus", seed) * (self.texture("rank", seed) < density)

    def line(self, distance_um: np.ndarray, half_width_um: float) -> np.ndarray:
        """1 on the curve where `distance_um` is 0, fading; wider and fainter, of equal sum, where a pixel is wider."""
        wide = np.hypot(half_width_um, 0.5 * self.mpp)
        return np.asarray(half_width_um / wide * np.exp(-((distance_um / wide) ** 2)))

    def blend(self, cover: np.ndarray, **amounts: np.ndarray | float) -> None:
        """Replace the share `cover` of what lies here by `amounts` (keywords: names of materials, lower case)."""
        names = ("nucleus", "cytoplasm", "matrix", "collagen", "red_cell")
        for index, name in enumerate(names):
            layer = self.amounts[index]
            layer += cover * (amounts.get(name, 0.0) - layer)
