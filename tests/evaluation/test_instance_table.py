"""Detection image by image and pooled, against numbers worked out by hand."""

import numpy as np
import pytest
from ignite.engine import Engine
from shapely.geometry import box

from bundle.data.annotations import Annotation, Glomerulus
from bundle.evaluation import InstanceQuality
from bundle.evaluation.instance_table import pooled


def annotation(*objects: tuple[int, float]) -> Annotation:
    """Squares of side 10 in a row, (class, place)."""
    return Annotation(tuple(Glomerulus(box(20 * x, 0, 20 * x + 10, 10), label) for label, x in objects))


IMAGES = [
    # One normal found exactly, one missed, one false global; a global found with IoU 8/12.
    {
        "slide": "s1", "patient": "a", "stain": "PAS",
        "annotation": annotation((1, 0), (1, 1), (3, 2)),
        "glomeruli": annotation((1, 0), (3, 5), (3, 2.1)),
    },
    # Nothing annotated, one false normal.
    {"slide": "s2", "patient": "b", "stain": "PAS", "annotation": annotation(), "glomeruli": annotation((1, 0))},
    # A global called normal.
    {"slide": "s3", "patient": "c", "stain": "HE", "annotation": annotation((3, 0)), "glomeruli": annotation((1, 0))},
]  # fmt: skip


@pytest.fixture
def metric():
    found = InstanceQuality()
    engine = Engine(lambda _, image: image)
    found.attach(engine, "f1")
    engine.run(IMAGES)
    found.engine_metrics = engine.state.metrics
    return found


def cell(table, stain, measure, label):
    (found,) = table[(table["stain"] == stain) & (table["measure"] == measure) & (table["class"] == label)].to_dict(
        "records"
    )
    return found


def test_a_row_has_the_measures_of_its_image(metric):
    row = metric.frame().iloc[0]
    assert row["f1_glomerulus"] == pytest.approx(2 * 2 / (3 + 3))
    assert row["panoptic_quality_glomerulus"] == pytest.approx(2 * (1 + 8 / 12) / 6)
    assert (row["true_positives_global_sclerosis"], row["false_positives_global_sclerosis"]) == (1, 1)
    assert row["global_percent_error"] == pytest.approx(100 * 2 / 3 - 100 / 3)


def test_the_engine_gets_the_mean_f1(metric):
    assert metric.engine_metrics["f1"] == pytest.approx(np.mean([2 / 3, 0, 1]))
    assert metric.engine_metrics["f1_global_sclerosis"] == pytest.approx(np.mean([2 / 3, 0]))


def test_pooled_measures_add_the_counts_up_first(metric):
    table = pooled(metric.frame(), "stain")
    everything = cell(table, "ALL", "pooled_f1", "glomerulus")
    assert everything["mean"] == pytest.approx(2 * 3 / (2 * 3 + 2 + 1))
    assert everything["patients"] == 3
    assert cell(table, "PAS", "pooled_precision", "glomerulus")["mean"] == pytest.approx(2 / 4)
    assert cell(table, "PAS", "pooled_recall", "normal")["mean"] == pytest.approx(1 / 2)
    assert np.isnan(cell(table, "ALL", "pooled_f1", "segmental_sclerosis")["mean"])
    quality = cell(table, "ALL", "pooled_panoptic_quality", "global_sclerosis")["mean"]
    assert quality == pytest.approx(2 * (8 / 12) / (2 * 1 + 1 + 1))


def test_the_summary_has_means_and_pooled_measures(metric):
    summary = metric.summary("stain")
    assert cell(summary, "ALL", "f1", "glomerulus")["mean"] == pytest.approx(np.mean([2 / 3, 0, 1]))
    assert cell(summary, "ALL", "global_percent_error", "")["n"] == 2
    assert cell(summary, "ALL", "pooled_f1", "glomerulus")["n"] == 3
