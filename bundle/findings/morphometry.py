"""Size and shape of a glomerulus, measured on its outline, which is exact; what needs pixels is `morphometry_image`.

Every measure keeps under rotation, shift and change of resolution. Outlines that follow pixels (masks read as polygons
without smoothing) have a perimeter up to 4/pi too long, and so too small a circularity; areas and diameters are right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import shapely
from scipy.spatial.distance import pdist
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

Outline: TypeAlias = Polygon | MultiPolygon


@dataclass(frozen=True)
class Shape:
    """Size and shape of one glomerulus.

    Attributes:
        area_um2: area of the outline without its holes.
        equivalent_diameter_um: diameter of the circle of that area, 2 sqrt(area / pi).
        perimeter_um: length of the outer outline, holes not counted.
        circularity: 4 pi area / perimeter², 1 for a circle (Cox 1927, J. Paleontol. 1:179).
        solidity: area over that of the convex hull, 1 for a convex outline.
        eccentricity: of the ellipse with the outline's second moments, 0 for a circle (as
            `skimage.measure.regionprops`, here from the polygon's own moments by Green's theorem, `cv2.moments`).
        major_axis_um: longer axis of that ellipse.
        minor_axis_um: its shorter axis.
        feret_max_um: largest caliper diameter, between the two farthest points (Feret 1930).
        feret_min_um: smallest caliper diameter, the width of the narrowest slit that lets the outline through.
    """

    area_um2: float
    equivalent_diameter_um: float
    perimeter_um: float
    circularity: float
    solidity: float
    eccentricity: float
    major_axis_um: float
    minor_axis_um: float
    feret_max_um: float
    feret_min_um: float


@dataclass(frozen=True)
class Compartments:
    """Tuft and Bowman's space; NaN where no tuft is drawn, as in the bundle's own masks: they have no class for it.

    Attributes:
        tuft_area_um2: area of the tufts drawn inside of the outline.
        tuft_capsule_ratio: that over the area of the outline, which runs along Bowman's capsule.
        bowman_space_um2: area of the outline less that of the tufts.
    """

    tuft_area_um2: float
    tuft_capsule_ratio: float
    bowman_space_um2: float


def shape_of(polygon: Outline, mpp: float) -> Shape:
    """The size and shape of an outline with an area above 0.

    Args:
        polygon: valid outline, level-0 px.
        mpp: µm per level-0 px.
    """
    area = polygon.area * mpp**2
    perimeter = shapely.length(shapely.get_exterior_ring(shapely.get_parts(polygon))).sum() * mpp
    hull = polygon.convex_hull
    minor, major = 4 * np.sqrt(_second_moments(polygon)) * mpp
    return Shape(
        area_um2=area,
        equivalent_diameter_um=2 * float(np.sqrt(area / np.pi)),
        perimeter_um=float(perimeter),
        circularity=float(4 * np.pi * area / perimeter**2),
        solidity=polygon.area / hull.area,
        eccentricity=float(np.sqrt(max(0.0, 1 - (minor / major) ** 2))),
        major_axis_um=float(major),
        minor_axis_um=float(minor),
        feret_max_um=float(pdist(shapely.get_coordinates(hull)).max()) * mpp,
        feret_min_um=shapely.minimum_width(hull).length * mpp,
    )


def compartments_of(polygon: Outline, tufts: Sequence[BaseGeometry], mpp: float) -> Compartments:
    """The compartments of an outline (level-0 px) in which `tufts` may lie; NaN where none does."""
    inside = shapely.union_all([polygon.intersection(tuft) for tuft in tufts]).area
    if not inside:
        return Compartments(float("nan"), float("nan"), float("nan"))
    return Compartments(inside * mpp**2, inside / polygon.area, (polygon.area - inside) * mpp**2)


def _second_moments(polygon: Outline) -> np.ndarray:
    """The two principal second moments of area over the area, smaller first, px²."""
    # OpenCV computes in float32: around its centre and at unit size a polygon loses nothing.
    scale = np.sqrt(polygon.area)
    centre = np.array(polygon.centroid.coords[0])
    sums = np.zeros(4)
    for part in shapely.get_parts(polygon):
        for index, ring in enumerate([part.exterior, *part.interiors]):
            points = ((shapely.get_coordinates(ring)[:-1] - centre) / scale).astype(np.float32)
            moments = cv2.moments(points[:, None])
            sums += np.array([moments[key] for key in ("m00", "m20", "m11", "m02")]) * (-1 if index else 1)
    area, xx, xy, yy = sums
    return np.maximum(np.linalg.eigvalsh([[xx, xy], [xy, yy]]) / area, 0) * scale**2
