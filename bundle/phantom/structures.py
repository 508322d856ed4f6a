"""The phantom's glomeruli and arteries, painted over the parenchyma from their outlines."""

from dataclasses import dataclass

import numpy as np

from bundle.classes import GLOBAL
from bundle.phantom.canvas import Canvas
from bundle.phantom.layout import ARTERY, Structure
from bundle.phantom.texture import smoothstep

MARGIN_UM = 14.0
"""How far outside its outline a structure colours the tissue."""
_ANGLES = 4096


@dataclass(frozen=True, eq=False)
class _Polar:
    """Places about a structure's centre: `inward` µm inside the outline, `radius` 0 at the centre and 1 on it."""

    angle: np.ndarray
    inward: np.ndarray
    radius: np.ndarray


def paint_structure(canvas: Canvas, structure: Structure) -> None:
    """Paint what of a structure lies on the canvas."""
    reach = structure.reach_um + MARGIN_UM
    x, y = structure.x_um, structure.y_um
    part = canvas.part(x - reach, y - reach, x + reach, y + reach)
    if part is None:
        return
    polar = _polar(part, structure)
    rng = np.random.default_rng(structure.seed)
    if structure.label == ARTERY:
        _paint_artery(part, polar, structure, rng)
    elif structure.label == GLOBAL.index:
        _paint_global(part, polar, structure, rng)
    else:
        _paint_open(part, polar, structure, rng)


def _polar(canvas: Canvas, structure: Structure) -> _Polar:
    x, y = canvas.positions_um()
    dx, dy = (x - structure.x_um).astype(np.float32), (y - structure.y_um).astype(np.float32)
    angle = np.arctan2(dy, dx)
    known = np.arange(len(structure.radii_um)) * (2 * np.pi / len(structure.radii_um))
    table = np.interp(
        (np.arange(_ANGLES) + 0.5) * (2 * np.pi / _ANGLES), known, structure.radii_um, period=2 * np.pi
    ).astype(np.float32)
    outline = table[(angle * (_ANGLES / (2 * np.pi))).astype(np.int32) % _ANGLES]
    distance = np.hypot(dx, dy)
    return _Polar(angle, outline - distance, distance / outline)


def _paint_open(canvas: Canvas, polar: _Polar, structure: Structure, rng: np.random.Generator) -> None:
    """A glomerulus with open capillary loops, a part of it solid when segmentally sclerosed."""
    soft, seed = canvas.soft_um, structure.seed
    mottle, cloud = canvas.texture("mottle", seed), canvas.texture("cloud", seed + 1)
    solid = _segment(polar, structure, rng, mottle)
    inside = smoothstep(polar.inward, -soft, soft)
    rim = smoothstep(polar.inward, -4, -1)
    canvas.blend(rim * (1 - inside) * 0.7, collagen=0.7)
    canvas.blend(inside)
    canvas.blend(inside * smoothstep(-np.abs(polar.inward - 1.0), -1.2, -0.4), matrix=0.8)

    depth = polar.inward - _space_um(polar, rng) * (1 - solid) + 3.0 * solid
    lobes = rng.integers(5, 9)
    clefts = np.abs(np.sin(polar.angle * lobes / 2 + rng.uniform(0, 6) + 0.25 * cloud))
    depth -= 9 * np.exp(-clefts * 7) * smoothstep(polar.radius, 0.25, 0.9) * (1 - solid)
    depth += (1.6 * cloud + 0.8 * mottle) * (1 - solid)
    tuft = smoothstep(depth, -soft, soft) * inside
    canvas.blend(tuft * (1 - solid), **_loops(canvas, seed))
    canvas.blend(tuft * solid, **_scar(canvas, seed, nuclei=0.07))
    # Parietal epithelium: flat nuclei on the capsule.
    parietal = canvas.nuclei(0.3, seed + 5) * smoothstep(-np.abs(polar.inward - 3.0), -2.2, -1.4) * inside
    canvas.blend(parietal * (1 - solid), nucleus=1.0)


def _space_um(polar: _Polar, rng: np.random.Generator) -> np.ndarray:
    """Width of Bowman's space by angle; it closes at the vascular pole."""
    pole, phase = rng.uniform(-np.pi, np.pi, 2)
    from_pole = 1 - np.cos(polar.angle - pole)
    width = rng.uniform(6, 15) * (1 + 0.35 * np.sin(2 * polar.angle + phase))
    return np.asarray(width * (0.35 + 0.65 * smoothstep(from_pole, 0.02, 0.5)))


def _segment(polar: _Polar, structure: Structure, rng: np.random.Generator, mottle: np.ndarray) -> np.ndarray:
    """1 where the tuft is scarred: what a chord cuts off, of the wanted share of the area."""
    direction = rng.uniform(-np.pi, np.pi)
    if not structure.sclerosed:
        return np.zeros_like(polar.angle)
    chords = np.linspace(-1, 1, 401)
    shares = (np.arccos(chords) - chords * np.sqrt(1 - chords**2)) / np.pi
    chord = np.interp(-structure.sclerosed, -shares, chords)
    along = polar.radius * np.cos(polar.angle - direction)
    across = polar.radius * np.sin(polar.angle - direction)
    return smoothstep(along - chord + 0.06 * np.sin(9 * across + direction) + 0.02 * mottle, -0.03, 0.03)


