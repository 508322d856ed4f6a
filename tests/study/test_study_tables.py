"""Tables made of hand-written evaluations hold the figures that a reader would put there by hand."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from bundle.study.checks import CHECKS, check
from bundle.study.further_tables import (
    comparisons,
    comparisons_text,
    confounder,
    confounder_text,
    detection,
    detection_numbers,
    detection_text,
)
from bundle.study.paper_tables import GAP, fill
from bundle.study.plots import boxplots
from bundle.study.published import published
from bundle.study.results import Results
from tests.study.hand_made import write_evaluation, write_images, write_summary

UNETS = ["U-Net", "U-Net3+", "Swin+U-Net"]


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path)


def row(table, /, **where):
    """The one row of a frame with these values."""
    found = table[np.logical_and.reduce([table[key] == value for key, value in where.items()])]
    assert len(found) == 1
    return found.iloc[0]


def test_our_figures_stand_beside_the_published(results, tmp_path):
    write_summary(
        tmp_path / "U-Net" / "normal" / "on_normal" / "slides",
        ("HE", "stratified_dice", "normal", 0.9, 0.05, 3),
        ("PAS", "stratified_dice", "normal", 0.8, "", 1),
        ("ALL", "stratified_dice", "normal", 0.875, 0.0645, 4, 2, 0.81, 0.93),
        ("ALL", "stratified_dice", "glomerulus", 0.1, 0.1, 4),
        ("ALL", "dice", "normal", 0.2, 0.1, 4),
    )
    table = fill(published().tables[3], results, ["U-Net"])
    text = table.text()
    assert list(text["stain"]) == ["HE", "PAS", "PAMS", "ALL"]
    assert list(text["U-Net"]) == ["0.900 ± 0.050 (3)", "0.800 (1)", GAP, "0.875 ± 0.065 (4)"]
    assert list(text["U-Net, published"]) == ["0.923", "0.915", "0.937", "0.919"]
    numbers = row(table.frame(), stain="ALL")
    assert [numbers[f"U-Net {name}"] for name in ("mean", "low", "high", "patients")] == [0.875, 0.81, 0.93, 2]
    assert numbers["U-Net published"] == 0.919


def test_networks_of_the_study_that_we_have_not_run_are_a_dash_beside_their_figures(results):
    text = fill(published().tables[6], results, ["U-Net"]).text()
    assert row(text, images="crops", stain="ALL")["SegGPT#12"] == GAP
    assert row(text, images="crops", stain="ALL")["SegGPT#12, published"] == "0.701"


def test_seggpt_is_shown_once_its_folder_is_there(results, tmp_path):
    write_evaluation(tmp_path / "SegGPT#6" / "mixed" / "on_sclerosis", {"global_sclerosis": 0.5})
    text = fill(published().tables[6], results, UNETS).text()
    assert row(text, images="whole slides", stain="HE")["SegGPT#6"] == "0.500 ± 0.100 (2)"


def test_a_table_of_the_study_without_seggpt_has_no_column_for_it(results):
    assert [c for c in fill(published().tables[5], results, UNETS).text() if "SegGPT" in c] == []


def test_a_network_and_a_stain_that_the_study_does_not_have_come_after_its_own(results, tmp_path):
    write_summary(
        tmp_path / "Mine" / "normal" / "on_sclerosis" / "slides",
        ("MT", "stratified_dice", "segmental_sclerosis", 0.6, 0.1, 2),
        ("ALL", "stratified_dice", "segmental_sclerosis", 0.6, 0.1, 2),
    )
    text = fill(published().tables[4], results, ["U-Net", "Mine"]).text()
    assert list(text["stain"]) == ["HE", "PAS", "MT", "ALL"]
    assert list(text.columns[-2:]) == ["Mine", "Mine, published"]
    assert row(text, stain="MT")["Mine"] == "0.600 ± 0.100 (2)"
    assert row(text, stain="MT")["U-Net, published"] == GAP


def test_a_class_without_images_is_a_dash(results, tmp_path):
    row_without = ("HE", "stratified_dice", "normal", "", "", 0)
    write_summary(tmp_path / "U-Net" / "normal" / "on_normal" / "slides", row_without)
    assert row(fill(published().tables[3], results, ["U-Net"]).text(), stain="HE")["U-Net"] == GAP


def test_pixels_stand_against_micrometres(results, tmp_path):
    for on, dice, f1 in (("on_sclerosis", 0.5, 0.25), ("on_sclerosis_physical", 0.7, 0.125)):
        write_summary(
            tmp_path / "U-Net" / "normal" / on / "slides",
            ("ALL", "stratified_dice", "global_sclerosis", dice, 0.1, 2),
            ("ALL", "f1", "glomerulus", f1, 0.1, 2),
        )
    table = confounder_text(confounder(results, ["U-Net"]))
    dice = row(table, glomeruli="global sclerosis", images="whole slides")
    assert (dice["pixels"], dice["micrometres"], dice["change"]) == ("0.500", "0.700", "+0.200")
    f1 = row(table, glomeruli="all of sclerosis")
    assert (f1["measure"], f1["pixels"], f1["micrometres"], f1["change"]) == ("F1", "0.250", "0.125", "-0.125")
    assert row(table, glomeruli="normal", images="crops")["change"] == GAP


def test_objects_are_counted_on_slides_and_boundaries_measured_in_the_crops_of_a_class(results, tmp_path):
    folder = tmp_path / "U-Net" / "mixed" / "on_sclerosis"
    write_summary(
        folder / "slides",
        ("ALL", "f1", "glomerulus", 0.5, 0.2, 2),
        ("ALL", "pooled_f1", "glomerulus", 0.6, "", 2),
        ("ALL", "panoptic_quality", "glomerulus", 0.4, 0.1, 2),
    )
    crops = [("a", "1 global_sclerosis", 10), ("a", "2 global_sclerosis", 20), ("b", "1 segmental_sclerosis", 7)]
    missed = ("b", "2 global_sclerosis", "")
    write_images(folder / "crops", ["hd95_um_glomerulus"], [(s, c, "p", "HE", d) for s, c, d in (*crops, missed)])
    table = detection(results, ["U-Net"])
    found = row(detection_text(table), **{"trained on": "normal, then Mixed", "test set": "sclerosis"})
    assert found["F1"] == "0.500 ± 0.200 (2)"
    assert found["F1, pooled"] == "0.600 (2)"
    assert found["panoptic quality"] == "0.400 ± 0.100 (2)"
    assert found["HD95 µm, global sclerosis"] == "15.0 ± 7.1 (2)"
    assert found["HD95 µm, segmental sclerosis"] == "7.0 (1)"
    assert found["HD95 µm, normal"] == GAP
    numbers = detection_numbers(table)
    assert len(numbers) == 5
    assert list(row(numbers, measure="F1")[["mean", "std", "images"]]) == [0.5, 0.2, 2]


def test_two_networks_are_compared_over_patients(results, tmp_path):
    # six patients that all favour the first: the exact two-sided p is 2 / 2**6
    for network, dice in (("U-Net", [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]), ("U-Net3+", [0.8, 0.6, 0.4, 0.2, 0.0, 0.3])):
        images = [(f"s{i}", "", f"p{i}", "HE", value) for i, value in enumerate(dice)]
        folder = tmp_path / network / "normal" / "on_normal" / "slides"
        write_images(folder, ["stratified_dice_normal"], images)
    table = comparisons(results, ["U-Net", "U-Net3+"])
    found = row(table, table=3)
    assert (found["first"], found["second"], found["patients"]) == ("U-Net", "U-Net3+", 6)
    assert found["p"] == pytest.approx(2 / 2**6)
    assert found["median_difference"] == pytest.approx((0.2 + 0.3) / 2)
    assert row(comparisons_text(table), table=3)["p"] == "0.031"
    assert row(table, table=4)["remark"] == "not evaluated"


def test_networks_that_saw_different_images_are_not_compared(results, tmp_path):
    for network, slide in (("U-Net", "a"), ("U-Net3+", "b")):
        folder = tmp_path / network / "normal" / "on_normal" / "slides"
        write_images(folder, ["stratified_dice_normal"], [(slide, "", "p", "HE", 0.5)])
    found = row(comparisons(results, ["U-Net", "U-Net3+"]), table=3)
    assert (found["remark"], found["compared"]) == ("not of the same images", 0)


def test_the_study_s_own_figures_show_its_pattern(results, tmp_path):
    for table in published().tables.values():
        for (level, stain, network), mean in table.figures.items():
            folder = tmp_path / network / table.stage / f"on_{table.test_set}" / level
            summary = folder / "per_stain.csv"
            before = [line.split(",") for line in summary.read_text().splitlines()[1:]] if summary.exists() else []
            write_summary(folder, *before, (stain, "stratified_dice", table.label, mean, 0.1, 3))
    found = check(results, UNETS)
    assert len(found) == len(CHECKS) * len(UNETS)
    assert set(found["verdict"]) == {"reproduced"}
    assert list(found["ours"]) == list(found["published"])


@pytest.fixture
def other(tmp_path):
    """A network with none of the study's pattern."""
    figures = {
        ("normal", "on_normal", "slides"): {"normal": 0.7},
        ("normal", "on_sclerosis", "slides"): {"segmental_sclerosis": 0.8, "global_sclerosis": 0.4},
        ("normal", "on_sclerosis", "crops"): {"global_sclerosis": 0.5},
        ("mixed", "on_sclerosis", "slides"): {"global_sclerosis": 0.6},
        ("mixed", "on_sclerosis", "crops"): {"global_sclerosis": 0.65},
    }
    for (stage, on, level), means in figures.items():
        write_evaluation(tmp_path / "U-Net" / stage / on, means, level)


