"""Tables of a paper, against values worked out by hand."""

import csv
import math

import pandas as pd
import pytest

from bundle.classes import CLASS_NAMES
from bundle.evaluation.tables import markdown, one_line, summarise, write_tables

NAN = float("nan")


@pytest.fixture
def frame():
    """Four slides of three patients and two stains; no slide has segmental sclerosis, one has global."""
    rows = [
        ("s1", "", "a", "PAS", 0.8, 0.9, NAN, NAN, 0, 7, 0),
        ("s2", "", "a", "PAS", 0.6, 0.7, NAN, NAN, 0, 0, 0),
        ("s3", "", "b", "PAS", 0.7, 0.5, NAN, 0.25, 1, 0, 0),
        ("s4", "", "c", "HE", NAN, NAN, NAN, NAN, 2, 0, 0),
    ]
    dice = [f"dice_{name}" for name in ("glomerulus", *CLASS_NAMES)]
    columns = ["slide", "crop", "patient", "stain", *dice, *(f"false_positive_px_{name}" for name in CLASS_NAMES)]
    return pd.DataFrame(rows, columns=columns)


def row(summary: pd.DataFrame, name: str) -> dict:
    (found,) = summary[summary.iloc[:, 0] == name].to_dict("records")
    return found


def test_mean_deviation_and_number_are_those_worked_out_by_hand(frame):
    pas = row(summarise(frame, "stain"), "PAS")
    assert pas["images"] == 3
    assert pas["dice_glomerulus_mean"] == pytest.approx(0.7)
    assert pas["dice_glomerulus_std"] == pytest.approx(0.1)  # sqrt((0.01 + 0.01 + 0) / 2)
    assert pas["dice_glomerulus_n"] == 3
    assert pas["dice_normal_mean"] == pytest.approx(0.7)
    assert pas["dice_normal_std"] == pytest.approx(0.2)


def test_all_is_over_images_not_over_groups(frame):
    everything = row(summarise(frame, "patient"), "ALL")
    assert everything["images"] == 4
    assert everything["dice_glomerulus_mean"] == pytest.approx((0.8 + 0.6 + 0.7) / 3)


def test_an_absent_class_is_nan_of_0_images_never_0(frame):
    summary = summarise(frame, "stain")
    for name in ("PAS", "HE", "ALL"):
        assert math.isnan(row(summary, name)["dice_segmental_sclerosis_mean"])
        assert row(summary, name)["dice_segmental_sclerosis_n"] == 0


def test_one_image_has_a_mean_and_no_deviation(frame):
    pas = row(summarise(frame, "stain"), "PAS")
    assert pas["dice_global_sclerosis_mean"] == 0.25
    assert math.isnan(pas["dice_global_sclerosis_std"])
    assert pas["dice_global_sclerosis_n"] == 1


def test_groups_are_sorted_and_all_is_last(frame):
    assert summarise(frame, "patient")["patient"].tolist() == ["a", "b", "c", "ALL"]


def test_markdown_says_mean_deviation_and_number_or_not_available(frame):
    cells = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in markdown(summarise(frame, "stain"), "stain").splitlines()
    }
    assert cells["stain"] == ["images", "glomerulus", "normal", "segmental sclerosis", "global sclerosis"]
    assert cells["PAS"] == ["3", "0.700 ± 0.100 (3)", "0.700 ± 0.200 (3)", "n/a (0)", "0.250 (1)"]
    assert cells["HE"] == ["1", "n/a (0)", "n/a (0)", "n/a (0)", "n/a (0)"]


def test_the_log_line_is_the_row_all(frame):
    assert one_line(frame) == (
        "glomerulus 0.700 ± 0.100 (3), normal 0.700 ± 0.200 (3), segmental sclerosis n/a (0), "
        "global sclerosis 0.250 (1)"
    )


def test_the_files_are_written_and_hold_the_same_numbers(frame, tmp_path):
    write_tables(frame, tmp_path / "new", "Title")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "dice.md",
        "dice_per_image.csv",
        "dice_per_patient.csv",
        "dice_per_stain.csv",
    ]
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "new" / "dice_per_image.csv", keep_default_na=True),
        frame.replace("", NAN),
        check_dtype=False,
    )
    with (tmp_path / "new" / "dice_per_stain.csv").open(newline="") as file:
        stains = {line["stain"]: line for line in csv.DictReader(file)}
    assert float(stains["PAS"]["dice_glomerulus_mean"]) == pytest.approx(0.7)
    assert stains["HE"]["dice_normal_mean"] == ""  # not a number, not 0
    text = (tmp_path / "new" / "dice.md").read_text(encoding="utf-8")
    assert text.startswith("# Title\n")
    assert "| HE      |        1 | n/a (0)" in text


def test_no_images_make_a_table_that_says_so(frame, tmp_path):
    write_tables(frame.iloc[:0], tmp_path, "Nothing")
    assert "| ALL" in (tmp_path / "dice.md").read_text(encoding="utf-8")
