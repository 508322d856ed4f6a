"""The command that compares two models."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "compare_models.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def tables(tmp_path):
    """Seven patients, a slide each; the first model is 0.1 better on all."""
    for name, dice in (("first", 0.8), ("second", 0.7)):
        rows = [(f"s{i}", "", f"p{i}", "PAS", dice + i / 100) for i in range(7)]
        columns = ["slide", "crop", "patient", "stain", "dice_normal"]
        pd.DataFrame(rows, columns=columns).to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path / "first.csv", tmp_path / "second.csv"


def test_difference_and_p_are_printed(tables):
    found = run(*tables)
    assert found.returncode == 0, found.stderr
    cells = [cell.strip() for cell in found.stdout.splitlines()[-1].split("|")[1:-1]]
    assert cells[0] == "dice_normal"
    assert [float(cell) for cell in cells[1:]] == pytest.approx([0.1, 2 / 2**7, 7, 7], abs=1e-4)


@pytest.mark.parametrize("spoil", ["missing", "no table", "measure"])
def test_bad_input_is_one_line_of_error(tables, spoil):
    first, second = tables
    options = ["--measure", "hd95"] if spoil == "measure" else []
    if spoil == "missing":
        second.unlink()
    if spoil == "no table":
        second.write_text("a,b\n1,2\n")
    found = run(first, second, *options)
    assert found.returncode == 1
    assert found.stderr.startswith("error: ")
    assert len(found.stderr.strip().splitlines()) == 1
