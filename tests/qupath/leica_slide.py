"""A Leica SCN file, the simplest format in which a scan covers only a part of level 0 (`openslide.bounds-*`)."""

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from bundle.geometry import Rect, Size

TILE_PX = 64
_XML = """<?xml version="1.0"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">
 <collection name="slide" sizeX="{full_x}" sizeY="{full_y}">
  <barcode></barcode>
  <image name="scan" uuid="urn:uuid:00000000-0000-0000-0000-000000000001">
   <creationDate>2026-01-02T03:04:05.6Z</creationDate>
   <device model="phantom" version="1"/>
   <pixels sizeX="{width}" sizeY="{height}">{dimensions}</pixels>
   <view sizeX="{scan_x}" sizeY="{scan_y}" offsetX="{offset_x}" offsetY="{offset_y}" spacingZ="0"/>
   <scanSettings>
    <objectiveSettings><objective>20</objective></objectiveSettings>
    <illuminationSettings>
     <numericalAperture>0.4</numericalAperture><illuminationSource>brightfield</illuminationSource>
    </illuminationSettings>
   </scanSettings>
  </image>
 </collection>
</scn>"""
_DIMENSION = '<dimension sizeX="{width}" sizeY="{height}" r="{level}" ifd="{level}"/>'


def write_leica_slide(path: Path, rgb: NDArray[np.uint8], scan: Rect, full: Size, mpp: float) -> None:
    """Write `rgb`, two levels of it, as the scan of the area `scan` on a slide of `full` level-0 px."""
    nm = mpp * 1000
    levels = [rgb, np.ascontiguousarray(rgb[::2, ::2])]
    dimensions = "".join(
        _DIMENSION.format(width=level.shape[1], height=level.shape[0], level=i) for i, level in enumerate(levels)
    )
    description = _XML.format(
        full_x=round(full.width * nm),
        full_y=round(full.height * nm),
        width=scan.width,
        height=scan.height,
        dimensions=dimensions,
        scan_x=round(scan.width * nm),
        scan_y=round(scan.height * nm),
        offset_x=round(scan.x * nm),
        offset_y=round(scan.y * nm),
    )
    options = {"tile": (TILE_PX, TILE_PX), "photometric": "rgb", "compression": "adobe_deflate", "metadata": None}
    per_cm = 1e4 / mpp
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for index, level in enumerate(levels):
            resolution = {"resolution": (per_cm / 2**index,) * 2, "resolutionunit": "CENTIMETER"}
            writer.write(level, description=None if index else description, **resolution, **options)
