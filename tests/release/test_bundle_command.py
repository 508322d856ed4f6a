"""`python -m bundle run`: what MONAI would answer with a traceback is one line that tells what to do."""

import runpy
import sys

import pytest

import bundle.__main__ as command
from bundle.command_line import check_config_files
from bundle.errors import ConfigError
from tests.cohort import INFERENCE, ROOT, finish, start


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    """`begin_run` sets the hook of the whole process."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "argv", ["bundle"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "error: --config_file: missing; name a config, such as --config_file configs/inference.yaml"),
        (["run", "--config_file"], "error: --config_file: missing"),
        (["run", "--slide", "a.tif"], "error: --config_file: missing"),
        (["run", "--config_file", str(INFERENCE.with_name("inferense.yaml"))], "inference.yaml?"),
        (
            ["run", "--config_file", "nowhere/a.yaml"],
            "error: nowhere/a.yaml: no such config file; the path is seen from",
        ),
        (["run", "--config_file", str(INFERENCE), "--devcie", "cpu"], "did you mean --device?"),
        (["run", "--config_file", str(INFERENCE), "--nosuch#id", "3"], "error: --nosuch#id: no such setting"),
        (
            ["run", "--config_file", str(INFERENCE), "--batch_size", "many"],
            "error: --batch_size many: must be a number",
        ),
        (["run", "--config_file", str(ROOT / "README.md")], "neither YAML nor JSON"),
    ],
)
def test_a_wrong_command_is_one_line_that_tells_what_to_do(arguments, message, capsys):
    assert command.main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_a_config_with_broken_syntax_is_named(tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text("a: [1, 2")
    with pytest.raises(ConfigError, match=r"broken\.yaml: neither YAML nor JSON"):
        check_config_files(["run", "--config_file", str(file)])


def test_without_arguments_the_usage_is_an_error_and_with_help_it_is_not(capsys):
    assert command.main([]) == 2
    assert capsys.readouterr().err.startswith("usage: python -m bundle run --config_file")
    assert command.main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage:")


@pytest.mark.parametrize(
    "arguments", [["run", "--config_file", str(INFERENCE), "--device", "cpu"], ["init_bundle", "a"]]
)
def test_a_right_command_goes_to_monai_as_it_is(arguments, monkeypatch):
    seen = []
    monkeypatch.setattr(runpy, "run_module", lambda name, **_: seen.append((name, sys.argv[1:])))
    assert command.main(arguments) == 0
    assert seen == [("monai.bundle", arguments)]


def test_it_runs_the_config(tmp_path):
    line = [sys.executable, "-m", "bundle", "run", "--config_file", str(INFERENCE), "--slide", str(tmp_path / "no.tif")]
    status, _, errors = finish(start(line))
    assert status == 1
    assert errors.splitlines()[-1].endswith("no.tif: no such slide file or folder; check the path")
    assert "Traceback" not in errors
