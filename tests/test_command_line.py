"""Mistyped overrides, and errors in one line."""

import sys

import pytest

from bundle.command_line import begin_run, check_overrides, config_fingerprint
from bundle.errors import ConfigError, SlideReadError
from tests.cohort import EVALUATE, INFERENCE, ROOT, TRAIN

TRAINING = ["run", "--config_file", str(TRAIN)]


@pytest.fixture
def report(monkeypatch, capsys):
    """A function that gives what the user sees on stderr when an exception ends the run."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # put back afterwards
    begin_run([])

    def see(error: BaseException) -> str:
        sys.excepthook(type(error), error, error.__traceback__)
        return capsys.readouterr().err

    return see


def test_a_mistyped_override_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match=r"^--devcie: no such setting in .*train\.yaml; did you mean --device\?$"):
        check_overrides([*TRAINING, "--devcie", "cpu"])


def test_a_mistyped_override_like_nothing_known_is_refused_without_a_suggestion():
    with pytest.raises(ConfigError, match=r"^--xyzzy: no such setting in .*train\.yaml$"):
        check_overrides([*TRAINING, "--xyzzy", "1"])


def test_a_mistyped_nested_override_is_refused():
    with pytest.raises(ConfigError, match=r"did you mean --train#inferer\?$"):
        check_overrides([*TRAINING, "--train#infererr", "1"])


@pytest.mark.parametrize(
    "override",
    [
        ["--device", "cpu"],
        ["--device=cpu"],
        ["--output-dir", "there"],  # Fire reads - as _
        ["--epochs", "3", "--learning_rate", "1e-4"],
        ["--network_def#features", "[8,8,8,8,8,8]"],
        ["--network_def#dropout", "0.1"],  # an argument that the config leaves at its default
        ["--network_def::dropout", "0.1"],
        ["--train#dataset#length", "8"],
        ["--train#preprocessing#transforms#0#prob", "0.0"],
        ["--progress", "False"],
        ["--noprogress"],
        ["--epochs", "$2 * 3"],
        ["--initial_weights", "model.pt"],  # null in the config
        ["--batch_size", "@epochs"],
        ["--run_id", "run"],
        ["--meta_file", "metadata.json", "--logging_file", "logging.conf"],
        ["--datalist", "my --odd-- name.json"],
    ],
    ids=" ".join,
)
def test_a_known_override_passes(override):
    check_overrides([*TRAINING, *override])


@pytest.mark.parametrize("value", ["false", "no", "0", "off"])
def test_a_switch_takes_only_true_and_false(value):
    with pytest.raises(ConfigError, match=rf"^--progress {value}: must be True or False, as in .*train\.yaml$"):
        check_overrides([*TRAINING, "--progress", value])


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", "ten"), ("train#dataset#background_fraction", "x"), ("learning_rate", "1,5")]
)
def test_a_number_takes_only_a_number(name, value):
    with pytest.raises(ConfigError, match=rf"^--{name} .*: must be a number"):
        check_overrides([*TRAINING, f"--{name}", value])


def test_overrides_of_merged_configs_are_looked_up_in_all_of_them():
    both = ["run", "--config_file", f"['{TRAIN}','{EVALUATE}']"]
    check_overrides([*both, "--split", "test", "--epochs", "3"])
    with pytest.raises(ConfigError, match="did you mean --split"):
        check_overrides([*both, "--splt", "test"])


def test_without_a_config_file_nothing_is_checked():
    check_overrides(["-q", "tests", "--whatever", "1"])


def test_a_users_error_is_one_line(report):
    assert report(SlideReadError("a.svs: is\nempty")) == "error: a.svs: is empty\n"


def test_a_users_error_is_found_beneath_the_errors_of_monai(report):
    wrapped = RuntimeError("applying transform OpenSlided")
    wrapped.__cause__ = SlideReadError("a.svs: is empty")
    evaluated = RuntimeError("Failed to evaluate ConfigExpression")
    evaluated.__cause__ = wrapped
    assert report(evaluated) == "error: a.svs: is empty\n"


def test_an_error_of_a_data_loaders_worker_loses_its_traceback(report):
    from torch.utils.data import DataLoader

    loader = DataLoader(Broken(), num_workers=1, multiprocessing_context="spawn")
    with pytest.raises(SlideReadError, match="Traceback") as caught:
        next(iter(loader))
    assert report(caught.value) == "error: a.svs: tile 3 cannot be decoded\n"


class Broken:
    """A dataset whose slide is damaged."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> None:
        raise SlideReadError("a.svs: tile 3 cannot be decoded")


def test_a_bug_of_ours_keeps_its_traceback(report):
    try:
        raise ZeroDivisionError("oops")
    except ZeroDivisionError as error:
        seen = report(error)
    assert "Traceback" in seen
    assert "ZeroDivisionError: oops" in seen


def test_the_fingerprint_tells_configs_and_overrides_apart(monkeypatch):
    def of(*arguments: str) -> str | None:
        monkeypatch.setattr(sys, "argv", ["monai.bundle", *arguments])
        return config_fingerprint()

    run = of("run", "--config_file", str(INFERENCE), "--batch_size", "4")
    assert run is not None
    assert len(run) == 64
    assert of("run", "--config_file", str(INFERENCE), "--batch_size=4") == run
    assert of("run", "--batch_size", "4", "--config_file", str(INFERENCE)) == run
    assert of("run", "--config_file", str(INFERENCE), "--batch_size", "5") != run
    assert of("run", "--config_file", str(TRAIN), "--batch_size", "4") != run
    monkeypatch.chdir(ROOT / "configs")
    assert of("run", "--config_file", "inference.yaml", "--batch_size", "4") == run
    assert of("some", "program") is None
