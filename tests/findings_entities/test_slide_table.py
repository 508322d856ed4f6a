"""Rows of slides: exact intervals, densities, and what is not known."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta
from shapely.geometry import Point

from bundle.classes import CLASS_NAMES, GLOBAL, IGNORE_INDEX
from bundle.data.annotations import Annotation, Glomerulus
from bundle.findings.entities import Entities
from bundle.findings.entities_source import AnnotatedSlide
from bundle.findings.slide_table import SlideTable
from bundle.geometry import Rect


def slide(labels: list[int], *others: Glomerulus, region: Rect | None = None) -> AnnotatedSlide:
    """A slide without pixels, 0.5 µm/px, a row of round glomeruli 200 px apart."""
    glomeruli = [Glomerulus(Point(100 + 200 * i, 100).buffer(80), label, "x") for i, label in enumerate(labels)]
    return AnnotatedSlide("s", "p", "PAS", 0.5, region, Annotation((*glomeruli, *others)), None)


def table(of: AnnotatedSlide) -> dict[str, object]:
    return SlideTable()(of, [row for row, _ in Entities()(of)])


@settings(max_examples=25, deadline=None)
@given(counts=st.tuples(*[st.integers(0, 25)] * 3).filter(any))
def test_percentages_have_clopper_and_pearson_s_interval(counts: tuple[int, int, int]) -> None:
    row = table(slide([label for label, count in enumerate(counts, start=1) for _ in range(count)]))
    n = sum(counts)
    assert [row[name] for name in CLASS_NAMES] == list(counts)
    for name, k in zip(CLASS_NAMES[1:], counts[1:], strict=True):
        low = beta.ppf(0.025, k, n - k + 1) if k else 0.0
        high = beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
        found = [row[f"percent_{name}{end}"] for end in ("", "_low", "_high")]
        assert found == pytest.approx([100 * k / n, 100 * low, 100 * high])


def test_a_slide_without_glomeruli_has_a_count_and_no_percentage() -> None:
    row = table(slide([]))
    assert row["glomeruli"] == 0
    assert np.isnan(row["percent_global_sclerosis"])
    assert np.isnan(row["nearest_neighbour_um"])


def test_unclassified_glomeruli_are_counted_apart() -> None:
    unclear = Glomerulus(Point(0, 0).buffer(50), IGNORE_INDEX)
    row = table(slide([1, 3], unclear))
    assert (row["glomeruli"], row["unclassified"]) == (2, 1)


def test_density_is_of_the_cortex_that_is_drawn_and_of_what_lies_in_it() -> None:
    cortex = Glomerulus(shapely.box(0, 0, 1000, 400), IGNORE_INDEX, "Cortex")
    row = table(slide([1] * 8, cortex))  # 0.5 x 0.2 mm; centres at 100, 300, ... 1500 px
    assert row["cortex_mm2"] == pytest.approx(0.1, rel=0.05)  # the window's pixels are 16 µm
    assert row["glomeruli_per_mm2_cortex"] == pytest.approx(5 / row["cortex_mm2"])
    assert np.isnan(row["glomeruli_per_mm2_tissue"])
    assert np.isfinite(row["ripley_k_ratio"])
    assert row["unclassified"] == 0


def test_without_slide_and_cortex_density_and_clustering_are_unknown() -> None:
    row = table(slide([GLOBAL.index] * 5))
    assert np.isnan([row[name] for name in ("tissue_mm2", "cortex_mm2", "glomeruli_per_mm2_tissue")]).all()
    assert np.isnan([row["ripley_k_ratio"], row["clark_evans"]]).all()
    assert row["nearest_neighbour_um"] == pytest.approx(100)


def test_in_a_region_cortex_is_that_of_the_region_and_places_are_of_the_slide() -> None:
    cortex = Glomerulus(shapely.box(-5000, -5000, 5000, 5000), IGNORE_INDEX, "cortex")
    within = slide([1, 1, 1, 1], cortex, region=Rect(3000, 4000, 800, 400))
    rows = [row for row, _ in Entities()(within)]
    assert [(row["centroid_x"], row["centroid_y"]) for row in rows] == [
        (pytest.approx(3100 + 200 * i), pytest.approx(4100)) for i in range(4)
    ]
    row = SlideTable()(within, rows)
    assert row["cortex_mm2"] == pytest.approx(0.4 * 0.2, rel=0.05)
    assert row["glomeruli_per_mm2_cortex"] == pytest.approx(4 / row["cortex_mm2"])
