"""The phantom cohort: the numbers of the study's table of data, and files that other programs read."""

import json
import runpy
import sys
from collections import Counter, defaultdict
from pathlib import Path

import openslide
import pytest
import shapely
import tifffile

from bundle.data.datalist import load_annotation, read_datalist
from bundle.errors import ConfigError
from bundle.geometry import Size
from bundle.phantom import PhantomSpec
from bundle.phantom.cohort import SCLEROSIS_SIZE_UM, plan_study, write_datalists, write_slide
from bundle.phantom.layout import lay_out
from tests.cohort import ROOT, finish, start

COARSE = 40
"""Pixels of 10 and 20 um: the layout, which is what counts here, is that of every scale."""
SETS = ("normal", "sclerosis", "mixed")
NORMAL, SEGMENTAL, GLOBAL = "normal", "segmental_sclerosis", "global_sclerosis"


def write(folder: Path, **plan: float) -> Path:
    study = plan_study(**{"scale": COARSE, **plan})
    for slide in study.slides:
        write_slide(slide, folder)
    write_datalists(study, folder)
    return folder


SCRIPT = ROOT / "scripts" / "phantom_cohort.py"


def run_main(*arguments: str) -> int:
    """The command in this process."""
    return runpy.run_path(str(SCRIPT))["main"](list(arguments))


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("study"))


def rows(folder: Path, name: str) -> list[dict]:
    """The items of a datalist, read as plain JSON, with their split."""
    sections = json.loads((folder / f"{name}.json").read_text())
    return [{**row, "split": split} for split, items in sections.items() for row in items]


def features(folder: Path, row: dict) -> list[dict]:
    return json.loads((folder / row["label"]).read_text())["features"]


def class_of(feature: dict) -> str:
    return feature["properties"]["classification"]["name"]


def glomeruli(folder: Path, name: str) -> dict[tuple[str, str], Counter]:
    """Glomeruli by class, for each stain and split, counted in the GeoJSON files."""
    counts: dict[tuple[str, str], Counter] = defaultdict(Counter)
    for row in rows(folder, name):
        counts[row["stain"], row["split"]].update(map(class_of, features(folder, row)))
    return counts


def slides(folder: Path, name: str) -> Counter:
    """Slides by stain and split."""
    return Counter((row["stain"], row["split"]) for row in rows(folder, name))


@pytest.mark.parametrize(("stain", "train", "test"), [("HE", 194, 27), ("PAS", 149, 61), ("PAMS", 133, 77)])
def test_the_normal_set_has_the_slides_and_glomeruli_of_the_study(study, stain, train, test):
    assert [slides(study, "normal")[stain, split] for split in ("training", "validation", "test")] == [9, 3, 3]
    counts = glomeruli(study, "normal")
    assert counts[stain, "training"] + counts[stain, "validation"] == {NORMAL: train}
    assert counts[stain, "test"] == {NORMAL: test}


@pytest.mark.parametrize(("stain", "count", "segmental", "whole"), [("HE", 19, 48, 23), ("PAS", 18, 56, 20)])
def test_the_sclerosis_set_has_the_slides_and_glomeruli_of_the_study(study, stain, count, segmental, whole):
    assert slides(study, "sclerosis")[stain, "test"] == count
    assert glomeruli(study, "sclerosis")[stain, "test"] == {SEGMENTAL: segmental, GLOBAL: whole}
    assert {row["split"] for row in rows(study, "sclerosis")} == {"test"}


def test_glomeruli_are_spread_over_the_slides_as_evenly_as_can_be(study):
    numbers = defaultdict(list)
    for name in ("normal", "sclerosis"):
        for row in rows(study, name):
            counts = Counter(map(class_of, features(study, row)))
            for wanted in (NORMAL,) if name == "normal" else (SEGMENTAL, GLOBAL):
                numbers[row["stain"], row["split"] == "test", wanted].append(counts[wanted])
    assert len(numbers) == 10
    for on_slides in numbers.values():
        assert max(on_slides) - min(on_slides) <= 1


