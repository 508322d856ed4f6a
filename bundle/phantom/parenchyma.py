"""The phantom's kidney tissue between glomeruli and arteries: packed tubules in scanty interstitium."""

import cv2
import numpy as np

from bundle.phantom.canvas import Canvas
from bundle.phantom.texture import smoothstep, uniform, worley
from bundle.phantom.tissue import Tissue

TUBULE_PITCH_UM = 52.0
LATTICE_UM = 1.0
"""Smooth fields are computed at about this pitch and interpolated."""


def lattice_step(mpp: float) -> int:
    """Pixels per lattice point: a power of two, so that blocks hold whole lattice cells."""
    return int(2 ** np.clip(np.floor(np.log2(LATTICE_UM / mpp)), 0, 4))


def tissue_depth(tissue: Tissue, canvas: Canvas) -> np.ndarray:
    """Micrometres under the wavy surface, float32 (height, width); negative on glass. No texture is looked at."""
    step = lattice_step(canvas.mpp)
    x, y = _lattice_um(canvas, step)
    return _upsample(tissue.depth(x, y), step, canvas)


def paint_parenchyma(canvas: Canvas, seed: int) -> None:
    """Fill the whole canvas with tubules; the surface of the tissue is cut later."""
    radius, border, lumen, shade, cast, scar = _tubule_fields(canvas, seed)
    soft = canvas.soft_um
    mottle, grain = canvas.texture("mottle", seed + 1), canvas.texture("grain", seed + 2)
    depth = border - (1.6 + 6 * scar + 0.4 * mottle)
    inside = smoothstep(depth, -soft, soft)
    ragged = radius + 0.07 * mottle + 0.035 * grain
    cells = smoothstep(ragged - lumen, -0.08, 0.08)
    # Nuclei stand in the basal half of the epithelium.
    basal = (radius > np.maximum(lumen + 0.08, 0.5)) & (depth > 1.2)
    nuclei = canvas.nuclei(0.28 + 0.5 * np.clip(lumen, 0, 0.7), seed + 3) * basal
    granular = 1 + 0.16 * grain + 0.10 * mottle
    membrane = canvas.line(depth, 0.9)
    cast_here = cast * (1 - cells)
    canvas.blend(
        np.ones_like(inside),
        collagen=(1 - inside) * (0.6 + 0.15 * mottle + 0.5 * scar),
        nucleus=(1 - inside) * canvas.nuclei(0.3 + 0.4 * scar, seed + 4),
        cytoplasm=inside * (cells * shade * granular + 0.03) * (1 - nuclei),
        matrix=0.75 * membrane + 0.55 * cast_here,
        red_cell=0.15 * cast_here,
    )
    canvas.amounts[0] += nuclei * inside


def _lattice_um(canvas: Canvas, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Lattice points of the canvas and one around it: x (1, n), y (m, 1)."""
    x, y = (
        ((np.arange(start // step - 1, (start + n) // step + 1) + 0.5) * (step * canvas.mpp)).astype(np.float32)
        for start, n in ((canvas.x, canvas.width), (canvas.y, canvas.height))
    )
    return x[None, :], y[:, None]


def _upsample(field: np.ndarray, step: int, canvas: Canvas) -> np.ndarray:
    if step > 1:
        field = cv2.resize(field, (field.shape[1] * step, field.shape[0] * step), interpolation=cv2.INTER_LINEAR)
    return field[step : step + canvas.height, step : step + canvas.width]


def _tubule_fields(canvas: Canvas, seed: int) -> list[np.ndarray]:
    """Per pixel: place in the tubule (0 axis, 1 wall), µm to the wall, radius of the lumen, shade, cast, scarring."""
    step = lattice_step(canvas.mpp)
    x, y = _lattice_um(canvas, step)
    phase = np.random.default_rng([seed, 4]).uniform(0, 2 * np.pi, 6)
    # Shearing the grid back and forth makes long and cross sections of one tubule.
    bent_x = x + 34 * np.sin(y / 71 + phase[0]) + 13 * np.sin((x + y) / 29 + phase[1])
    bent_y = y + 30 * np.sin(x / 83 + phase[2]) + 13 * np.sin((x - y) / 31 + phase[3])
    cells = worley(bent_x / TUBULE_PITCH_UM, bent_y / TUBULE_PITCH_UM, seed * 2654435761 & 0xFFFFFFFF, 0.85)
    kind, size = uniform(cells.i, cells.j, seed + 11)
    content, shade = uniform(cells.i, cells.j, seed + 12)
    scar = smoothstep(
        np.sin(x / 331 + phase[4] + np.sin(y / 257)) + np.sin(y / 283 + phase[5] + np.sin(x / 211)), 1.1, 1.9
    )
    distal = kind > 0.6
    # A circle cuts the corners where three tubules meet.
    border = np.minimum(cells.border, 0.58 + 0.14 * size - 0.14 * scar - cells.centre)
    fields = (
        cells.centre / np.maximum(cells.centre + border, 0.05),
        border * TUBULE_PITCH_UM,
        np.where(distal, 0.46 + 0.26 * size, 0.15 + 0.33 * shade),
        np.where(distal, 0.68, 1.0) * (0.85 + 0.3 * shade),
        content < 0.04 + 0.4 * scar,
        scar,
    )
    return [_upsample(np.ascontiguousarray(f, np.float32), step, canvas) for f in fields]
