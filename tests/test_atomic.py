"""Files are whole or absent."""

import os
from pathlib import Path

import pytest

from bundle.atomic import atomic_path
from bundle.errors import OutputError


def write_and_fail(target: Path, failure: BaseException) -> None:
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"ne")
        raise failure


def test_the_file_appears_with_its_content_in_a_folder_that_is_made(tmp_path):
    target = tmp_path / "new" / "folder" / "mask.tif"
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert [p.name for p in target.parent.iterdir()] == ["mask.tif"]


def test_the_temporary_file_lies_beside_the_target_and_keeps_its_suffix(tmp_path):
    with atomic_path(str(tmp_path / "overlay.png")) as temporary:
        temporary.touch()
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".png"


@pytest.mark.parametrize("failure", [ValueError("half-way"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_no_rubbish(tmp_path, failure):
    target = tmp_path / "model.pt"
    target.write_bytes(b"old")
    with pytest.raises(type(failure)):
        write_and_fail(target, failure)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_an_output_error_that_names_the_file(tmp_path):
    target = tmp_path / "mask.tif"
    with pytest.raises(OutputError, match=r"mask\.tif: cannot be written .*No space left.*; check free space"):
        write_and_fail(target, OSError(28, "No space left on device"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"), atomic_path(tmp_path / "file" / "mask.tif"):
        pass


def test_a_writer_that_writes_nothing_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"), atomic_path(tmp_path / "mask.tif"):
        pass


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    target = tmp_path / "model.pt"
    with atomic_path(target) as first, atomic_path(target) as second:
        assert first != second
        first.write_bytes(b"1")
        second.write_bytes(b"2")
    assert target.read_bytes() == b"1"  # the outer one ends last


def test_the_bytes_are_on_disk_before_the_name_is(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (order.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("replace"), replace(*paths)))
    with atomic_path(Path(tmp_path / "a.bin")) as temporary:
        temporary.write_bytes(b"x")
    assert order == ["fsync", "replace"]
