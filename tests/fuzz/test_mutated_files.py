"""Mutated files of every kind end in a typed error or a valid result; `scripts/fuzz.py` does the same by thousands."""

import collections

import pytest

from scripts.fuzz import main, report
from tests.fuzz.targets import KINDS, Case, write_case
from tests.fuzz.trials import VALID, run_cases

COUNTS = {"slide": 150, "text": 300, "image": 20, "mask": 30, "weights": 20}


def test_mutated_files_give_a_typed_error_or_a_valid_result(tmp_path):
    cases = [Case(kind, i) for kind, count in COUNTS.items() for i in range(count)]

    outcomes = list(run_cases(cases, tmp_path / "failures", timeout_s=60))

    assert [o for o in outcomes if o.is_violation] == [], report(outcomes)
    assert {o.case for o in outcomes} == set(cases)
    for kind in ("slide", "text", "mask"):  # else the mutations are too wild to reach what lies behind the parsers
        assert collections.Counter(o.result == VALID for o in outcomes if o.case.kind == kind)[True] > COUNTS[kind] / 8
    assert max(o.memory_mb for o in outcomes) < 1000


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_valid_before_it_is_mutated_and_its_mutations_are_the_same_in_every_run(kind, tmp_path):
    for folder in ("a", "b", "out_a", "out_b"):
        (tmp_path / folder).mkdir()

    for path in KINDS[kind].write(tmp_path / "a"):
        KINDS[kind].use(path)
    for index in range(12):
        one = write_case(Case(kind, index), tmp_path / "a_valid", tmp_path / "out_a")
        other = write_case(Case(kind, index), tmp_path / "b_valid", tmp_path / "out_b")
        assert one.read_bytes() == other.read_bytes(), one.name


MISDEEDS = {
    "crash": "import os; os.abort()",
    "hang": "while True: pass",
    "untyped error": "{}['x']",
    "unclear message": "raise SlideReadError('it is broken')",
    "SlideReadError": "raise SlideReadError(f'{path}: is broken; copy it again')",
    VALID: "pass",
}


def test_a_reader_that_dies_hangs_or_takes_all_memory_is_found_and_stops_no_other(tmp_path):
    """Else the tests above would pass whatever a reader does."""
    files = {result: tmp_path / f"{index}.py" for index, result in enumerate(MISDEEDS)}
    for result, file in files.items():
        file.write_text(MISDEEDS[result])
    greedy = tmp_path / "greedy.py"
    greedy.write_text("bytearray(8 * 2**30)")
    cases = {Case("misdeed", file=file): result for result, file in files.items()}
    cases[Case("misdeed", file=greedy)] = "untyped error"

    outcomes = list(run_cases(cases, tmp_path / "failures", timeout_s=5))

    assert {o.case: o.result for o in outcomes} == cases
    assert all(o.is_violation == (o.result not in (VALID, "SlideReadError")) for o in outcomes)
    assert next(o for o in outcomes if o.case.file == greedy).detail.startswith("MemoryError")
    assert sorted(p.name for p in (tmp_path / "failures").iterdir()) == ["0.py", "1.py", "2.py", "3.py", "greedy.py"]


def test_the_command_tells_outcomes_and_runs_one_input_again(capsys):
    assert main(["--kinds", "weights", "--count", "3", "--start", "5", "--quiet"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| outcome | weights |"
    assert sum(int(line.split("|")[2]) for line in lines[2 : lines.index("")]) == 3
