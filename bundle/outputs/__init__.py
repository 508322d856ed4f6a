"""What a segmented slide leaves behind: mask, polygons, overlay, summary."""

from bundle.outputs.glomeruli import FindGlomerulid, GlomerulusFinder
from bundle.outputs.savers import SaveGeoJSONd, SaveMaskd, SaveOverlayd, SaveProbabilityd, SaveRegionMaskd, SaveSummaryd

__all__ = [
    "FindGlomerulid",
    "GlomerulusFinder",
    "SaveGeoJSONd",
    "SaveMaskd",
    "SaveOverlayd",
    "SaveProbabilityd",
    "SaveRegionMaskd",
    "SaveSummaryd",
]
