"""One row for a slide: how many glomeruli of which class, how dense, how clustered."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import shapely

from bundle.classes import CLASS_NAMES, GLOBAL, IGNORE_INDEX, SEGMENTAL
from bundle.data.annotations.classmap import DEFAULT_CLASS_MAP, IGNORE
from bundle.findings.entities_source import AnnotatedSlide
from bundle.findings.spatial import Clustering, Window
from bundle.report.figures import percentage
from bundle.tissue import TissueFinder

WINDOW_UM: Final = 16.0
"""Pixel of a window that is drawn as polygons."""
_UM2_IN_MM2: Final = 1e6


@dataclass(frozen=True)
class SlideTable:
    """Summarizes slides.

    Attributes:
        tissue: finds the tissue that densities refer to; without its margin, which is there to miss nothing.
        clustering: measures how glomeruli lie.
        cortex_names: objects of these names (lower case, mapped to `ignore` in the class map) are cortex. The bundle
            does not find cortex itself: without such objects densities per mm² of cortex are NaN.
    """

    tissue: TissueFinder = field(default_factory=lambda: TissueFinder(margin_um=0.0))
    clustering: Clustering = field(default_factory=Clustering)
    cortex_names: tuple[str, ...] = ("cortex",)

    def __call__(self, slide: AnnotatedSlide, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The slide's row.

        Columns: slide, patient, stain, mpp, region; glomeruli (of a known class), unclassified, a count for each class;
        percent_global_sclerosis and percent_segmental_sclerosis of the glomeruli, each with _low and _high; tissue_mm2,
        cortex_mm2, glomeruli_per_mm2_tissue, glomeruli_per_mm2_cortex; the columns of `spatial.Clusters`, in the cortex
        where it is drawn, else in the tissue.

        Args:
            slide: without its image densities of tissue are NaN.
            rows: its entities with class, centroid_x and centroid_y.

        Raises:
            SlideReadError: the slide's pixels are damaged.
        """
        counts = {name: sum(row["class"] == name for row in rows) for name in CLASS_NAMES}
        total = len(rows)
        tissue = self._tissue(slide)
        cortex = self._cortex(slide)
        points = np.array([(row["centroid_x"], row["centroid_y"]) for row in rows]).reshape(-1, 2)
        points_um = (points - slide.offset) * slide.mpp
        return {
            "slide": slide.slide,
            "patient": slide.patient,
            "stain": slide.stain,
            "mpp": slide.mpp,
            "region": "" if slide.region is None else " ".join(map(str, asdict(slide.region).values())),
            "glomeruli": total,
            "unclassified": self._unclassified(slide),
            **counts,
            **_percentage(SEGMENTAL.name, counts[SEGMENTAL.name], total),
            **_percentage(GLOBAL.name, counts[GLOBAL.name], total),
            **_density("tissue", total, tissue),
            **_density("cortex", int(cortex.holds(points_um).sum()) if cortex is not None else 0, cortex),
            **asdict(self.clustering(points_um, cortex if cortex is not None else tissue)),
        }

    def _unclassified(self, slide: AnnotatedSlide) -> int:
        ignored = [g.name.strip().lower() for g in slide.annotation.glomeruli if g.label == IGNORE_INDEX]
        return sum(DEFAULT_CLASS_MAP.get(name) == IGNORE for name in ignored)

    def _tissue(self, slide: AnnotatedSlide) -> Window | None:
        if slide.image is None:
            return None
        found = self.tissue(slide.image)
        return Window(found.mask, found.downsample * slide.mpp)

    def _cortex(self, slide: AnnotatedSlide) -> Window | None:
        drawn = slide.named(frozenset(self.cortex_names))
        if not drawn:
            return None
        outline = shapely.union_all(drawn)
        if slide.region is not None:
            outline = shapely.clip_by_rect(outline, 0, 0, slide.region.width, slide.region.height)
        return Window.of_polygon(shapely.transform(outline, lambda points: points * slide.mpp), WINDOW_UM)


def _percentage(name: str, count: int, total: int) -> dict[str, float]:
    """Percentage of glomeruli with its exact 95 % interval (Clopper & Pearson 1934); NaN without glomeruli.

    The interval is that of a sample of independent glomeruli; glomeruli of one scar are not.
    """
    column = f"percent_{name}"
    found = percentage(count, total)
    if found is None:
        return dict.fromkeys((column, f"{column}_low", f"{column}_high"), float("nan"))
    return {column: found.value, f"{column}_low": found.low, f"{column}_high": found.high}


def _density(name: str, count: int, window: Window | None) -> dict[str, float]:
    area = window.area_um2 / _UM2_IN_MM2 if window is not None else float("nan")
    return {f"{name}_mm2": area, f"glomeruli_per_mm2_{name}": count / area if area else float("nan")}
