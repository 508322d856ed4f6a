"""scripts/verify_bundle.py, from another folder: it passes what the zoo passes and says what the zoo would refuse."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from scripts.release import main as release
from scripts.verify_files import VerificationError, check_documents, check_files, check_large_files, check_version
from tests.cohort import ROOT, finish, start


def verify(bundle: Path, cwd: Path, *options: str) -> tuple[int, str, str]:
    return finish(start([sys.executable, str(ROOT / "scripts" / "verify_bundle.py"), str(bundle), *options], cwd=cwd))


def small_bundle(folder: Path) -> Path:
    """The files that the zoo looks at, and no code."""
    for name in (
        "configs/metadata.json",
        "configs/inference.yaml",
        "docs/README.md",
        "docs/data_license.txt",
        "LICENSE",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "models").mkdir()
    (folder / "models" / "model.pt").write_bytes(b"")
    return folder


@pytest.mark.slow
def test_the_archive_of_this_checkout_passes(tmp_path):
    assert release(["--output_dir", str(tmp_path), "--allow_changes"]) == 0
    archive = next(tmp_path.glob("*.zip"))
    status, output, errors = verify(archive, tmp_path)
    assert status == 0, errors
    assert len([line for line in output.splitlines() if line.startswith("ok ")]) == 12
    assert output.splitlines()[-1] == f"verified: {archive}"
    assert {path.name for path in tmp_path.iterdir()} == {archive.name, archive.with_suffix(".sha256").name}


def test_metadata_without_a_required_key_is_one_error(tmp_path):
    bundle = small_bundle(tmp_path / "bundle")
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    del metadata["network_data_format"]["inputs"]["image"]["dtype"]
    (bundle / "configs" / "metadata.json").write_text(json.dumps(metadata))
    status, _, errors = verify(bundle, tmp_path)
    assert status == 1
    assert "error: metadata meets the schema: failed; configs/metadata.json: lacks inputs#image#dtype" in errors
    assert "Traceback" not in errors


def test_a_given_schema_decides(tmp_path):
    bundle = small_bundle(tmp_path / "bundle")
    name = json.loads((bundle / "configs" / "metadata.json").read_text())["schema"].rpartition("/")[2]
    (tmp_path / name).write_text(json.dumps({"type": "object", "required": ["a key that no bundle has"]}))
    status, _, errors = verify(bundle, tmp_path, "--schema", str(tmp_path / name))
    assert status == 1
    assert "error: metadata meets the schema: failed" in errors
    assert "a key that no bundle has" in errors


def test_the_files_of_this_checkout_meet_the_zoo_s_demands():
    check_version(ROOT)
    check_files(ROOT)
    check_documents(ROOT)


@pytest.mark.parametrize("name", ["LICENSE", "models/model.pt", "configs/metadata.json", "configs/inference.yaml"])
def test_a_file_that_is_missing_is_named(tmp_path, name):
    bundle = small_bundle(tmp_path)
    (bundle / name).unlink()
    with pytest.raises(VerificationError, match=f"^{name}: not there$"):
        check_files(bundle)


def test_a_large_file_is_refused_unless_it_is_listed(tmp_path):
    bundle = small_bundle(tmp_path)
    with open(bundle / "models" / "model.pt", "wb") as file:
        file.truncate(26_000_000)
    with pytest.raises(VerificationError, match=r"^models/model\.pt: over 25 MB"):
        check_large_files(bundle)
    (bundle / "large_files.yml").write_text(
        "large_files: [{path: models/model.pt, url: 'https://example.org/model.pt'}]"
    )
    assert check_large_files(bundle) == "1 files"


def test_a_model_card_without_a_section_is_refused(tmp_path):
    bundle = small_bundle(tmp_path)
    card = bundle / "docs" / "README.md"
    card.write_text(card.read_text().replace("## Limitations", "## Bounds"))
    with pytest.raises(VerificationError, match="no section Limitations"):
        check_documents(bundle)