def _loops(canvas: Canvas, seed: int) -> dict[str, np.ndarray]:
    """Amounts of a lobulated tuft: open capillaries, their walls, mesangium, many nuclei."""
    soft = canvas.soft_um
    border, rank = canvas.texture("loop_border", seed), canvas.texture("loop_rank", seed)
    cloud, grain = canvas.texture("cloud", seed + 2), canvas.texture("grain", seed + 3)
    mesangium = smoothstep(cloud, -0.1, 1.2)
    lumen = smoothstep(border - 1.3 - 1.2 * mesangium - 2.5 * (rank < 0.3), -soft, soft)
    wall = canvas.line(border - 0.8, 0.9)
    filled = (rank > 0.88) * lumen
    nuclei = canvas.nuclei(0.75 + 0.2 * mesangium, seed + 4) * (1 - 0.8 * lumen)
    return {
        "nucleus": 0.95 * nuclei,
        "cytoplasm": (1 - lumen) * (0.75 + 0.12 * grain) * (1 - nuclei),
        "matrix": (0.62 * wall + 0.55 * mesangium * (1 - lumen)) * (1 - 0.7 * nuclei),
        "red_cell": 0.55 * filled,
    }


def _scar(canvas: Canvas, seed: int, nuclei: float) -> dict[str, np.ndarray]:
    """Amounts of a sclerosed tuft: solid matrix with the wrinkles of collapsed loops and few nuclei."""
    border = canvas.texture("loop_border", seed + 6)
    cloud, mottle = canvas.texture("cloud", seed + 7), canvas.texture("mottle", seed + 8)
    wrinkle = canvas.line(border - 1 + 0.7 * mottle, 1.2)
    kept = canvas.nuclei(nuclei, seed + 9)
    return {
        "nucleus": 0.9 * kept,
        "cytoplasm": np.full_like(border, 0.12),
        "matrix": np.clip(0.74 + 0.14 * cloud + 0.07 * mottle + 0.25 * wrinkle, 0.35, 1.2) * (1 - 0.8 * kept),
        "collagen": np.full_like(border, 0.15),
    }


def _paint_global(canvas: Canvas, polar: _Polar, structure: Structure, rng: np.random.Generator) -> None:
    """A shrunken, solid glomerulus in a collar of fibrosis, with no or a slit of Bowman's space."""
    soft, seed = canvas.soft_um, structure.seed
    inside = smoothstep(polar.inward, -soft, soft)
    collar_um = rng.uniform(4, MARGIN_UM)
    mottle = canvas.texture("mottle", seed)
    collar = smoothstep(polar.inward, -collar_um, -0.6 * collar_um) * (1 - inside)
    canvas.blend(collar * 0.85, collagen=0.85 + 0.12 * mottle, nucleus=canvas.nuclei(0.2, seed + 1))
    canvas.blend(inside, **_scar(canvas, seed, nuclei=float(rng.uniform(0.03, 0.14))))
    slit_um = rng.uniform(-2, 3) + 2.0 * np.sin(polar.angle + rng.uniform(0, 6))
    slit = smoothstep(slit_um - np.abs(polar.inward - 4), -soft, soft) * inside
    canvas.blend(slit * 0.9)
    canvas.blend(inside * smoothstep(-np.abs(polar.inward - 1.2), -1.6, -0.6) * 0.7, matrix=0.9)


def _paint_artery(canvas: Canvas, polar: _Polar, structure: Structure, rng: np.random.Generator) -> None:
    """A thick muscular ring around a lumen with some red cells."""
    soft, seed = canvas.soft_um, structure.seed
    mottle, grain = canvas.texture("mottle", seed), canvas.texture("grain", seed + 1)
    inside = smoothstep(polar.inward, -soft, soft)
    lumen_radius = rng.uniform(0.3, 0.6)
    depth = (lumen_radius - polar.radius) * float(structure.radii_um.mean()) + 1.2 * mottle
    lumen = smoothstep(depth, -soft, soft)
    fibres = np.sin(polar.inward / 1.1 + 0.8 * mottle) * max(0.0, 1 - canvas.mpp / 2)
    nuclei = canvas.nuclei(0.4, seed + 2)
    canvas.blend(smoothstep(polar.inward, -10, -3) * (1 - inside) * 0.8, collagen=0.8 + 0.15 * mottle)
    canvas.blend(
        inside,
        nucleus=0.85 * nuclei * (1 - lumen),
        cytoplasm=(1 - lumen) * (0.62 + 0.12 * fibres + 0.05 * grain),
        collagen=(1 - lumen) * (0.42 - 0.12 * fibres),
        matrix=0.7 * canvas.line(depth + 0.8, 0.9) + 0.12 * (1 - lumen),
        red_cell=lumen * (rng.random() < 0.6) * smoothstep(canvas.texture("cloud", seed + 3), 0.2, 0.5) * 0.8,
    )