def test_patients_are_as_in_the_study_and_each_is_in_one_split(study):
    patients = defaultdict(Counter)
    for row in rows(study, "normal"):
        patients[row["split"]][row["patient"], row["stain"]] += 1
    names = {split: {patient for patient, _ in found} for split, found in patients.items()}
    assert {split: len(found) for split, found in names.items()} == {"training": 3, "validation": 1, "test": 1}
    assert len(set.union(*names.values())) == 5
    assert set(sum(patients.values(), Counter()).values()) == {3}, "slides of a patient and stain"

    stains = defaultdict(set)
    for row in rows(study, "sclerosis"):
        stains[row["patient"]].add(row["stain"])
    assert len(stains) == 33
    assert sum(found == {"HE", "PAS"} for found in stains.values()) == 4
    everybody = [{row["patient"] for row in rows(study, name) if row["split"] != "validation"} for name in SETS]
    assert sum(map(len, everybody)) == len(set.union(*everybody)), "no patient in two sets"


def test_the_sets_differ_in_resolution_by_two_and_in_size_as_glass_does(study):
    def mpp_of(row: dict) -> float:
        with openslide.OpenSlide(study / row["image"]) as slide:
            mpp = float(slide.properties["openslide.mpp-x"])
            size_um = tuple(side * mpp for side in slide.dimensions)
        with tifffile.TiffFile(study / row["image"]) as file:
            per_cm, unit = file.pages[0].tags["XResolution"].value, file.pages[0].tags["ResolutionUnit"].value
        assert unit == 3, "centimetres"
        assert 1e4 / (per_cm[0] / per_cm[1]) == mpp
        assert size_um == pytest.approx((3600, 1800) if "normal/" in row["image"] else (4000, 2200))
        return mpp

    found = {name: {mpp_of(row) for row in rows(study, name) if row["split"] != "validation"} for name in SETS}
    assert found == {"normal": {0.25 * COARSE}, "sclerosis": {0.5 * COARSE}, "mixed": {0.5 * COARSE}}


def test_mixed_is_twelve_crops_of_one_slide_each_with_its_glomerulus_and_100_um_around(study):
    crops = [row for row in rows(study, "mixed") if row["split"] == "training"]
    assert len(crops) == 12
    assert {(row["image"], row["patient"], row["stain"]) for row in crops} == {("mixed/HE_M1.tif", "M1", "HE")}
    on_slide = features(study, crops[0])
    assert Counter(map(class_of, on_slide)) == {NORMAL: 6, SEGMENTAL: 6, GLOBAL: 6}

    mpp = 0.5 * COARSE
    width, height = (side / mpp for side in SCLEROSIS_SIZE_UM)
    expected = {}
    for number, feature in enumerate(on_slide):
        left, top, right, bottom = shapely.geometry.shape(feature["geometry"]).buffer(100 / mpp).bounds
        expected[number] = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
    shown = []
    for x, y, wide, high in (row["region"] for row in crops):
        window = (x, y, x + wide, y + high)
        shown += [number for number, box in expected.items() if box == pytest.approx(window, abs=1)]
    assert len(set(shown)) == len(shown) == 12
    assert Counter(class_of(on_slide[number]) for number in shown) == {NORMAL: 4, SEGMENTAL: 4, GLOBAL: 4}


def test_the_crops_of_mixed_load_with_their_annotation_and_it_is_validated_on_normals_patient(study):
    for item in read_datalist(study / "mixed.json", "training"):
        region = item["region"]
        window = shapely.box(0, 0, region.width, region.height)
        annotation = load_annotation(item, Size(region.width, region.height), None)
        assert any(window.contains(glomerulus.polygon) for glomerulus in annotation.glomeruli)
        assert {glomerulus.name for glomerulus in annotation.glomeruli} == set(item["classes"])
    validated = read_datalist(study / "mixed.json", "validation")
    assert validated == read_datalist(study / "normal.json", "validation")
    assert len(validated) == 9


def test_no_two_slides_are_the_same_kidney():
    seeds = [slide.spec.seed for seed in (0, 1) for slide in plan_study(seed).slides]
    assert len(set(seeds)) == len(seeds) == 2 * 83


