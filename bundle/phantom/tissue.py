"""Where the phantom has tissue: elongated, wavy biopsy cores on blank glass."""

from dataclasses import dataclass

import numpy as np

from bundle.phantom.spec import PhantomSpec

CORE_PITCH_UM = 1700.0
MAX_HALF_WIDTH_UM = 650.0


@dataclass(frozen=True)
class Core:
    """One core along the longer side of the slide; lengths in micrometres, phases in radians."""

    middle: float
    half_length: float
    across: float
    half_width: float
    bend: float
    phases: tuple[float, float, float]

    @property
    def reach_along(self) -> float:
        """No tissue lies further from the middle."""
        return max(self.half_length, self.half_width) + 0.1 * self.half_width

    @property
    def reach_across(self) -> float:
        """No tissue lies further from `across`."""
        return self.half_width * 1.1 + self.bend

    def depth(self, along: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Micrometres under the surface, negative on glass: a stadium with a bent axis and uneven width."""
        axis = self.across + self.bend * (
            0.7 * np.sin(along / (2.4 * self.half_length / np.pi + 1) + self.phases[0])
            + 0.3 * np.sin(along / 310 + self.phases[1])
        )
        half_width = self.half_width * (1 + 0.08 * np.sin(along / 190 + self.phases[2]))
        beyond = np.maximum(np.abs(along - self.middle) - max(self.half_length - self.half_width, 0.0), 0)
        return half_width - np.hypot(beyond, across - axis)


@dataclass(frozen=True)
class Tissue:
    """All cores. `upright`: they run along y because the slide is taller than wide."""

    cores: tuple[Core, ...]
    upright: bool

    def depth(self, x_um: np.ndarray, y_um: np.ndarray) -> np.ndarray:
        """Micrometres under the tissue's surface at points (any shape), negative on glass."""
        along, across = (y_um, x_um) if self.upright else (x_um, y_um)
        low, high = float(np.min(across)), float(np.max(across))
        deepest = np.full(np.broadcast_shapes(along.shape, across.shape), -1e6, np.float32)
        for core in self.cores:
            if core.across - core.reach_across < high and core.across + core.reach_across > low:
                np.maximum(deepest, core.depth(along, across), out=deepest)
        ripple = 7 * np.sin(x_um / 23 + 2 * np.sin(y_um / 41)) + 4 * np.sin(y_um / 9 + 1.7 * np.sin(x_um / 13))
        return np.asarray(deepest + (ripple - 11), np.float32)

    def is_clear_of(self, x0: float, y0: float, x1: float, y1: float) -> bool:
        """True where a box in micrometres surely holds glass only: it meets no core's bounding box."""
        (along0, along1), (across0, across1) = ((y0, y1), (x0, x1)) if self.upright else ((x0, x1), (y0, y1))
        return all(
            along1 < core.middle - core.reach_along
            or along0 > core.middle + core.reach_along
            or across1 < core.across - core.reach_across
            or across0 > core.across + core.reach_across
            for core in self.cores
        )

    def random_points(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """`count` points in the boxes around the cores, evenly: x and y in micrometres."""
        area = np.array([core.half_length * core.half_width for core in self.cores])
        pick = rng.choice(len(self.cores), count, p=area / area.sum())
        middle, half_length, across, half_width, bend = (
            np.array([getattr(core, name) for core in self.cores])[pick]
            for name in ("middle", "half_length", "across", "half_width", "bend")
        )
        along_um = middle + half_length * rng.uniform(-1, 1, count)
        across_um = across + (half_width * 1.1 + bend) * rng.uniform(-1, 1, count)
        return (across_um, along_um) if self.upright else (along_um, across_um)

    def area_mm2(self) -> float:
        """About the tissue's area: stadiums of the mean width."""
        um2 = sum(4 * c.half_width * max(c.half_length - c.half_width, 0) + np.pi * c.half_width**2 for c in self.cores)
        return float(um2) * 1e-6


def lay_cores(spec: PhantomSpec, rng: np.random.Generator) -> Tissue:
    """Cores side by side, with glass between them and around."""
    width_um, height_um = spec.size_um
    length, breadth = max(width_um, height_um), min(width_um, height_um)
    count = spec.cores or max(1, round(breadth / CORE_PITCH_UM))
    pitch = breadth / count
    cores = []
    for i in range(count):
        left, right = length * rng.uniform(0.02, 0.06, 2)
        half_width = min(0.37 * pitch, MAX_HALF_WIDTH_UM) * rng.uniform(0.85, 1)
        cores.append(
            Core(
                middle=(length + left - right) / 2,
                half_length=(length - left - right) / 2,
                across=(i + 0.5) * pitch,
                half_width=half_width,
                bend=0.07 * pitch,
                phases=tuple(rng.uniform(0, 2 * np.pi, 3)),
            )
        )
    return Tissue(tuple(cores), upright=height_um > width_um)
