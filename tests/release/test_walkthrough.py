"""The walkthrough: its script runs what it prints, and the document has the numbers and pictures of the run."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from PIL import Image

from bundle.classes import GLOMERULUS_CLASSES
from bundle.data.annotations import Annotation
from bundle.errors import CellError
from bundle.geometry import Size
from bundle.hashing import file_sha256
from bundle.phantom import Phantom, PhantomSpec, write_phantom
from bundle.slide import open_slide
from scripts.check_docs import main as check_docs
from scripts.walkthrough import CELL, TEXT, Places, main, save_picture, write_walkthrough
from scripts.walkthrough_pictures import show_slide
from tests.cohort import ROOT

DOCUMENT = ROOT / "docs" / "walkthrough.md"
PICTURES = ROOT / "docs" / "images" / "walkthrough"
LINK = re.compile(r"\]\((?P<path>[^)]*\.png)\)")
PRINTED = re.compile(r"\n```text\n.*?^```\n", re.M | re.S)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with the outputs (work), document and pictures of a walkthrough over a phantom of 1.6 x 1.2 mm."""
    folder = tmp_path_factory.mktemp("walkthrough")
    spec = PhantomSpec(size=Size(800, 600), mpp=2.0, seed=3, class_fractions=(1, 1, 1), glomeruli_per_mm2=12)
    write_phantom(Phantom(spec), folder / "work" / "phantom.tif")
    places = ["--output_dir", folder / "docs" / "pictures", "--document", folder / "docs" / "page.md"]
    assert main([*map(str, places), "--work_dir", str(folder / "work")]) == 0
    return folder


def write(tmp_path: Path, *lines: str) -> str:
    """The document that a text becomes."""
    document = tmp_path / "page.md"
    write_walkthrough("\n".join([*lines, ""]), Places(tmp_path / "work", tmp_path / "pictures", document))
    return document.read_text(encoding="utf-8")


def palette_share(picture: Image.Image, rgb: tuple[int, int, int]) -> float:
    """Share of the pixels that are within 12 grey levels of a colour."""
    return float((np.abs(np.asarray(picture.convert("RGB")).astype(int) - rgb).max(axis=2) <= 12).mean())


@pytest.mark.slow
def test_every_picture_of_the_page_opens_and_no_other_is_written(made):
    linked = {p for p in LINK.findall((made / "docs" / "page.md").read_text(encoding="utf-8")) if "pictures/" in p}
    assert {Path(p).name for p in linked} == {p.name for p in (made / "docs" / "pictures").iterdir()}
    for path in linked:
        with Image.open(made / "docs" / path) as picture:
            assert picture.width >= 900
            assert np.asarray(picture.convert("L")).std() > 5  # something is drawn


@pytest.mark.slow
def test_the_numbers_of_the_page_are_those_of_the_files(made):
    page, work = (made / "docs" / "page.md").read_text(encoding="utf-8"), made / "work"
    summary = json.loads((work / "summary.json").read_text())
    for name, numbers in summary["classes"].items():
        assert f"\n{numbers['count']} {name}\n" in page
    assert summary["provenance"]["weights"]["sha256"][:12] in page
    scores = pd.read_csv(work / "evaluation" / "slides" / "per_patient.csv").set_index(["patient", "measure", "class"])
    for name in ("glomerulus", *(c.name for c in GLOMERULUS_CLASSES)):
        row = [scores.loc[("ALL", measure, name), "mean"] for measure in ("dice", "precision", "recall", "f1")]
        assert re.search(rf"^ *{name} +" + " +".join(f"{value:.3f}" for value in row).replace("nan", "NaN"), page, re.M)
    mask = tifffile.imread(work / "mask.tif")
    assert f"1 normal: {(mask == 1).mean():.2%} of the pixels" in page
    assert f"{(work / 'mask.tif').stat().st_size / 1000:.1f} kB  mask.tif" in page
    coarse = json.loads((work / "coarse" / "glomeruli.geojson").read_text())["features"]
    assert re.search(rf"--model_mpp 8 +{len(coarse)} ", page)


@pytest.mark.slow
def test_the_page_names_the_readers_folders_and_not_those_of_the_run(made):
    page = (made / "docs" / "page.md").read_text(encoding="utf-8")
    assert str(made) not in page
    assert "output/walkthrough" in page
    assert PRINTED.sub("", page).replace("](pictures/", "](images/walkthrough/") == TEXT.read_text(encoding="utf-8")


