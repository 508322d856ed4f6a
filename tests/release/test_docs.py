"""The documents: their commands resolve, their Python runs, and no error is without its cure."""

import inspect
import re
import sys
from pathlib import Path

import pytest

from bundle import errors
from bundle.geometry import Size
from bundle.phantom import Phantom, PhantomSpec, write_phantom
from scripts.check_docs import main as check_docs
from tests.cohort import ROOT, finish, start

KINDS = [name for name, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


def document(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "guide.md"
    path.write_text("\n".join(["```bash", *lines, "```", ""]))
    return str(path)


def test_every_command_and_file_in_the_documents_exists(capsys):
    assert check_docs([]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("python -m monai.bundle run --config_file configs/inferense.yaml", "no such"),
        ("python -m monai.bundle run --config_file configs/inference.yaml --sliide SLIDE", "did you mean --slide?"),
        ("python -m monai.bundle run --config_file configs/inference.yaml --tiles#nosuch#a 3 && true", "no program"),
        ("python -m monai.bundle run --config_file configs/train.yaml --train#datset#length 3", "--train#dataset"),
        ("python -m bundle run --slide SLIDE", "no --config_file"),
        ("python scripts/prepare_data.py --foldr SLIDES", "has no option --foldr"),
        ("python scripts/nosuch.py", "no such script"),
        ("bash scripts/install.sh opnvino", "no extra of pyproject.toml"),
        ("pip install -e '.[clutser]'", "no extra of pyproject.toml"),
        ("OMP_NUM_THREADS=1 nosuchprogram --help", "no program that is known here"),
    ],
)
def test_a_command_that_cannot_work_is_found(line, fault, tmp_path, capsys):
    assert check_docs([document(tmp_path, line)]) == 1
    assert fault in capsys.readouterr().err


@pytest.mark.parametrize(
    "lines",
    [
        [
            "python -m monai.bundle run --config_file configs/inference.yaml \\",
            "    --tiles#overlap_um 128  # a comment",
        ],
        ["python -m monai.bundle run --config_file \"['configs/train.yaml','configs/networks/NETWORK.yaml']\" ..."],
        ["# a comment alone", "bash scripts/install.sh dev && .venv/bin/python -m pytest"],
    ],
)
def test_a_command_that_works_is_let_pass(lines, tmp_path, capsys):
    assert check_docs([document(tmp_path, *lines)]) == 0, capsys.readouterr().err


def test_a_link_and_a_file_that_lead_nowhere_are_found(tmp_path, capsys):
    path = tmp_path / "guide.md"
    path.write_text("See [data](data.md), `scripts/nosuch.py`, `configs/train.yaml` and [a site](https://example.org).")
    assert check_docs([str(path)]) == 1
    errors = capsys.readouterr().err
    assert "names data.md" in errors
    assert "names scripts/nosuch.py" in errors
    assert "train.yaml" not in errors


def test_a_block_is_left_out_with_a_reason_only(tmp_path, capsys):
    path = tmp_path / "guide.md"
    path.write_text("<!-- unchecked: of another project -->\n```bash\nnosuchprogram\n```\n")
    assert check_docs([str(path), "--list"]) == 0
    assert "(unchecked: of another project)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_its_cure_in_the_troubleshooting(kind):
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {kind}\n\n(.+?)(?=^## |\Z)", text, re.M | re.S)
    assert section is not None
    assert section[1].strip()


def test_the_troubleshooting_has_no_error_that_the_code_has_not():
    headings = re.findall(r"^## (\w+Error)$", (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"), re.M)
    assert sorted(headings) == sorted(KINDS)


@pytest.mark.slow
def test_the_python_of_the_documents_runs_as_it_stands(tmp_path):
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.M | re.S
    )
    assert len(blocks) == 3
    assert all(len(block.splitlines()) <= 10 for block in blocks)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "pathology_glomeruli_segmentation").symlink_to(ROOT)
    write_phantom(Phantom(PhantomSpec(size=Size(800, 600), mpp=2.0, glomeruli_per_mm2=12)), tmp_path / "slide.tif")
    for number, block in enumerate(blocks):
        (tmp_path / f"block{number}.py").write_text(block)
    (tmp_path / "all.py").write_text("import runpy; [runpy.run_path(f'block{n}.py') for n in range(3)]")
    status, output, errors = finish(start([sys.executable, "all.py"], cwd=tmp_path))
    assert status == 0, errors
    assert any(line.isdigit() for line in output.splitlines())  # the network's parameters, beside MONAI's log
    assert {path.parent.name for path in tmp_path.glob("*/mask.tif")} == {"output", "fine"}