@pytest.mark.parametrize("seed", range(1, 6))
def test_the_glomeruli_of_other_seeds_fit_too(seed):
    for slide in plan_study(seed).slides:
        found = Counter(structure.label for structure in lay_out(slide.spec).structures)
        assert (found[1], found[2], found[3]) == slide.spec.counts


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.77])
def test_a_part_of_the_cohort_keeps_every_stain_and_split_and_the_glomeruli_of_a_slide(share):
    part, whole = plan_study(slides=share), plan_study()
    assert len(part.slides) < len(whole.slides)
    for small, full in ((part.normal, whole.normal), (part.sclerosis, whole.sclerosis)):
        assert {(s.spec.stain, s.split) for s in small} == {(s.spec.stain, s.split) for s in full}
        for stain, tested in {(s.spec.stain, s.split == "test") for s in full}:
            few, all_ = (
                [sum(s.spec.counts) for s in group if (s.spec.stain, s.split == "test") == (stain, tested)]
                for group in (small, full)
            )
            assert sum(few) / len(few) == pytest.approx(sum(all_) / len(all_), abs=1)
    names = [slide.name for slide in part.slides]
    assert len(set(names)) == len(names)


def test_the_same_command_twice_writes_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name, slides=0.01)
    files = sorted(file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*") if file.is_file())
    assert len(files) == 3 * 12 + 3
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_a_repeated_command_paints_only_what_is_missing_or_was_painted_otherwise(tmp_path, capsys):
    arguments = ["--output_dir", str(tmp_path), "--scale", str(COARSE), "--slides", "0.01", "--quiet"]
    assert run_main(*arguments) == 0
    said = capsys.readouterr()
    assert "12 slides written, 0 were there already" in said.out
    assert said.err == ""
    written = {file: file.read_bytes() for file in tmp_path.rglob("*.*")}
    times = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.tif")}

    image, truth, unfinished = sorted(times)[:3]
    image.unlink()
    truth.with_suffix(".geojson").unlink()
    # As a run leaves it that was killed while it painted the slide anew.
    unfinished.with_suffix(".spec.json").write_bytes(b"")

    assert run_main(*arguments) == 0
    assert "3 slides written, 9 were there already" in capsys.readouterr().out
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*")} == written
    kept = {file for file, time in times.items() if file.stat().st_mtime_ns == time}
    assert kept == set(times) - {image, truth, unfinished}
    assert run_main(*arguments, "--seed", "1") == 0
    assert "12 slides written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--slides", "0"], "slides must be above 0 and at most 1; got 0"),
        (["--slides", "nan"], "slides must be above 0"),
        (["--scale", "0.1"], "scale must be 0.2 to 40; got 0.1"),
        (["--seed", "-1"], "seed must not be negative; got -1"),
        ([], "blocked/normal"),
    ],
)
def test_a_wrong_argument_is_one_line(tmp_path, capsys, wrong, said):
    (tmp_path / "blocked").write_text("a file where the folder should be")
    assert run_main("--output_dir", str(tmp_path / "blocked"), "--quiet", *wrong) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1


def test_the_command_runs_by_itself_and_explains_itself():
    status, output, errors = finish(start([sys.executable, str(SCRIPT), "--help"]))
    assert status == 0, errors
    for option in ("--output_dir", "--seed", "--scale", "--slides"):
        assert option in output


def test_exact_numbers_of_glomeruli_are_placed_or_refused():
    spec = PhantomSpec(Size(1800, 900), mpp=2.0, counts=(20, 3, 2))
    found = Counter(structure.label for structure in lay_out(spec).structures)
    assert (found[1], found[2], found[3]) == (20, 3, 2)
    with pytest.raises(ConfigError, match=r"only \d+ of 600 glomeruli fit; take a larger size or lower counts"):
        lay_out(PhantomSpec(Size(1800, 900), mpp=2.0, counts=(600, 0, 0)))
    with pytest.raises(ConfigError, match="counts must be three numbers"):
        PhantomSpec(Size(1800, 900), counts=(1, -1, 0))