@pytest.mark.usefixtures("other")
def test_another_pattern_is_told_from_the_study_s(results):
    found = check(results, ["U-Net"])
    assert list(found["ours"]) == [
        "0.700 against 0.800",
        "0.400 against 0.350",
        "0.150 against 0.200",
        "0.800 against 0.400 to 0.700",
    ]
    assert set(found["verdict"]) == {"not reproduced"}


def test_a_check_without_figures_is_neither(results):
    assert set(check(results, ["U-Net"])["verdict"]) == {GAP}


@pytest.mark.usefixtures("other")
def test_the_boxplots_show_every_image_in_the_panel_of_its_class(results, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Axes, "boxplot", lambda axes, values, **_: drawn.append((axes, list(values[0]))))
    boxplots(results, ["U-Net", "U-Net3+"], tmp_path / "boxplots.png")
    with Image.open(tmp_path / "boxplots.png") as picture:
        assert min(picture.size) > 500
    assert [(axes.get_title(), values) for axes, values in drawn] == [
        ("Normal, whole slides", [0.7, 0.7]),
        ("Segmental sclerosis, whole slides", [0.8, 0.8]),
        ("Global sclerosis, whole slides", [0.4, 0.4]),
        ("Global sclerosis, whole slides", [0.6, 0.6]),
        ("Global sclerosis, crops", [0.5, 0.5]),
        ("Global sclerosis, crops", [0.65, 0.65]),
    ]
