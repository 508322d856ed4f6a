"""Do the glomeruli of a slide lie in clusters? Nearest neighbours and Ripley's K, both against complete randomness.

K has the translation correction (Ohser 1983; Baddeley, Rubak & Turner 2015, Spatial Point Patterns, 7.4): a biopsy core
is so narrow that most circles leave it, and `pointpats` 2.5 has no edge correction ("not yet implemented").
Glomeruli do not overlap, so at distances below their diameter any kidney looks regular.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage, signal
from scipy.spatial import KDTree
from shapely.geometry.base import BaseGeometry

from bundle.data.annotations.raster import covered_pixels

MIN_POINTS = 3


@dataclass(frozen=True)
class Window:
    """Where points may lie: tissue or cortex, as a mask with its corner at (0, 0) µm.

    Attributes:
        mask: bool, shape (H, W).
        pixel_um: side of its pixels, µm.
    """

    mask: NDArray[np.bool_]
    pixel_um: float

    @classmethod
    def of_polygon(cls, polygon: BaseGeometry, pixel_um: float) -> "Window":
        """The window of a shape in µm, whose part at negative coordinates is cut off."""
        width, height = (max(1, int(np.ceil(side / pixel_um))) for side in polygon.bounds[2:])
        mask = np.zeros((height, width), bool)
        covered = covered_pixels(shapely.transform(polygon, lambda points: points / pixel_um), width, height)
        if covered is not None:
            rows, columns, inside = covered
            mask[rows, columns] = inside
        return cls(mask, pixel_um)

    @property
    def area_um2(self) -> float:
        """Area, µm²."""
        return float(self.mask.sum() * self.pixel_um**2)

    def holds(self, points_um: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points, shape (n, 2), lie inside: bool (n,)."""
        columns, rows = np.floor(points_um / self.pixel_um).astype(int).T
        within = (rows >= 0) & (columns >= 0) & (rows < self.mask.shape[0]) & (columns < self.mask.shape[1])
        within[within] = self.mask[rows[within], columns[within]]
        return within

    def random_points(self, count: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Independent uniform points, µm, shape (count, 2)."""
        rows, columns = np.nonzero(self.mask)
        chosen = random.integers(len(rows), size=count)
        corners = np.column_stack([columns[chosen], rows[chosen]])
        return (corners + random.random((count, 2))) * self.pixel_um

    def overlap_um2(self, shifts_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Area of the window's overlap with itself shifted by each of `shifts_um` (n, 2), µm²; shape (n,)."""
        height, width = self.mask.shape
        shifts = shifts_um / self.pixel_um
        places = np.stack([shifts[:, 1] + height - 1, shifts[:, 0] + width - 1])
        # Between whole pixels, and past the last down to 0, the overlap is bilinear: interpolation is exact.
        return ndimage.map_coordinates(self._covariance, places, order=1, mode="grid-constant") * self.pixel_um**2

    @cached_property
    def _covariance(self) -> NDArray[np.float64]:
        mask = self.mask.astype(np.float64)
        return np.rint(signal.correlate(mask, mask, mode="full", method="fft"))


def ripley_k(points_um: NDArray[np.float64], window: Window, radius_um: float) -> float:
    """Ripley's K (1976) at one radius with translation correction, µm²; pi radius² for complete randomness.

    Args:
        points_um: at least 2 points inside of the window, shape (n, 2).
        window: where points may lie.
        radius_um: of the circles.
    """
    pairs = KDTree(points_um).query_pairs(radius_um, output_type="ndarray")
    if not len(pairs):
        return 0.0
    weights = 1 / window.overlap_um2(points_um[pairs[:, 1]] - points_um[pairs[:, 0]])
    count = len(points_um)
    return float(2 * weights.sum() * window.area_um2**2 / (count * (count - 1)))


def nearest_neighbours_um(points_um: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each of at least two points to its nearest neighbour, µm, shape (n,)."""
    return KDTree(points_um).query(points_um, k=2)[0][:, 1]


@dataclass(frozen=True)
class Clusters:
    """How the glomeruli of a slide lie; NaN where it cannot be told.

    Attributes:
        nearest_neighbour_um: mean distance between the centres of a glomerulus and its nearest neighbour.
        clark_evans: that over its mean in random patterns of as many points in the same window, which frees the ratio
            of edge effects (Clark & Evans 1954); below 1 is clustered, above 1 regular.
        ripley_radius_um: radius of the two below.
        ripley_k_ratio: K over pi radius²; above 1 is clustered.
        ripley_p: two-sided Monte Carlo test of K against those patterns (Besag & Diggle 1977).
    """

    nearest_neighbour_um: float
    clark_evans: float
    ripley_radius_um: float
    ripley_k_ratio: float
    ripley_p: float


@dataclass(frozen=True)
class Clustering:
    """Measures clustering.

    Attributes:
        radius_um: of Ripley's K; well above a glomerulus's diameter.
        simulations: random patterns; their number bounds p from below: 2 / (simulations + 1).
        seed: of the random patterns.
    """

    radius_um: float = 500.0
    simulations: int = 99
    seed: int = 0

    def __call__(self, points_um: NDArray[np.float64], window: Window | None) -> Clusters:
        """How points, shape (n, 2), lie in a window; without one only their distances are known.

        Points outside of the window do not count for it.
        """
        nan = float("nan")
        neighbour = float(nearest_neighbours_um(points_um).mean()) if len(points_um) > 1 else nan
        inside = points_um[window.holds(points_um)] if window is not None else points_um[:0]
        if window is None or len(inside) < MIN_POINTS:
            return Clusters(neighbour, nan, self.radius_um, nan, nan)
        random = np.random.default_rng(self.seed)
        patterns = [window.random_points(len(inside), random) for _ in range(self.simulations)]
        expected = np.mean([nearest_neighbours_um(pattern).mean() for pattern in patterns])
        k = ripley_k(inside, window, self.radius_um)
        simulated = np.array([ripley_k(pattern, window, self.radius_um) for pattern in patterns])
        rarer = 1 + min((simulated >= k).sum(), (simulated <= k).sum())
        return Clusters(
            nearest_neighbour_um=neighbour,
            clark_evans=float(nearest_neighbours_um(inside).mean() / expected),
            ripley_radius_um=self.radius_um,
            ripley_k_ratio=k / (np.pi * self.radius_um**2),
            ripley_p=min(1.0, 2 * float(rarer) / (self.simulations + 1)),
        )
