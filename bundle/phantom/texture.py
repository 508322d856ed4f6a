"""Noise as pure functions of position: cell patterns by hashing, and tileable textures sampled modulo their period."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

PERIOD_PX = 1024
"""Side of the tileable textures, pixels."""
NUCLEUS_PITCH_UM = 10.0
LOOP_PITCH_UM = 12.0


def smoothstep(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - low) * (1 / (high - low)), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def uniform(x: np.ndarray, y: np.ndarray, salt: int) -> tuple[np.ndarray, np.ndarray]:
    """Two hash values in [0, 1) for integer positions; Wellons' lowbias32 mixer."""
    h = x.astype(np.uint32) * np.uint32(0x9E3779B1) ^ y.astype(np.uint32) * np.uint32(0x85EBCA77) ^ np.uint32(salt)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x7FEB352D)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x846CA68B)
    h ^= h >> np.uint32(16)
    scale = np.float32(1 / 65536)
    return (h & np.uint32(0xFFFF)) * scale, (h >> np.uint32(16)) * scale


@dataclass(frozen=True)
class Cells:
    """A Worley pattern at some points, lengths in cells.

    `centre`: distance from the nearest seed; `border`: distance from the border to the second nearest;
    `i`, `j`: the nearest cell.
    """

    centre: np.ndarray
    border: np.ndarray
    i: np.ndarray
    j: np.ndarray


def worley(x: np.ndarray, y: np.ndarray, salt: int, jitter: float, period: int = 0) -> Cells:
    """Cells of side 1 with one seed each, `jitter` (0 to 1) off the middle; repeats after `period` cells if positive.

    Worley, A cellular texture basis function (SIGGRAPH 1996).
    """
    x, y = np.broadcast_arrays(x, y)
    left, top = int(np.floor(x.min())) - 1, int(np.floor(y.min())) - 1
    columns = np.arange(left, int(np.floor(x.max())) + 2)
    rows = np.arange(top, int(np.floor(y.max())) + 2)
    i, j = np.meshgrid(columns % period if period else columns, rows % period if period else rows)
    u, v = uniform(i, j, salt)
    seeds_x = (np.arange(len(columns)) + 0.5 + jitter * (u - 0.5)).astype(np.float32).ravel()
    seeds_y = (np.arange(len(rows))[:, None] + 0.5 + jitter * (v - 0.5)).astype(np.float32).ravel()

    x, y = (x - left).astype(np.float32), (y - top).astype(np.float32)
    own = y.astype(np.int32) * len(columns) + x.astype(np.int32)
    first = second = np.full(x.shape, 1e9, np.float32)
    nearest = next_nearest = np.zeros_like(own)
    for step in (m * len(columns) + n for m in (-1, 0, 1) for n in (-1, 0, 1)):
        cell = own + step
        dx, dy = seeds_x[cell] - x, seeds_y[cell] - y
        d2 = dx * dx + dy * dy
        best = d2 < first
        second, next_nearest = (
            np.where(best, first, np.minimum(second, d2)),
            np.where(best, nearest, np.where(d2 < second, cell, next_nearest)),
        )
        first, nearest = np.minimum(first, d2), np.where(best, cell, nearest)
    between = np.hypot(seeds_x[next_nearest] - seeds_x[nearest], seeds_y[next_nearest] - seeds_y[nearest])
    border = (second - first) / (2 * np.maximum(between, 1e-3))
    return Cells(np.sqrt(first), border, i.ravel()[nearest], j.ravel()[nearest])


@dataclass(frozen=True, eq=False)
class Textures:
    """Tileable float32 textures (PERIOD_PX, PERIOD_PX) at one resolution.

    `grain`, `mottle`, `cloud`: noise of unit variance with features of about 1, 4 and 15 µm; `scanner`: white noise;
    `nucleus`: 1 inside nuclei; `rank`: even in [0, 1) per nucleus, to thin them out; `loop_border`: µm inside the
    roundish capillary loops, 0 at the line between two; `loop_rank`: even in [0, 1) per loop.
    """

    grain: np.ndarray
    mottle: np.ndarray
    cloud: np.ndarray
    scanner: np.ndarray
    nucleus: np.ndarray
    rank: np.ndarray
    loop_border: np.ndarray
    loop_rank: np.ndarray


