"""The command that writes datalists, run as people run it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shapely.geometry import box

from bundle.data.annotations import Annotation, Glomerulus, write_geojson
from bundle.data.datalist import check_patients, load_annotation, read_datalist, read_items
from bundle.data.presets import preset_items
from bundle.geometry import Size
from scripts.prepare_data import main


def slide(path, color="pink"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), color).save(path)


@pytest.fixture
def folder(tmp_path):
    """Six patients with two slides each, HE and PAS, GeoJSON beside; one slide without."""
    folder = tmp_path / "slides"
    for patient in range(6):
        for stain in ("HE", "PAS"):
            slide(folder / stain / f"K{patient}_{stain}.png")
            objects = (Glomerulus(box(2, 2, 12, 12), 1, "Normal"), Glomerulus(box(20, 2, 30, 12), 3, "GGS"))
            write_geojson(Annotation(objects), folder / stain / f"K{patient}_{stain}.geojson")
    (folder / "PAS" / "K5_PAS.geojson").unlink()
    return folder


def options(folder, out, *more):
    return [
        "--folder",
        str(folder),
        "--patient_regex",
        r"(K\d)_",
        "--stain_regex",
        r"^(?P<stain>\w+)/",
        "--out",
        str(out),
        *more,
    ]


def test_help_tells_every_source(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])

    shown = capsys.readouterr().out
    assert all(word in shown for word in ("--folder", "--table", "--preset", "--patient_regex", "--crop_um"))


def test_a_folder_becomes_a_datalist_split_by_patient(folder, capsys):
    out = folder.parent / "datalist.json"

    assert main(options(folder, out, "--fractions", "0.5", "0.25", "0.25")) == 0

    items = [i for group in read_items(out).values() for i in group]
    assert len(items) == 12
    assert {i.patient for i in items} == {f"K{p}" for p in range(6)}
    assert all(i.classes == ("normal", "global_sclerosis") for i in items if i.label)
    assert [i.image.name for i in items if not i.label] == ["K5_PAS.png"]
    report = capsys.readouterr().out
    assert [line.split() for line in report.splitlines() if line.startswith("training")] == [
        ["training", "HE", "3", "3", "3", "0", "3"],
        ["training", "PAS", "3", "3", *report.split("training")[2].split()[3:6]],
    ]


def test_the_same_command_writes_the_same_datalist(folder):
    for name in ("a.json", "b.json"):
        main(options(folder, folder.parent / name, "--seed", "4"))

    assert (folder.parent / "a.json").read_text() == (folder.parent / "b.json").read_text()


def test_masks_beside_slides_are_told_by_their_ending(tmp_path):
    for i in range(3):
        slide(tmp_path / "s" / f"{i}.png")
        Image.fromarray(np.eye(30, 40, dtype=np.uint8)).save(tmp_path / "s" / f"{i}_mask.png")

    assert main(["--folder", str(tmp_path / "s"), "--stain", "HE", "--out", str(tmp_path / "d.csv")]) == 0

    found = read_datalist(tmp_path / "d.csv", "training")[0]
    assert Path(found["label"]).name == f"{Path(found['image']).stem}_mask.png"
    assert found["stain"] == "HE"


def test_masks_in_a_folder_of_their_own_are_paired_by_stem_and_read_as_told(tmp_path):
    for i in range(3):
        slide(tmp_path / "images" / f"{i}.png")
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.full((15, 20), 5, np.uint8)).save(tmp_path / "masks" / f"{i}.png")
    command = ["--folder", str(tmp_path / "images"), "--labels", str(tmp_path / "masks"), "--mpp", "0.5"]

    assert main([*command, "--mask_values", '{"5": "global_sclerosis"}', "--out", str(tmp_path / "d.json")]) == 0

    found = read_datalist(tmp_path / "d.json", "test")[0]
    assert found["classes"] == ["global_sclerosis"]
    assert (load_annotation(found, Size(40, 30), None).rasterize(0, 0, 20, 15, 2.0) == 3).all()


def test_a_table_gives_patients_stains_and_splits(folder, capsys):
    rows = [f"PAS/K{p}_PAS.png,case {p},PAS,0.25,{'training' if p else 'test'},old" for p in range(3)]
    (folder / "t.csv").write_text("\n".join(["image,case,stain,mpp,split,scanner", *rows]))

    assert main(["--table", str(folder / "t.csv"), "--patient_column", "case", "--out", str(folder / "d.json")]) == 0

    assert [i["patient"] for i in read_datalist(folder / "d.json", "training")] == ["case 1", "case 2"]
    assert read_datalist(folder / "d.json", "test")[0]["mpp"] == 0.25
    assert "columns not used: scanner" in capsys.readouterr().err


def test_a_table_without_splits_is_split_by_patient(folder):
    rows = [f"PAS/K{p}_PAS.png,p{p},PAS" for p in range(4)]
    (folder / "t.csv").write_text("\n".join(["image,patient,stain", *rows]))

    assert main(["--table", str(folder / "t.csv"), "--out", str(folder / "d.json"), "--fractions", "3", "1", "0"]) == 0

    assert len(read_datalist(folder / "d.json", "training")) == 3


@pytest.mark.parametrize(
    ("damage", "more", "message"),
    [
        (lambda f: (f / "HE" / "K1_HE.geojson").write_text("{"), [], r"K1_HE.geojson: is no JSON"),
        (lambda f: shutil.copy(f / "HE" / "K1_HE.geojson", f / "HE" / "K1_HE.json"), [], "has 2 annotations"),
        (lambda f: None, ["--patient_regex", "X(.)"], "--patient_regex 'X(.)' does not match"),
        (lambda f: None, ["--patient_regex", "("], "is no regular expression"),
        (lambda f: (f / "HE" / "K1_HE.png").write_bytes(b"no slide"), [], "K1_HE.png"),
        (shutil.rmtree, [], "no such folder"),
    ],
)
def test_a_mistake_ends_the_command_with_one_line_and_no_datalist(folder, capsys, damage, more, message):
    damage(folder)
    out = folder.parent / "d.json"

    assert main(options(folder, out, *more)) == 1

    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_datalists_are_put_together_and_keep_their_splits_unless_told_otherwise(folder, tmp_path):
    first, second, both, anew = (tmp_path / name for name in ("first.json", "second.csv", "both.json", "anew.json"))
    assert main(options(folder, first)) == 0
    slide(tmp_path / "lone.png")
    (tmp_path / "lone.csv").write_text("image,patient,stain,split\nlone.png,Z,PAS,validation\n")
    assert main(["--table", str(tmp_path / "lone.csv"), "--out", str(second)]) == 0

    merge = ["--merge", str(first), str(second)]
    assert main([*merge, "--out", str(both)]) == 0
    assert main([*merge, "--fractions", "0", "0", "1", "--out", str(anew)]) == 0

    parts, whole = read_items(first), read_items(both)
    assert {split: len(items) - len(parts[split]) for split, items in whole.items()} == {
        "training": 0,
        "validation": 1,
        "test": 0,
    }
    assert {split: len(items) for split, items in read_items(anew).items()} == {
        "training": 0,
        "validation": 0,
        "test": 13,
    }


def test_a_preset_without_its_folder_says_so(tmp_path, capsys):
    assert main(["--preset", "crops", "--out", str(tmp_path / "d.json")]) == 1
    assert main(["--preset", "crops", "--root", str(tmp_path), "--out", str(tmp_path / "d.json")]) == 1
    assert capsys.readouterr().err.count("--root") == 2


PRESET_COUNTS = {
    "regions": ("regions", {"training": (34, 7 + 2), "validation": (14, 4)}),
    "fields": ("fields", {"training": (40, 2), "validation": (14, 1)}),
    "crops": ("crops", {"training": (484 - 118, 15), "validation": (118, 5)}),
    "stains": ("stains", {"test": (38, 38)}),
    "kidney_slides": ("slides/kidney", {"validation": (3, 3)}),
}


@pytest.mark.parametrize("preset", sorted(PRESET_COUNTS))
def test_every_preset_gives_the_splits_that_its_data_set_states(shared_data, preset):
    root, expected = PRESET_COUNTS[preset]
    found = preset_items(preset, shared_data / root)

    check_patients(found, preset)
    assert {s: (len(items), len({i.patient for i in items})) for s, items in found.items()} == expected
    assert all(i.image.is_file() and i.label.is_file() for items in found.values() for i in items)


def test_the_stain_preset_runs_to_a_datalist_with_every_class(shared_data, tmp_path):
    command = ["--preset", "stains", "--root", str(shared_data / "stains"), "--mpp", "0.5"]

    assert main([*command, "--out", str(tmp_path / "d.json")]) == 0

    found = read_datalist(tmp_path / "d.json", "test")
    assert {i["stain"] for i in found} == {"MASSON", "PAMS", "PAS"}
    assert {name for i in found for name in i["classes"]} == {"normal", "global_sclerosis"}
    assert json.loads((tmp_path / "d.json").read_text())["test"][0]["mpp"] == 0.5


def test_a_region_mask_lies_on_the_tissue_of_its_image(shared_data):
    item = next(
        i for i in preset_items("regions", shared_data / "regions")["training"] if i.slide == "HE_I_1_S_2_ROI_1"
    )
    with Image.open(item.image) as image:
        width, height = image.size

    annotation = load_annotation(item.as_dict(), Size(width, height), None)

    with Image.open(item.label) as image:
        mask = np.asarray(image.resize((width, height), Image.Resampling.NEAREST)) > 0
    ours = annotation.rasterize(0, 0, width, height, 1.0) > 0
    assert (mask & ours).sum() * 2 / (mask.sum() + ours.sum()) > 0.98
    assert len(annotation.glomeruli) < 60  # of 965 with the specks
