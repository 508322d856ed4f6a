"""Mask images: index values, colours, instances or brightness; and the exact outlines of their objects."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiLineString, MultiPolygon, Polygon
from skimage.measure import find_contours, label, regionprops

from bundle.classes import BACKGROUND_INDEX, CLASS_NAMES
from bundle.data.annotations.classmap import IGNORE
from bundle.data.annotations.mask_files import MASK_SUFFIXES, MAX_MASK_PX, load_mask, mask_size
from bundle.data.annotations.model import Annotation
from bundle.data.annotations.outlines import annotation, glomerulus
from bundle.errors import AnnotationError, ConfigError, UnknownClassError

__all__ = ["MASK_SUFFIXES", "MAX_MASK_PX", "MaskTable", "mask_outline", "mask_size", "read_mask"]

DEFAULT_MASK_VALUES: Final[Mapping[str, str]] = {
    **{str(i): name for i, name in enumerate(CLASS_NAMES, start=1)},
    "255": IGNORE,
}


@dataclass(frozen=True)
class MaskTable:
    """What the values of a mask mean; made from the mapping that configs call `mask_values`.

    Keys of the mapping: a value ("1"), a colour ("#ff0000"), brighter than a value (">127"), any other value but 0
    ("*"), or "instances": each value is one object. Values are class names that the class map knows. Value 0 and black
    are background unless they are named.

    Attributes:
        names: class name of each value; a colour's value is 0xrrggbb, that of all brighter than `threshold` is -1.
        is_colour: whether the values are colours.
        rest: class name of "*".
        instances: class name of "instances".
        threshold: the grey level above which a pixel is in the object.
    """

    names: Mapping[int, str]
    is_colour: bool = False
    rest: str | None = None
    instances: str | None = None
    threshold: float | None = None

    @classmethod
    def parse(cls, mask_values: Mapping[Any, str] | None) -> "MaskTable":
        """The table of a mapping, `DEFAULT_MASK_VALUES` when it is None; `ConfigError` on a key of no known form."""
        table = {str(key): name for key, name in (mask_values or DEFAULT_MASK_VALUES).items()}
        rest, instances = table.pop("*", None), table.pop("instances", None)
        is_colour = any(key.startswith("#") for key in table)
        bright = [key for key in table if key.startswith(">")]
        try:
            threshold = float(bright[0][1:]) if bright else None
            names = {
                -1 if key in bright else int(key.lstrip("#"), 16 if is_colour else 10): table[key] for key in table
            }
        except ValueError:
            names, threshold = {}, None
        whole = bool(bright) + bool(instances)
        if len(names) != len(table) or whole > 1 or (whole and len(table) + (instances is not None) > 1):
            raise ConfigError(
                f"mask_values: {dict(mask_values or {})} is no table of values; use either numbers, #rrggbb colours, "
                "one '>127' or 'instances', and '*' for the rest"
            )
        return cls(names, is_colour, rest, instances, threshold)


def read_mask(
    path: Path,
    table: MaskTable,
    class_map: Mapping[str, str] | None,
    downsample: float,
    min_area_px: float,
) -> Annotation:
    """The objects of a mask image: connected (also by corners) areas of one value, or one object per instance value.

    Args:
        path: PNG, BMP, TIFF (its largest level), NIfTI, MHA or NRRD.
        table: what the values mean.
        class_map: see `classmap.label_of`.
        downsample: level-0 pixels per mask pixel.
        min_area_px: objects of fewer mask pixels are left out.

    Raises:
        AnnotationError: the file is no image or too large, in colour without a table of colours, or its values are no
            whole numbers.
        UnknownClassError: a value is not in the table, or its name in no class map.
        ConfigError: see `classmap.label_of`.
    """
    values = _index_values(load_mask(path), table, path)
    # A table that names value 0 makes it an object like the others.
    background = BACKGROUND_INDEX if 0 not in table.names else int(values.min()) - 1
    objects = values if table.instances else label(values, background=background, connectivity=2)
    found = []
    for region in regionprops(objects):
        if region.area < min_area_px:
            continue
        top, left = region.bbox[:2]
        value = int(values[tuple(region.coords[0])])
        name = table.instances or table.names.get(value) or table.rest or ""
        polygon = mask_outline(region.image, left, top, downsample)
        found.append(glomerulus(polygon, [name], path, class_map, id=str(region.label)))
    return annotation(found)


def mask_outline(mask: NDArray[np.bool_], left: int, top: int, downsample: float) -> Polygon | MultiPolygon:
    """The outline of a boolean mask whose first pixel is (left, top), times `downsample`: level-0 pixels.

    Its border runs midway between neighbouring pixel centres (marching squares at 0.5: Lorensen and Cline 1987, in
    skimage), so that rasterizing it at `downsample` gives back exactly `mask`. Areas that touch by a corner are joined.
    """
    padded = np.pad(mask, 1).astype(np.float32)
    contours = find_contours(padded, 0.5, fully_connected="high")
    # Row 1 of the padded mask is the pixel `top`, its centre lies at top + 0.5.
    offset = (left - 0.5, top - 0.5)
    area = shapely.build_area(MultiLineString([contour[:, ::-1] + offset for contour in contours]))
    outline = shapely.simplify(area, 0)
    return shapely.transform(outline, lambda points: points * downsample)


def _index_values(array: NDArray, table: MaskTable, path: Path) -> NDArray[np.integer]:
    """Mask values as integers with background 0; a colour's value is 0xrrggbb."""
    if table.threshold is not None:
        # The key of the only name of such a table is -1.
        return np.where(_grey(array, path) > table.threshold, -1, 0).astype(np.int8)
    if table.is_colour:
        colours = np.atleast_3d(array).astype(np.int32)
        red, green, blue = (colours[..., i if colours.shape[2] == 3 else 0] for i in range(3))
        values: NDArray[np.integer] = red << 16 | green << 8 | blue
    else:
        values = _integers(_grey(array, path), path).astype(np.int64 if array.dtype.itemsize > 2 else np.int32)
    if table.instances or table.rest:
        return values
    unknown = sorted(set(np.unique(values).tolist()) - set(table.names) - {0})
    if unknown:
        shown = ", ".join(f"#{v:06x}" if table.is_colour else str(v) for v in unknown[:5])
        raise UnknownClassError(
            f"{path}: mask value {shown} has no class; map it in `mask_values`, the rest by '*' to 'background', "
            "or every value to one class by 'instances'"
        )
    return values


def _grey(array: NDArray, path: Path) -> NDArray:
    if array.ndim == 2:
        return array
    if not (np.array_equal(array[..., 0], array[..., 1]) and np.array_equal(array[..., 0], array[..., 2])):
        raise AnnotationError(f"{path}: is a colour image; give its colours in `mask_values` as '#rrggbb'")
    return array[..., 0]


def _integers(array: NDArray, path: Path) -> NDArray[np.integer]:
    if array.dtype.kind in "iu":
        return array
    whole = array.astype(np.int32)
    if not np.array_equal(whole, array):
        raise AnnotationError(f"{path}: has values that are no whole numbers; save an index mask")
    return whole