def window(texture: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
    """The texture at pixels [x, x + width) by [y, y + height) of the endless tiling."""
    rows, columns = (np.arange(start, start + n) % PERIOD_PX for start, n in ((y, height), (x, width)))
    if rows[0] + height <= PERIOD_PX and columns[0] + width <= PERIOD_PX:
        return texture[rows[0] : rows[0] + height, columns[0] : columns[0] + width]
    return texture[rows[:, None], columns]


@lru_cache(maxsize=2)
def textures(mpp: float) -> Textures:
    """The textures at `mpp`; the same for every slide, which draws its own offsets into them."""
    rng = np.random.default_rng(20)
    # Bending the grids hides them.
    bend_x, bend_y = (_noise(rng, 7.0 / mpp) + 0.5 * _noise(rng, 2.5 / mpp) for _ in range(2))
    loop_border, loop_rank = _loops(mpp, 2.4 * bend_x, 2.4 * bend_y)
    nucleus, rank = _nuclei(mpp, 2.2 * bend_x, 2.2 * bend_y)
    grain, mottle, cloud = (_noise(rng, sigma_um / mpp) for sigma_um in (0.5, 2.0, 7.0))
    scanner = rng.standard_normal((PERIOD_PX, PERIOD_PX), np.float32)
    return Textures(grain, mottle, cloud, scanner, nucleus, rank, loop_border, loop_rank)


def _noise(rng: np.random.Generator, sigma_px: float) -> np.ndarray:
    """White noise under a Gaussian, filtered in the frequency domain because that wraps around."""
    frequency = np.fft.fftfreq(PERIOD_PX)
    kernel = np.exp(-2 * (np.pi * min(sigma_px, PERIOD_PX / 16) * frequency) ** 2)
    spectrum = np.fft.fft2(rng.standard_normal((PERIOD_PX, PERIOD_PX)))
    noise = np.fft.ifft2(spectrum * kernel[:, None] * kernel).real
    return (noise / noise.std()).astype(np.float32)


def _cells(pitch_px: float) -> tuple[int, np.ndarray]:
    """How many cells of about `pitch_px` fill the period, and the pixel centres in cells."""
    count = max(3, round(PERIOD_PX / pitch_px))
    return count, (np.arange(PERIOD_PX, dtype=np.float32) + 0.5) * np.float32(count / PERIOD_PX)


def _loops(mpp: float, bend_x_um: np.ndarray, bend_y_um: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count, at = _cells(LOOP_PITCH_UM / mpp)
    strips = []
    for y in range(0, PERIOD_PX, 64):
        rows = slice(y, y + 64)
        x_bent, y_bent = at + bend_x_um[rows] / LOOP_PITCH_UM, at[rows, None] + bend_y_um[rows] / LOOP_PITCH_UM
        cells = worley(x_bent, y_bent, 7, 0.95, count)
        rank, size = uniform(cells.i, cells.j, 8)
        border = np.minimum(cells.border, 0.35 + 0.35 * size - cells.centre)
        strips.append((border * np.float32(LOOP_PITCH_UM), rank))
    return np.concatenate([border for border, _ in strips]), np.concatenate([rank for _, rank in strips])


def _nuclei(mpp: float, bend_x_um: np.ndarray, bend_y_um: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ellipses, one in each cell of a bent grid and wholly inside it, so that one look per pixel is enough."""
    count, at = _cells(NUCLEUS_PITCH_UM / mpp)
    x, y = at + bend_x_um / NUCLEUS_PITCH_UM, at[:, None] + bend_y_um / NUCLEUS_PITCH_UM
    i, j = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
    wrapped = i % count, j % count
    u, v = uniform(*wrapped, 1)
    turn, size = uniform(*wrapped, 2)
    stretch, rank = uniform(*wrapped, 3)
    long_um = 2.6 + 1.0 * size
    short_um = long_um * (0.6 + 0.4 * stretch)
    free = 1 - 2 * long_um / NUCLEUS_PITCH_UM
    dx, dy = ((at_ - k - 0.5 - free * (w - 0.5)) * NUCLEUS_PITCH_UM for at_, k, w in ((x, i, u), (y, j, v)))
    cos, sin = np.cos(np.pi * turn), np.sin(np.pi * turn)
    distance = np.hypot((dx * cos + dy * sin) / long_um, (dy * cos - dx * sin) / short_um)
    soft = max(0.12, 0.2 * mpp)
    return 1 - smoothstep(distance, 0.9 - soft, 0.9 + soft), rank
