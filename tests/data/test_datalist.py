"""Datalists: what is written is read back, and every mistake is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shapely.geometry import box

from bundle.data.annotations import Annotation, Glomerulus, write_geojson
from bundle.data.datalist import DatalistItem, load_annotation, read_datalist, read_items, write_datalist
from bundle.data.splitting import split_by_patient
from bundle.errors import AnnotationError, DatalistError
from bundle.geometry import Rect, Size


def image_at(path, width=8, height=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), "pink").save(path)
    return path


def write(path, **splits):
    path.write_text(json.dumps(splits), encoding="utf-8")
    return path


def item(folder, name="a.png", patient="p", **values):
    return DatalistItem(image=image_at(folder / name), patient=patient, stain="PAS", **values)


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_a_datalist_is_read_back_as_it_was_written(tmp_path, suffix):
    full = item(
        tmp_path / "slides",
        label=image_at(tmp_path / "masks" / "a.png"),
        classes=("normal", "global_sclerosis"),
        mpp=0.25,
        label_mpp=1.0,
        region=Rect(1, 2, 3, 4),
        slide="s, 1",
        complete=False,
        class_map={"Tubule": "ignore"},
        mask_values={"1": "normal", "#ff0000": "global_sclerosis"},
        min_area_px=20.5,
    )
    bare = item(tmp_path / "slides", "b.png", patient="001")
    path = tmp_path / "lists" / f"datalist{suffix}"

    write_datalist({"training": [full], "test": [bare]}, path)

    assert read_items(path)["training"] == [full]
    assert read_datalist(path, "test") == [
        {"image": str(bare.image), "patient": "001", "stain": "PAS", "slide": "b", "complete": True}
    ]
    assert str(tmp_path) not in path.read_text()


def test_a_datalist_moves_with_its_folder(tmp_path):
    write_datalist({"training": [item(tmp_path / "here")]}, tmp_path / "here" / "datalist.json")
    (tmp_path / "here").rename(tmp_path / "there")

    found = read_datalist(tmp_path / "there" / "datalist.json", "training")

    assert found[0]["image"] == str(tmp_path / "there" / "a.png")


def test_texts_beside_the_splits_of_a_monai_datalist_are_no_matter(tmp_path):
    image_at(tmp_path / "a.png")
    row = {"image": "a.png", "patient": "p", "stain": "HE"}
    path = write(tmp_path / "d.json", name="kidney", labels={"0": "background"}, numTraining=1, training=[row])

    assert read_datalist(path, "training")[0]["stain"] == "HE"


def test_a_patient_in_two_splits_is_an_error_that_names_patient_and_splits(tmp_path):
    rows = [{"image": f"{i}.png", "patient": "P7", "stain": "HE"} for i in range(2)]
    path = write(tmp_path / "d.json", training=rows[:1], validation=rows[1:])

    with pytest.raises(DatalistError, match=r"d\.json: patient 'P7' is in training and validation"):
        read_datalist(path, "training")
    with pytest.raises(DatalistError, match="'p' is in test and training"):
        write_datalist({"training": [item(tmp_path)], "test": [item(tmp_path, "b.png")]}, tmp_path / "e.json")
    assert not (tmp_path / "e.json").exists()


GOOD = {"image": "a.png", "patient": "p", "stain": "HE"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (GOOD | {"lable": "x"}, r"training\[0\]: unknown key 'lable'; known are image"),
        ({"image": "a.png", "stain": "HE"}, r"training\[0\]: has no 'patient'"),
        (GOOD | {"patient": 7}, "patient is 7; it must be text"),
        (GOOD | {"mpp": 0}, "mpp is 0; it must be a positive number"),
        (GOOD | {"mpp": True}, "mpp is True"),
        (GOOD | {"region": [0, 0, 5]}, "region is"),
        (GOOD | {"region": [0, 0, 5, 0]}, "region is"),
        (GOOD | {"complete": "no"}, "true or false"),
        (GOOD | {"classes": "normal"}, "a list of names"),
        (GOOD | {"class_map": ["x"]}, "a table of names"),
        (GOOD | {"min_area_px": -1}, "min_area_px is -1"),
        (GOOD | {"image": "gone.png"}, r"gone\.png does not exist"),
        (GOOD | {"label": "gone.xml"}, r"gone\.xml does not exist"),
        ("a.png", "no list of items"),
    ],
)
def test_a_mistake_in_an_item_is_named(tmp_path, row, message):
    image_at(tmp_path / "a.png")

    with pytest.raises(DatalistError, match=message):
        read_datalist(write(tmp_path / "d.json", training=[row]), "training")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("d.json", "[]", "is no datalist"),
        ("d.json", "{", "cannot be read"),
        ("d.json", '{"testing": []}', "no split 'testing'"),
        ("d.json", '{"validation": []}', "'training' is empty"),
        ("d.csv", "split,image,patient,stain\ntrain,a.png,p,HE\n", "line 2: no split 'train'"),
        ("d.csv", "split,image,patient,stain,mpp\ntraining,a.png,p,HE,0,25\n", "mpp is 0"),
        ("d.csv", "split,image,patient,stain,mpp\ntraining,a.png,p,HE,fine\n", "line 2: mpp is 'fine'"),
        ("d.yaml", "", "a datalist is a .json or .csv file"),
    ],
)
def test_a_malformed_datalist_is_an_error_that_names_it(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)

    with pytest.raises(DatalistError, match=rf"{name}.*{message}"):
        read_datalist(tmp_path / name, "training")


def test_a_missing_datalist_or_a_mistyped_split_is_an_error(tmp_path):
    with pytest.raises(DatalistError, match=r"gone\.json"):
        read_datalist(tmp_path / "gone.json", "training")
    with pytest.raises(DatalistError, match="no split 'train'"):
        read_datalist(write(tmp_path / "d.json", training=[GOOD]), "train")


# --- annotations of items ---


def mask_at(path, mask):
    Image.fromarray(np.asarray(mask, np.uint8)).save(path)
    return path


@pytest.mark.parametrize("scales", [{"mpp": 0.5, "label_mpp": 2.0}, {"label_mpp": 2.0}, {}])
def test_a_mask_is_scaled_to_the_slide_by_the_two_resolutions_or_sizes(tmp_path, scales):
    mask = np.kron([[0, 1], [0, 0]], np.ones((10, 10)))
    label = mask_at(tmp_path / "m.png", mask)

    annotation = load_annotation({"image": "a", "label": str(label), **scales}, Size(80, 80), 0.5)

    assert annotation.glomeruli[0].polygon.bounds == (40, 0, 80, 40)
    np.testing.assert_array_equal(annotation.rasterize(0, 0, 20, 20, 4.0), mask)


def test_a_mask_of_another_slide_is_an_error_that_names_both_sizes(tmp_path):
    label = mask_at(tmp_path / "m.png", np.ones((100, 300)))

    with pytest.raises(AnnotationError, match=r"m\.png: mask of 300 x 100 px.*800 x 800"):
        load_annotation({"label": str(label)}, Size(800, 800), None)
    with pytest.raises(AnnotationError, match=r"check `mpp` and `label_mpp`"):
        load_annotation({"label": str(label), "mpp": 1, "label_mpp": 3}, Size(300, 100), None)


def test_the_annotation_of_a_region_is_relative_to_the_region(tmp_path):
    write_geojson(Annotation((Glomerulus(box(10, 20, 30, 40), 1, "Normal"),)), tmp_path / "a.geojson")
    mask = np.zeros((50, 50), np.uint8)
    mask[20:40, 10:30] = 1
    slide = image_at(tmp_path / "a.png", 50, 50)
    region = Rect(4, 14, 30, 30)
    masks = [mask_at(tmp_path / "m.png", mask), mask_at(tmp_path / "n.png", mask[::2, ::2])]

    for label in (tmp_path / "a.geojson", *masks):
        found = load_annotation({"image": str(slide), "label": str(label), "region": region}, Size(30, 30), None)

        np.testing.assert_array_equal(found.rasterize(0, 0, 15, 15, 2.0), mask[14:44:2, 4:34:2])


def test_an_item_says_how_its_annotation_is_read(tmp_path):
    label = mask_at(tmp_path / "m.png", [[1, 0, 7, 7]])
    values = {
        "label": str(label),
        "mask_values": {"1": "Podocyte", "7": "Sclerotic"},
        "class_map": {"podocyte": "normal"},
    }

    assert load_annotation(values, None, None).rasterize(0, 0, 4, 1, 1.0).tolist() == [[1, 0, 3, 3]]
    partly = load_annotation(values | {"complete": False, "min_area_px": 2}, None, None)
    assert partly.rasterize(0, 0, 4, 1, 1.0).tolist() == [[255, 255, 3, 3]]


def test_an_item_without_label_has_no_annotation_to_load():
    with pytest.raises(DatalistError, match=r"a\.svs: has no annotation"):
        load_annotation({"image": "a.svs"}, None, None)


# --- splits ---


@st.composite
def cohorts(draw):
    sizes = draw(st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["HE", "PAS"])), min_size=3, max_size=20))
    return [
        DatalistItem(Path(f"{p}_{s}.svs"), f"p{p}", stain)
        for p, (count, stain) in enumerate(sizes)
        for s in range(count)
    ]


@given(items=cohorts(), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_splits_hold_every_slide_once_and_every_patient_whole_and_none_is_empty(items, seed):
    splits = split_by_patient(items, {"training": 0.6, "validation": 0.2, "test": 0.2}, seed)

    assert sorted(str(i.image) for group in splits.values() for i in group) == sorted(str(i.image) for i in items)
    patients = [{i.patient for i in group} for group in splits.values()]
    assert sum(map(len, patients)) == len(set().union(*patients))
    assert all(patients)


def test_each_stain_and_class_is_split_in_proportion():
    cohort = [
        DatalistItem(Path(f"{stain}{p}.svs"), f"{stain}{p}", stain, classes=("normal", *extra))
        for stain, patients in (("HE", 40), ("PAS", 20), ("TRI", 10))
        for p in range(patients)
        for extra in [("global_sclerosis",) if p % 5 == 0 else ()]
    ]

    splits = split_by_patient(cohort, {"training": 0.8, "validation": 0.2}, seed=3)

    by_stain = {stain: sum(i.stain == stain for i in splits["validation"]) for stain in ("HE", "PAS", "TRI")}
    assert by_stain == {"HE": 8, "PAS": 4, "TRI": 2}
    assert sum("global_sclerosis" in i.classes for i in splits["validation"]) == pytest.approx(14 * 0.2, abs=1)


def test_a_split_depends_on_the_seed_alone():
    cohort = [DatalistItem(Path(f"{p}.svs"), f"p{p}", "HE") for p in range(30)]

    assert split_by_patient(cohort, seed=1) == split_by_patient(cohort, seed=1)
    assert split_by_patient(cohort, seed=1) != split_by_patient(cohort, seed=2)
    one = {i.patient for i in split_by_patient(cohort, seed=1)["test"]}
    assert {i.patient for i in split_by_patient(cohort[::-1], seed=1)["test"]} == one


def test_too_few_patients_and_senseless_fractions_are_errors():
    cohort = [DatalistItem(Path("a.svs"), "p", "HE")]

    with pytest.raises(DatalistError, match="1 patients cannot fill 3 splits"):
        split_by_patient(cohort)
    with pytest.raises(DatalistError, match="fractions"):
        split_by_patient(cohort, {"training": 1.5, "test": -0.5})
