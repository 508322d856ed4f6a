"""The runner of the documents' commands: what runs, what does not, what fails, and what `check_docs.py --run` tells."""

import zipfile
from pathlib import Path

import pytest

from scripts.check_docs import main as check_docs

DOCUMENT = """
```bash
python -m json.tool configs/metadata.json pretty_1.json
srun python -m zipfile -c pretty.zip pretty_*.json && bash scripts/install.sh
PYTHONUTF8=1 python -m json.tool nosuch.json
```
<!-- unchecked: of another project -->
```bash
nosuchprogram
```
"""


@pytest.mark.slow
def test_commands_run_in_order_and_one_that_fails_is_shown_with_its_output(tmp_path: Path, capfd):
    document = tmp_path / "guide.md"
    document.write_text(DOCUMENT)
    kept = tmp_path / "kept"
    assert check_docs(["--run", "--output_dir", str(kept), str(document)]) == 1
    output = capfd.readouterr().out
    states = [line[:8].strip() for line in output.splitlines() if "guide.md:" in line]
    assert states == ["ran", "ran", "not run", "FAILED", "not run"]
    assert "without srun: there is no SLURM" in output
    assert "it installs an environment" in output
    assert "of another project" in output
    assert "No such file or directory: 'nosuch.json'" in output
    assert "2 ran, 2 not run, 1 FAILED in 1 documents" in output
    (folder,) = (path for path in kept.iterdir() if path.name.endswith("guide_md"))
    with zipfile.ZipFile(folder / "pretty.zip") as archive:  # in the document's copy, where the first command wrote
        assert archive.namelist() == ["pretty_1.json"]


def test_an_output_folder_in_use_is_refused(tmp_path: Path, capfd):
    document = tmp_path / "guide.md"
    document.write_text(DOCUMENT)
    assert check_docs(["--run", "--output_dir", str(tmp_path), str(document)]) == 1
    assert "holds files already; give a new folder" in capfd.readouterr().err
