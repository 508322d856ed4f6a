"""A study runs each cell once, goes on where it was stopped, and survives a cell that fails."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bundle.errors import CellError, ConfigError, DatalistError
from bundle.study.running import run_command
from tests.cohort import ROOT
from tests.study.hand_made import NETWORKS, PER_NETWORK, Pretence, option, study, write_datalists


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """The picture takes most of a run that runs nothing."""
    monkeypatch.setattr("bundle.study.report.boxplots", lambda *_: None)


@pytest.fixture
def runner():
    return Pretence()


@pytest.fixture
def folder(tmp_path):
    write_datalists(tmp_path / "cohort")
    return tmp_path


def test_every_cell_of_every_network_runs_once(folder, runner):
    study(folder, runner).run()
    folders = [option(command, "output_dir") for command in runner.commands]
    assert len(folders) == len(set(folders)) == PER_NETWORK * len(NETWORKS)


def test_a_second_start_runs_nothing(folder, runner):
    study(folder, runner).run()
    runner.forget()
    study(folder, runner).run()
    assert runner.commands == []


def test_each_command_is_printed_so_that_it_can_be_repeated(folder, runner, capsys):
    study(folder, runner).run()
    printed = capsys.readouterr().out
    assert f"train/U-Net, in {ROOT}:\n  {sys.executable} -m monai.bundle run --config_file" in printed
    with open(folder / "out" / "cells.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == PER_NETWORK * len(NETWORKS)
    assert all(row["command"] in printed and float(row["seconds"]) >= 0 for row in rows)


def test_only_the_chosen_networks_run(folder, runner):
    study(folder, runner, only=["U-Net3+"]).run()
    assert len(runner.commands) == PER_NETWORK
    assert all("/U-Net3+/" in option(command, "output_dir") for command in runner.commands)


def test_with_no_network_chosen_only_tables_are_written(folder, runner):
    study(folder, runner, only=[]).run()
    assert runner.commands == []
    assert (folder / "out" / "study.md").is_file()


def test_an_unknown_network_is_refused(folder, runner):
    with pytest.raises(ConfigError, match=r"^only: no network 'UNet'; choose from U-Net, U-Net3\+$"):
        study(folder, runner, only=["UNet"])


def test_other_weights_run_what_depends_on_them_again(folder, runner):
    study(folder, runner).run()
    runner.forget()
    (folder / "out" / "U-Net" / "mixed" / "model.pt").write_bytes(b"others")
    study(folder, runner).run()
    assert runner.folders == ["mixed/on_normal", "mixed/on_sclerosis"]


def test_another_datalist_runs_what_depends_on_it_again(folder, runner):
    study(folder, runner, only=["U-Net"]).run()
    runner.forget()
    write_datalists(folder / "cohort", tested="another")
    study(folder, runner, only=["U-Net"]).run()
    assert runner.folders == ["normal/on_sclerosis", "mixed/on_sclerosis", "normal/on_sclerosis_physical"]


def test_another_setting_trains_anew_and_not_from_the_state_of_the_old(folder, runner):
    study(folder, runner, only=["U-Net"]).run()
    runner.forget()
    study(folder, runner, only=["U-Net"], training={"epochs": 7}).run()
    assert runner.folders == ["U-Net/normal"]  # its weights came out the same, so that the rest stays
    assert runner.found_states == []


def test_a_killed_training_goes_on_from_its_state(folder, runner):
    def killed(command, root, log):
        Path(option(command, "output_dir"), "training_state.pt").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study(folder, killed).run()
    study(folder, runner, only=["U-Net"]).run()
    assert runner.found_states == ["U-Net/normal"]


def test_weights_that_were_deleted_are_trained_anew(folder, runner):
    study(folder, runner, only=["U-Net"]).run()
    runner.forget()
    (folder / "out" / "U-Net" / "normal" / "model.pt").unlink()
    study(folder, runner, only=["U-Net"]).run()
    assert (runner.folders, runner.found_states) == (["U-Net/normal"], [])


def test_a_failed_cell_is_named_with_its_log_and_the_others_run(folder, runner):
    runner.fails = {"U-Net/mixed"}
    log = folder / "out" / "U-Net" / "mixed" / "log.txt"
    with pytest.raises(CellError) as error:
        study(folder, runner).run()
    assert str(error.value) == (
        f"finetune/U-Net: failed with exit status 3; see {log} (2 more cells failed or need it); "
        "start the study again to run what is missing"
    )
    assert log.read_text() == "here is the reason\n"
    assert len(runner.commands) == PER_NETWORK * len(NETWORKS) - 2
    text = (folder / "out" / "study.md").read_text(encoding="utf-8")
    missing = "finetune/U-Net, evaluate/U-Net/mixed/normal, evaluate/U-Net/mixed/sclerosis"
    assert f"Without a result so far: {missing}." in text


def test_after_the_cure_only_what_is_missing_runs(folder, runner):
    runner.fails = {"U-Net/mixed"}
    with pytest.raises(CellError):
        study(folder, runner).run()
    runner.forget()
    runner.fails = set()
    study(folder, runner).run()
    assert runner.folders == ["U-Net/mixed", "mixed/on_normal", "mixed/on_sclerosis"]


def test_a_command_that_ends_well_but_leaves_no_weights_has_failed(folder, runner):
    runner.leaves_nothing = {"U-Net/normal"}
    with pytest.raises(CellError, match=r"train/U-Net: ended without .*model\.pt; see .*log\.txt"):
        study(folder, runner).run()


def test_what_a_failed_cell_left_of_other_settings_is_in_no_table(folder, runner):
    study(folder, runner, only=["U-Net"]).run()
    assert "0.900 ± 0.100 (2)" in (folder / "out" / "study.md").read_text(encoding="utf-8")
    runner.fails = {"U-Net/normal"}
    with pytest.raises(CellError):
        study(folder, runner, only=["U-Net"], overrides={"seed": 1}).run()
    assert "± 0.100" not in (folder / "out" / "study.md").read_text(encoding="utf-8")


def test_a_datalist_that_is_missing_is_one_clear_error(folder, runner):
    (folder / "cohort" / "mixed.json").unlink()
    with pytest.raises(DatalistError, match=r"mixed\.json: missing; a cohort is a folder of normal\.json"):
        study(folder, runner).run()


def test_a_patient_of_training_is_not_tested(folder, runner):
    write_datalists(folder / "cohort", training="shared", tested="shared")
    with pytest.raises(DatalistError, match=r"sclerosis\.json: patient 'shared' is tested, but also in training"):
        study(folder, runner).run()
    assert runner.commands == []


def test_a_command_s_words_go_to_its_log_after_those_of_the_start_before(tmp_path):
    log = tmp_path / "log.txt"
    line = "import os, sys; print(os.getcwd()); print('wrong', file=sys.stderr); sys.exit(7)"
    assert [run_command([sys.executable, "-c", line], tmp_path, log) for _ in range(2)] == [7, 7]
    assert sorted(log.read_text().splitlines()) == sorted([str(tmp_path), "wrong"] * 2)


@pytest.mark.slow
def test_a_study_that_is_ended_ends_its_command(tmp_path):
    child = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]
    code = (
        "from pathlib import Path; from bundle.study.running import ending_on_sigterm, run_command\n"
        f"with ending_on_sigterm(): run_command({child!r}, Path('.'), Path({str(tmp_path / 'log')!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    until = time.monotonic() + 60
    while not (tmp_path / "log").exists() or not (tmp_path / "log").read_text().endswith("\n"):
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 128 + signal.SIGTERM
    assert not Path("/proc", (tmp_path / "log").read_text().strip()).exists()
