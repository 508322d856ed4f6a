"""Several evaluations in one table."""

import pandas as pd
import pytest

from bundle.evaluation.tables import summarise, write_tables
from scripts.results_table import main


@pytest.fixture
def folders(tmp_path):
    """Two networks on two stains; the second is 0.1 better."""
    found = []
    for name, dice in (("a", 0.5), ("b", 0.6)):
        rows = [(f"s{i}", "", f"p{i}", stain, dice + i / 100) for i, stain in enumerate(("PAS", "PAS", "HE"))]
        frame = pd.DataFrame(rows, columns=["slide", "crop", "patient", "stain", "dice_glomerulus"])
        folder = tmp_path / name / "on_regions"
        write_tables(frame, {"stain": summarise(frame, "stain", ["dice"])}, folder / "slides", "Slides")
        found.append(folder)
    return found


def test_a_row_a_stain_and_network_with_all_last(folders, tmp_path):
    out = tmp_path / "table.md"
    assert main([*map(str, folders), "--out", str(out)]) == 0
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.read_text().splitlines()]
    assert rows[0] == ["data set", "network", "stain", "glomerulus"]
    assert [row[:3] for row in rows[2:]] == [
        ["regions", network, stain] for stain in ("HE", "PAS", "ALL") for network in ("a", "b")
    ]
    assert rows[2][3] == "0.520 (1)"
    assert rows[-1][3].startswith("0.610 ± 0.010 [0.600, 0.620] (3)")


@pytest.mark.parametrize("options", [["--level", "crops"], ["--measure", "pooled_f1"]])
def test_what_is_not_there_is_one_line_of_error(folders, options, capsys):
    assert main([str(folders[0]), *options]) == 1
    assert capsys.readouterr().err.startswith("error: ")