def test_the_documents_page_is_of_todays_text_and_its_commands_resolve(capsys):
    assert PRINTED.sub("", DOCUMENT.read_text(encoding="utf-8")) == TEXT.read_text(encoding="utf-8")
    assert check_docs([str(DOCUMENT)]) == 0, capsys.readouterr().err


def test_the_documents_numbers_are_of_the_committed_weights():
    sha256 = file_sha256(ROOT / "models" / "model.pt")
    assert f"sha256 {sha256[:12]}" in DOCUMENT.read_text(encoding="utf-8"), "run scripts/walkthrough.py again"


def test_the_documents_pictures_are_all_shown_and_small():
    sizes = {path.name: path.stat().st_size for path in PICTURES.iterdir()}
    assert {Path(p).name for p in LINK.findall(TEXT.read_text(encoding="utf-8")) if "walkthrough/" in p} == set(sizes)
    assert max(sizes.values()) < 250_000
    assert sum(sizes.values()) < 1_500_000


def test_the_text_has_no_result_in_its_prose():
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)|^#.*", "", CELL.sub("", TEXT.read_text(encoding="utf-8")), flags=re.M)
    assert not re.findall(r"\d+\.\d+|\d+ %", prose)


def test_what_a_cell_prints_goes_below_it_and_names_last(tmp_path):
    page = write(tmp_path, "# A", "```python", "a = 6", "```", "and", "```python", "print(a * 7)", "```", "end")
    assert page == "# A\n```python\na = 6\n```\nand\n```python\nprint(a * 7)\n```\n\n```text\n42\n```\nend\n"


def test_a_command_is_run_in_the_folder_of_this_run(tmp_path):
    script = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
    write(tmp_path, "```bash", f"{'.venv/bin/python'} -c '{script}' output/walkthrough.txt \\", "    a#b", "```")
    assert (tmp_path / "work.txt").read_text() == "a#b"


def test_a_command_that_fails_ends_the_run_and_leaves_the_document_alone(tmp_path):
    with pytest.raises(CellError, match="ended with status 3"):
        write(tmp_path, "```bash", ".venv/bin/python -c 'raise SystemExit(3)'", "```")
    assert not (tmp_path / "page.md").exists()


def test_a_picture_that_no_cell_draws_is_an_error(tmp_path):
    with pytest.raises(CellError, match="draws 0 pictures, 1 are named"):
        write(tmp_path, "```python", "a = 1", "```", "![A](images/walkthrough/a.png)")


def test_a_saved_picture_keeps_the_colours_of_the_classes_over_tissue(tmp_path):
    figure = plt.figure(figsize=(8, 4))
    noise = np.random.default_rng(0).normal((190, 120, 180), 25, (400, 800, 3)).clip(0, 255).astype(np.uint8)
    figure.figimage(noise)
    for number, glomerulus_class in enumerate(GLOMERULUS_CLASSES):
        colour = [value / 255 for value in glomerulus_class.rgb]
        figure.add_artist(plt.Rectangle((0.3 * number, 0.1), 0.1, 0.1, color=colour))
    save_picture(figure, tmp_path / "a.png")
    plt.close(figure)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
        for glomerulus_class in GLOMERULUS_CLASSES:
            assert palette_share(picture, glomerulus_class.rgb) == pytest.approx(0.01, abs=0.002)


def test_a_true_outline_is_drawn_where_the_phantom_has_its_glomerulus(tmp_path):
    phantom = Phantom(PhantomSpec(size=Size(400, 300), mpp=2.0, counts=(1, 0, 0)))
    with open_slide(write_phantom(phantom, tmp_path / "slide.tif")) as slide:
        show_slide(slide, truth=phantom.annotation, found=Annotation(()))
    figure = plt.gcf()
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255
    blue = np.argwhere((np.abs(pixels - to_rgb("#0050ff")) < 0.1).all(axis=2))
    to_um = figure.axes[0].transData.inverted()
    height = pixels.shape[0]
    drawn = to_um.transform([(x + 0.5, height - y - 0.5) for y, x in blue if y < 0.9 * height])
    plt.close(figure)
    left, top, right, bottom = (bound * 2.0 for bound in phantom.annotation.glomeruli[0].polygon.bounds)
    assert drawn.min(axis=0) == pytest.approx((left, top), abs=3)  # um, where a pixel of the picture is 0.8 um
    assert drawn.max(axis=0) == pytest.approx((right, bottom), abs=3)
