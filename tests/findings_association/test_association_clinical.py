"""The clinical table: what is declared is checked, and what does not fit is named."""

import numpy as np
import pytest

from bundle.errors import FindingsError
from bundle.findings.clinical import Kind, read_clinical, read_variables

TABLE = """patient,egfr,stage,diabetes,diagnosis,months,failed
001,60.5,3a,no,IgA,12,1
002,NA,2,yes,lupus,30.5,0
003,15,4,,IgA,,
"""
DECLARED = {
    "egfr": {"kind": "continuous"},
    "ckd": {"kind": "ordinal", "column": "stage", "levels": [2, "3a", "4"]},
    "diabetes": {"kind": "binary"},
    "diagnosis": "categorical",
    "failure": {"kind": "survival", "time": "months", "event": "failed"},
}


def read(tmp_path, text=TABLE, declared=DECLARED):
    path = tmp_path / "clinical.csv"
    path.write_text(text)
    return read_clinical(path, read_variables(declared, path))


def test_every_kind_becomes_numbers_and_ids_keep_their_zeros(tmp_path):
    table = read(tmp_path)
    assert list(table.index) == ["001", "002", "003"]
    nan = np.nan
    expected = {
        "egfr": [60.5, nan, 15],
        "ckd": [1, 0, 2],
        "diabetes": [0, 1, nan],
        "diagnosis": [0, 1, 0],
        "failure": [12, 30.5, nan],
        "failure event": [1, 0, nan],
    }
    assert list(table) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(table[name], values, err_msg=name)


def test_levels_give_a_binary_variable_its_direction(tmp_path):
    text = "patient,sex\na,F\nb,m\n"
    assert list(read(tmp_path, text, {"sex": {"kind": "binary", "levels": ["M", "F"]}})["sex"]) == [1, 0]


def test_the_declaration_lies_beside_the_table(tmp_path):
    (tmp_path / "clinical.yaml").write_text("egfr: {kind: continuous}\nsex: {kind: binary, levels: ['m', 'f']}\n")
    variables = read_variables(None, tmp_path / "clinical.csv")
    assert [(v.name, v.kind, v.levels) for v in variables] == [
        ("egfr", Kind.CONTINUOUS, ()),
        ("sex", Kind.BINARY, ("m", "f")),
    ]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({}, "must map names of variables"),
        ({"egfr": {"kind": "number"}}, "variable 'egfr': kind 'number' must be one of continuous, ordinal"),
        ({"egfr": {"kind": "continuous", "levels": [1]}}, "continuous has no 'levels'; it takes column"),
        ({"dead": {"kind": "survival", "time": "months"}}, "two columns, `time` and `event`"),
        ({"sex": {"kind": "binary", "levels": [False, True]}}, "quoted, such as"),
        ({"sex": {"kind": "binary", "levels": ["a", "b", "c"]}}, "two for a binary variable"),
        ({"stage": {"kind": "ordinal", "levels": ["1", 1.0]}}, "must differ"),
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused(tmp_path, declared, message):
    with pytest.raises(FindingsError, match=message):
        read_variables(declared, tmp_path / "c.csv")


def test_a_missing_declaration_is_named(tmp_path):
    with pytest.raises(FindingsError, match=r"c\.yaml: no declaration of clinical variables"):
        read_variables(None, tmp_path / "c.csv")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("egfr,", "gfr,", r"clinical\.csv: has no column 'egfr' of variable 'egfr'; it has patient, gfr"),
        ("patient,", "id,", "has no column 'patient' of patients"),
        ("60.5", "high", "column 'egfr': patient '001' has 'high', no number"),
        ("60.5", "inf", "patient '001' has 'inf', no number"),
        ("3a", "5", "column 'stage': patient '001' has '5', not one of 2, 3a, 4"),
        ("yes", "maybe", "column 'diabetes': patient '002' has 'maybe', not one of 0, 1, no, yes"),
        ("30.5,0", "30.5,2", "column 'failed': patient '002' has '2', not one of 0, 1"),
        ("30.5", "-3", "column 'months': patient '002' has a negative time"),
        ("002", "001", "patient '001' has two rows"),
        ("002", "", "row 3 has no patient in 'patient'"),
    ],
)
def test_a_cell_that_does_not_fit_is_named(tmp_path, old, new, message):
    with pytest.raises(FindingsError, match=message):
        read(tmp_path, TABLE.replace(old, new, 1))


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FindingsError, match=r"gone\.csv: not a CSV table"):
        read_clinical(tmp_path / "gone.csv", read_variables(DECLARED, tmp_path))
