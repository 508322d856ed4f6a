"""Tables of a paper, against values worked out by hand."""

import csv
import math

import pandas as pd
import pytest

from bundle.classes import CLASS_NAMES
from bundle.evaluation.statistics import bootstrap_interval
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


def row(summary: pd.DataFrame, name: str, label: str = "glomerulus") -> dict:
    (found,) = summary[(summary.iloc[:, 0] == name) & (summary["class"] == label)].to_dict("records")
    return found


def dice(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    return summarise(frame, by, ["dice"])


def test_mean_deviation_and_number_are_those_worked_out_by_hand(frame):
    pas = row(dice(frame, "stain"), "PAS")
    assert pas["mean"] == pytest.approx(0.7)
    assert pas["std"] == pytest.approx(0.1)  # sqrt((0.01 + 0.01 + 0) / 2)
    assert (pas["n"], pas["patients"]) == (3, 2)
    normal = row(dice(frame, "stain"), "PAS", "normal")
    assert normal["mean"] == pytest.approx(0.7)
    assert normal["std"] == pytest.approx(0.2)


def test_the_interval_is_that_of_the_bootstrap_over_patients(frame):
    expected = bootstrap_interval(frame["dice_normal"], frame["patient"])
    found = row(dice(frame, "stain"), "ALL", "normal")
    assert (found["low"], found["high"]) == (expected.low, expected.high)
    assert found["low"] < found["mean"] < found["high"]
    assert math.isnan(row(dice(frame, "stain"), "HE", "normal")["low"])


@pytest.mark.parametrize("unknown", ["", NAN])
def test_a_slide_of_an_unknown_patient_is_its_own_patient(frame, unknown):
    assert row(dice(frame.assign(patient=unknown), "stain"), "PAS")["patients"] == 3


def test_all_is_over_images_not_over_groups(frame):
    everything = row(dice(frame, "patient"), "ALL")
    assert everything["n"] == 3
    assert everything["mean"] == pytest.approx((0.8 + 0.6 + 0.7) / 3)


def test_an_absent_class_is_nan_of_0_images_never_0(frame):
    summary = dice(frame, "stain")
    for name in ("PAS", "HE", "ALL"):
        assert math.isnan(row(summary, name, "segmental_sclerosis")["mean"])
        assert row(summary, name, "segmental_sclerosis")["n"] == 0


def test_one_image_has_a_mean_and_no_deviation(frame):
    pas = row(dice(frame, "stain"), "PAS", "global_sclerosis")
    assert pas["mean"] == 0.25
    assert math.isnan(pas["std"])
    assert pas["n"] == 1


def test_groups_are_sorted_and_all_is_last(frame):
    assert dice(frame, "patient")["patient"].drop_duplicates().tolist() == ["a", "b", "c", "ALL"]


def test_only_the_wanted_measures_are_summarised_and_one_without_a_class_has_none(frame):
    summary = summarise(frame.assign(count_error=[1, -1, 0, 4]), "stain", ["count_error", "dice"])
    assert summary["measure"].drop_duplicates().tolist() == ["count_error", "dice"]
    assert row(summary, "ALL", "")["mean"] == 1


def test_markdown_says_mean_deviation_interval_and_number_or_not_available(frame):
    cells = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in markdown(dice(frame, "stain"), "stain").splitlines()
    }
    assert cells["stain"] == ["glomerulus", "normal", "segmental sclerosis", "global sclerosis"]
    assert cells["PAS"] == [
        "0.700 ± 0.100 [0.700, 0.700] (3)",
        "0.700 ± 0.200 [0.500, 0.800] (3)",
        "n/a (0)",
        "0.250 (1)",
    ]
    assert cells["HE"] == ["n/a (0)", "n/a (0)", "n/a (0)", "n/a (0)"]
    assert list(cells)[2:] == ["HE", "PAS", "ALL"]


def test_the_log_line_is_the_row_all(frame):
    assert one_line(dice(frame, "stain")) == (
        "glomerulus 0.700 ± 0.100 [0.700, 0.700] (3), normal 0.700 ± 0.200 [0.500, 0.800] (3), "
        "segmental sclerosis n/a (0), global sclerosis 0.250 (1)"
    )


def test_the_files_are_written_and_hold_the_same_numbers(frame, tmp_path):
    summaries = {by: dice(frame, by) for by in ("stain", "patient")}
    write_tables(frame, summaries, tmp_path / "new", "Title")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "per_image.csv",
        "per_patient.csv",
        "per_stain.csv",
        "summary.md",
    ]
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "new" / "per_image.csv", keep_default_na=True),
        frame.replace("", NAN),
        check_dtype=False,
    )
    with (tmp_path / "new" / "per_stain.csv").open(newline="") as file:
        stains = {(line["stain"], line["measure"], line["class"]): line for line in csv.DictReader(file)}
    assert float(stains["PAS", "dice", "glomerulus"]["mean"]) == pytest.approx(0.7)
    assert stains["HE", "dice", "normal"]["mean"] == ""  # not a number, not 0
    text = (tmp_path / "new" / "summary.md").read_text(encoding="utf-8")
    assert text.startswith("# Title\n")
    assert "| HE      | n/a (0)" in text


def test_no_images_make_a_table_that_says_so(frame, tmp_path):
    empty = frame.iloc[:0]
    write_tables(empty, {"stain": dice(empty, "stain")}, tmp_path, "Nothing")
    assert "| ALL" in (tmp_path / "summary.md").read_text(encoding="utf-8")
