"""Micrometres per pixel and objective power of a TIFF: Aperio text, OME-XML, then the resolution tags.

Vendor metadata wins over tags: scanners and converters write 72 or 96 dpi into the tags without meaning it.
"""

import math
from pathlib import Path
from xml.etree.ElementTree import Element

import defusedxml.ElementTree
import tifffile

from bundle.readers.base import read_error

MICROSCOPE_MPP = (0.05, 20.0)
"""um/px that a microscope's image can have; resolution tags outside are a printer's or a screen's."""

_UM_PER_UNIT = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "Å": 1e-4, "in": 25400.0}
_UM_PER_RESOLUTION_UNIT: dict[int | None, float] = {
    tifffile.RESUNIT.INCH: 25400.0,
    tifffile.RESUNIT.CENTIMETER: 10000.0,
}

Resolution = tuple[tuple[float, float] | None, float | None]
"""(um/px along x and y or None, objective power or None)."""


def tiff_resolution(path: Path, tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Resolution:
    """What the file says about `series`; `SlideReadError` on malformed OME-XML."""
    if tiff.is_svs:
        return _aperio(series.keyframe)
    if tiff.is_ome:
        mpp_xy, power = _ome(path, tiff.ome_metadata or "", [s is series for s in tiff.series].index(True))
        return mpp_xy or _tags(series.keyframe), power
    return _tags(series.keyframe), None


def _aperio(page: tifffile.TiffPage) -> Resolution:
    stated = tifffile.tifffile.svs_description_metadata(page.description)
    mpp, power = positive(stated.get("MPP")), positive(stated.get("AppMag"))
    return (mpp, mpp) if mpp else None, power


def _ome(path: Path, xml: str, index: int) -> Resolution:
    try:
        root = defusedxml.ElementTree.fromstring(xml)
    except (defusedxml.ElementTree.ParseError, defusedxml.DefusedXmlException) as error:
        raise read_error(path, f"its OME-XML cannot be parsed ({error}); write the file again") from error
    images = root.findall("{*}Image")
    pixels = images[index].find("{*}Pixels") if index < len(images) else None
    powers = {o.get("NominalMagnification") for o in root.iterfind("{*}Instrument/{*}Objective")}
    power = positive(powers.pop()) if len(powers) == 1 else None  # several objectives: which one is not worth a guess
    if pixels is None:
        return None, power
    x, y = _ome_length(pixels, "PhysicalSizeX"), _ome_length(pixels, "PhysicalSizeY")
    return (x, y) if x and y else None, power


def _ome_length(pixels: Element, name: str) -> float | None:
    value = positive(pixels.get(name))
    um_per_unit = _UM_PER_UNIT.get(pixels.get(f"{name}Unit", "µm"))
    return value * um_per_unit if value and um_per_unit else None


def _tags(page: tifffile.TiffPage) -> tuple[float, float] | None:
    um_per_unit = _UM_PER_RESOLUTION_UNIT.get(page.resolutionunit)
    x, y = page.resolution
    if um_per_unit is None or not (x > 0 and y > 0):
        return None
    mpp_xy = (um_per_unit / x, um_per_unit / y)
    low, high = MICROSCOPE_MPP
    return mpp_xy if all(low <= mpp <= high for mpp in mpp_xy) else None


def positive(value: object) -> float | None:
    """`value` as a finite number above zero, else None: vendors write 0, -1 and empty text for 'unknown'."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None
