"""scripts/release.py: the archive holds the tracked files as they are, and is refused where the zoo would refuse it."""

import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml

from bundle.evaluation.calibration_lock import read_lock
from scripts import release
from scripts.release import MAX_BYTES, NAME, main

ROOT = Path(__file__).resolve().parents[2]


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small committed bundle, version 1.2.3."""
    folder = tmp_path / "checkout"
    files = {
        "LICENSE": "Apache",
        "configs/metadata.json": json.dumps({"version": "1.2.3", "changelog": {"1.2.3": "first"}}),
        "bundle/__init__.py": '__version__ = "1.2.3"\n',
        "models/model.pt": "weights",
        "tests/test_a.py": "",
        ".gitignore": "dist/",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "-q")
    git(folder, "add", "--all")
    git(folder, "commit", "-qm", "a")
    return folder


def build(folder: Path, *options: str) -> Path:
    assert main(["--root", str(folder), "--output_dir", str(folder / "dist"), *options]) == 0
    return folder / "dist" / f"{NAME}_v1.2.3.zip"


def names(archive: Path) -> set[str]:
    return {name.removeprefix(f"{NAME}/") for name in zipfile.ZipFile(archive).namelist()}


def test_the_archive_of_this_checkout_holds_its_files_byte_for_byte(tmp_path):
    assert main(["--output_dir", str(tmp_path), "--allow_changes"]) == 0
    archive = zipfile.ZipFile(next(tmp_path.glob(f"{NAME}_v*.zip")))
    found = {name.removeprefix(f"{NAME}/"): archive.read(name) for name in archive.namelist()}
    assert {"LICENSE", "configs/inference.yaml", "models/model.pt", "docs/data_license.txt"} <= found.keys()
    assert not any(name.startswith(("tests/", ".")) for name in found)
    assert [name for name, content in found.items() if (ROOT / name).read_bytes() != content] == []


def test_the_metadata_names_the_weights_by_their_hash():
    listed = json.loads((ROOT / "configs" / "metadata.json").read_text())["weights_sha256"]
    paths = ["models/model.pt", "models/seggpt_small/model.safetensors"]
    assert listed == {path: hashlib.sha256((ROOT / path).read_bytes()).hexdigest() for path in paths}


def test_the_metadata_s_thresholds_are_those_locked_to_the_weights():
    triage = json.loads((ROOT / "configs" / "metadata.json").read_text())["triage"]
    lock = read_lock(ROOT / triage["file"])
    assert lock.weights_sha256 == hashlib.sha256((ROOT / "models" / "model.pt").read_bytes()).hexdigest()
    assert (triage["rule_out"], triage["rule_in"]) == (lock.thresholds.rule_out, lock.thresholds.rule_in)
    assert triage["temperature"] == lock.settings["temperature"]


def test_only_tracked_files_that_the_zoo_gets_are_packed(checkout):
    (checkout / "models" / "untracked.pt").write_text("")
    assert names(build(checkout)) == {"LICENSE", "configs/metadata.json", "bundle/__init__.py", "models/model.pt"}


def test_equal_files_make_an_equal_archive(checkout):
    first = build(checkout).read_bytes()
    (checkout / "LICENSE").touch()
    assert build(checkout).read_bytes() == first


def test_the_sums_are_those_of_archive_and_files(checkout):
    archive = build(checkout)
    sums = dict(reversed(line.split("  ")) for line in archive.with_suffix(".sha256").read_text().splitlines())
    assert sums[archive.name] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert sums[f"{NAME}/models/model.pt"] == hashlib.sha256(b"weights").hexdigest()
    assert len(sums) == 5


def test_a_large_file_is_named_by_url_in_place_of_being_packed(checkout, monkeypatch):
    monkeypatch.setattr(release, "MAX_BYTES", 100)
    (checkout / "models" / "model.pt").write_bytes(b"x" * 101)
    archive = build(checkout, "--allow_changes", "--large_files_url", "https://example.org/w/")
    assert "models/model.pt" not in names(archive)
    (entry,) = yaml.safe_load(zipfile.ZipFile(archive).read(f"{NAME}/large_files.yml"))["large_files"]
    assert entry == {
        "path": "models/model.pt",
        "url": "https://example.org/w/model.pt",
        "hash_val": hashlib.sha256(b"x" * 101).hexdigest(),
        "hash_type": "sha256",
    }


def test_a_large_file_without_a_url_is_an_error(checkout, capsys):
    with open(checkout / "models" / "model.pt", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert main(["--root", str(checkout), "--output_dir", str(checkout / "dist"), "--allow_changes"]) == 1
    assert "models/model.pt: over 25 MB; upload it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("configs/metadata.json", '{"version": "1.2.3", "changelog": {}}', "changelog says nothing of version 1.2.3"),
        ("configs/metadata.json", '{"version": "1.2", "changelog": {"1.2": "a"}}', "must be three numbers"),
        ("configs/metadata.json", "{", "cannot be read"),
        ("bundle/__init__.py", '__version__ = "1.2.4"\n', "__version__ is not 1.2.3"),
        ("LICENSE", "other", "not committed: LICENSE"),
    ],
)
def test_what_the_zoo_would_refuse_is_refused_in_one_line(checkout, capsys, file, text, message):
    (checkout / file).write_text(text)
    assert main(["--root", str(checkout), "--output_dir", str(checkout / "dist")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (checkout / "dist").exists()


def test_a_folder_that_is_no_checkout_is_refused(tmp_path, capsys):
    (tmp_path / "configs").mkdir()
    (tmp_path / "bundle").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text('{"version": "1.2.3", "changelog": {"1.2.3": "a"}}')
    (tmp_path / "bundle" / "__init__.py").write_text('__version__ = "1.2.3"')
    assert main(["--root", str(tmp_path)]) == 1
    assert "git ls-files failed" in capsys.readouterr().err
