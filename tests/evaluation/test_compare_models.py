"""The command that compares two models."""

import sys

import pandas as pd
import pytest

from tests.cohort import ROOT, finish, start


def run(*arguments: object) -> tuple[int | None, str, str]:
    return finish(start([sys.executable, str(ROOT / "scripts" / "compare_models.py"), *map(str, arguments)]))


@pytest.fixture
def tables(tmp_path):
    """Seven patients, a slide each; the first model is 0.1 better on all."""
    for name, dice in (("first", 0.8), ("second", 0.7)):
        rows = [(f"s{i}", "", f"p{i}", "PAS", dice + i / 100) for i in range(7)]
        columns = ["slide", "crop", "patient", "stain", "dice_normal"]
        pd.DataFrame(rows, columns=columns).to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path / "first.csv", tmp_path / "second.csv"


def test_difference_and_p_are_printed(tables):
    status, output, errors = run(*tables)
    assert status == 0, errors
    cells = [cell.strip() for cell in output.splitlines()[-1].split("|")[1:-1]]
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
    status, _, errors = run(first, second, *options)
    assert status == 1
    assert errors.startswith("error: ")
    assert len(errors.strip().splitlines()) == 1
