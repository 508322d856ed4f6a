"""From slides and annotations to the crop store, as a user runs it, on phantoms and on real slides."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from shapely import affinity
from shapely.geometry import Point

from bundle.classes import CLASS_NAMES, GLOBAL, IGNORE_INDEX, NORMAL
from bundle.data.annotations import Annotation, Glomerulus, read_annotation, write_geojson
from bundle.errors import CohortError, ConfigError, DatalistError
from bundle.findings.entities import COLUMNS, Entities, entity_id
from bundle.findings.entities_crop import Cropper
from bundle.findings.entities_run import EntityExtraction
from bundle.findings.entities_source import EntitySource
from bundle.findings.slide_table import SlideTable
from bundle.findings.store import CropStore
from bundle.outputs.glomeruli import PROBABILITY
from bundle.slide import open_slide
from tests.cohort import ROOT, command, finish, start, write_cohort

SPLITS = {"training": [("a", "PAS"), ("a", "PAMS")], "test": [("b", "HE")]}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three phantom slides, 1 µm/px, about nine glomeruli each."""
    return write_cohort(tmp_path_factory.mktemp("cohort"), SPLITS)


@pytest.fixture
def own(cohort: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    shutil.copytree(cohort.parent, tmp_path / "own")
    return tmp_path / "own" / cohort.name


def extract(datalist: Path, out: Path, crop_px: int = 96, crop_mpp: float = 3.0, **source: object) -> CropStore:
    entities = Entities(Cropper(crop_px, crop_mpp))
    EntityExtraction(EntitySource(datalist, **source), entities, SlideTable(), out, 16, progress=False).run()
    return CropStore.open(out)


def truth(datalist: Path, split: str, number: int) -> Annotation:
    rows = json.loads(datalist.read_text())
    return read_annotation(datalist.parent / rows[split][number]["label"])


@pytest.fixture(scope="module")
def store(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> CropStore:
    return extract(cohort, tmp_path_factory.mktemp("crops"))


def test_the_command_writes_a_row_and_a_crop_for_every_glomerulus(cohort: Path, tmp_path: Path) -> None:
    line = command(ROOT / "configs/entities.yaml", datalist=cohort, output_dir=tmp_path / "CROPS", crop_px=64)
    status, _, errors = finish(start(line))
    assert status == 0, errors
    crops = CropStore.open(tmp_path / "CROPS")
    annotations = [truth(cohort, "training", 0), truth(cohort, "training", 1), truth(cohort, "test", 0)]
    assert len(crops) == sum(len(a.glomeruli) for a in annotations)
    assert tuple(crops.table.columns) == COLUMNS
    assert crops.read(0)[0].shape == (64, 64, 3)


def test_without_a_datalist_the_error_says_what_to_give() -> None:
    with pytest.raises(DatalistError, match="give --datalist"):
        EntitySource(None).items()


def test_an_unknown_split_is_an_error_that_names_those_that_there_are(cohort: Path) -> None:
    with pytest.raises(DatalistError, match="choose one of training, validation, test"):
        EntitySource(cohort, split="testing").items()


def test_rows_are_those_of_the_annotations(cohort: Path, store: CropStore) -> None:
    for slide, (split, number) in {"training_0": ("training", 0), "test_2": ("test", 0)}.items():
        rows = store.table[store.table["slide"] == slide]
        glomeruli = truth(cohort, split, number).glomeruli
        assert list(rows["class"]) == [CLASS_NAMES[g.label - 1] for g in glomeruli]
        assert list(rows["area_um2"]) == pytest.approx([g.polygon.area * 4 for g in glomeruli])
        centres = [g.polygon.centroid for g in glomeruli]
        assert list(rows["centroid_x"]) == pytest.approx([c.x for c in centres])
        assert list(rows["centroid_y"]) == pytest.approx([c.y for c in centres])
        assert (rows["mpp"] == 2.0).all()


def test_a_crop_shows_the_glomerulus_in_the_middle_and_its_mask_covers_its_area(cohort: Path, store: CropStore) -> None:
    glomeruli = truth(cohort, "training", 0).glomeruli
    with open_slide(cohort.parent / "training_0.tif") as slide:
        for row, glomerulus in enumerate(glomeruli):
            image, mask = store.read(row)
            assert set(np.unique(mask)) == {0, glomerulus.label}
            inside = (mask > 0).sum() * 9
            assert inside == pytest.approx(glomerulus.polygon.area * 4 * store.table["crop_coverage"][row], rel=0.02)
            left, top, right, bottom = glomerulus.polygon.bounds
            x, y = (left + right) / 2 - 72, (top + bottom) / 2 - 72
            assert (image == slide.read_region(x, y, 96, 96, 3.0)).all()


def test_slides_have_their_counts_and_density(cohort: Path, store: CropStore) -> None:
    slides = store.slides.set_index("slide")
    assert list(slides["glomeruli"]) == list(store.table.groupby("slide").size().loc[slides.index])
    assert (slides["glomeruli_per_mm2_tissue"] == slides["glomeruli"] / slides["tissue_mm2"]).all()
    assert slides["tissue_mm2"].between(0.3, 1.93).all()  # of 1.6 x 1.2 mm
    assert slides["percent_global_sclerosis_low"].lt(slides["percent_global_sclerosis"]).all()


def test_a_second_run_adds_what_is_new_and_nothing_twice(own: Path, tmp_path: Path) -> None:
    rows = json.loads(own.read_text())
    own.write_text(json.dumps({"training": rows["training"][:1]}))
    first = extract(own, tmp_path / "out").table
    own.write_text(json.dumps(rows))
    second = extract(own, tmp_path / "out").table
    pd.testing.assert_frame_equal(second.iloc[: len(first)], first)
    assert second["entity_id"].is_unique
    assert second["slide"].nunique() == 3


def test_a_slide_that_fails_is_named_and_the_others_are_done(own: Path, tmp_path: Path) -> None:
    (own.parent / "training_1.tif").write_bytes(b"no slide")
    with pytest.raises(CohortError, match=r"1 of 3 slides failed: .*training_1\.tif"):
        extract(own, tmp_path / "out")
    assert set(CropStore.open(tmp_path / "out").table["slide"]) == {"training_0", "test_2"}


def test_an_annotation_that_changed_needs_another_folder(own: Path, tmp_path: Path) -> None:
    extract(own, tmp_path / "out")
    write_geojson(Annotation(truth(own, "test", 0).glomeruli[1:]), own.parent / "test_2.geojson")
    with pytest.raises(ConfigError, match=r"test_2.*another output folder"):
        extract(own, tmp_path / "out")


def test_the_bundle_s_own_polygons_replace_the_labels_and_bring_their_confidence(own: Path, tmp_path: Path) -> None:
    for slide in ("training_0", "training_1", "test_2"):
        found = [replace(g, properties={"measurements": {PROBABILITY: 0.5 + 0.01 * i}}) for i, g in enumerate(discs(3))]
        (tmp_path / "found" / slide).mkdir(parents=True)
        write_geojson(Annotation(tuple(found)), tmp_path / "found" / slide / "glomeruli.geojson")
    table = extract(own, tmp_path / "out", predictions=tmp_path / "found").table
    assert len(table) == 9
    assert sorted(set(table["confidence"])) == pytest.approx([0.5, 0.51, 0.52])


def discs(count: int) -> list[Glomerulus]:
    """Normal and globally sclerotic glomeruli by turns, 100 px across."""
    labels = [NORMAL, GLOBAL] * count
    return [Glomerulus(Point(100 + 150 * i, 200).buffer(50), labels[i].index, labels[i].name) for i in range(count)]


def geometry(folder: Path, *objects: Glomerulus, **item: object) -> Path:
    """A datalist of one slide that is not there."""
    write_geojson(Annotation(objects), folder / "a.geojson")
    row = {"image": "a.svs", "label": "a.geojson", "patient": "p", "stain": "PAS", **item}
    (folder / "list.json").write_text(json.dumps({"test": [row]}))
    return folder / "list.json"


def test_outlines_without_a_slide_are_measured_where_it_is_asked_for(tmp_path: Path) -> None:
    ellipse = affinity.rotate(affinity.scale(Point(500, 500).buffer(1, quad_segs=64), 200, 100), 30)
    datalist = geometry(tmp_path, Glomerulus(ellipse, NORMAL.index, NORMAL.name), mpp=0.5)
    (row,) = extract(datalist, tmp_path / "out", geometry_only=True).table.to_dict("records")
    assert row["area_um2"] == pytest.approx(np.pi * 100 * 50, rel=0.01)
    assert (row["feret_max_um"], row["feret_min_um"]) == pytest.approx((200, 100), rel=0.01)
    assert row["eccentricity"] == pytest.approx(np.sqrt(0.75), rel=0.01)
    assert np.isnan([row["od_mean"], row["glcm_contrast"], row["crop_coverage"]]).all()
    with pytest.raises(CohortError, match=r"a\.svs"):
        extract(datalist, tmp_path / "other")


def test_outlines_without_a_slide_need_a_resolution(tmp_path: Path) -> None:
    datalist = geometry(tmp_path, *discs(2))
    with pytest.raises(CohortError, match="--mpp"):
        extract(datalist, tmp_path / "out", geometry_only=True)
    assert len(extract(datalist, tmp_path / "out", geometry_only=True, mpp=0.25)) == 2


def test_drawn_tufts_give_a_ratio_to_the_capsule(tmp_path: Path) -> None:
    tuft = Glomerulus(Point(100, 200).buffer(40), IGNORE_INDEX, "Tuft")
    datalist = geometry(tmp_path, *discs(2), tuft, mpp=1.0, class_map={"Tuft": "ignore"})
    table = extract(datalist, tmp_path / "out", geometry_only=True).table
    assert table["tuft_capsule_ratio"][0] == pytest.approx(0.64)
    assert np.isnan(table["tuft_capsule_ratio"][1])


def test_a_glomerulus_drawn_twice_counts_once(tmp_path: Path) -> None:
    datalist = geometry(tmp_path, *discs(2), discs(1)[0], mpp=1.0)
    with pytest.warns(UserWarning, match="drawn twice"):
        assert len(extract(datalist, tmp_path / "out", geometry_only=True)) == 2


def test_two_halves_of_a_slide_hold_each_glomerulus_once_in_coordinates_of_the_slide(own: Path, tmp_path: Path) -> None:
    (item,) = json.loads(own.read_text())["test"]
    halves = [{**item, "region": region} for region in ([0, 0, 400, 600], [400, 0, 400, 600])]
    own.write_text(json.dumps({"test": halves}))
    table = extract(own, tmp_path / "out").table
    whole = [entity_id("test_2", g.polygon) for g in truth(own, "test", 0).glomeruli]
    assert sorted(table["entity_id"]) == sorted(whole)
    assert table["centroid_x"].max() > 400


def test_the_same_slide_twice_is_refused(own: Path, tmp_path: Path) -> None:
    (item,) = json.loads(own.read_text())["test"]
    own.write_text(json.dumps({"test": [item, item]}))
    with pytest.raises(DatalistError, match="tell them apart"):
        extract(own, tmp_path / "out")


def test_an_id_depends_on_slide_and_outline_and_not_on_how_it_is_written() -> None:
    square = shapely.box(10, 10, 50, 40)
    same = [shapely.reverse(square), shapely.Polygon([(50, 40), (10, 40), (10, 10), (50, 10)])]
    assert {entity_id("s", each) for each in same} == {entity_id("s", square)}
    assert entity_id("s", affinity.translate(square, 0.001)) == entity_id("s", square)
    others = [entity_id("t", square), entity_id("s", affinity.translate(square, 0.02))]
    assert len({entity_id("s", square), *others}) == 3


def test_globally_sclerotic_glomeruli_of_real_annotations_are_small(shared_data: Path, tmp_path: Path) -> None:
    files = [shared_data / "annotations/qupath" / f"TPATH0{number}.geojson" for number in (49, 50)]
    rows = [{"image": f"{f.stem}.svs", "label": str(f), "patient": f.stem, "stain": "unknown"} for f in files]
    (tmp_path / "list.json").write_text(json.dumps({"test": rows}))
    table = extract(tmp_path / "list.json", tmp_path / "out", geometry_only=True, mpp=1.0).table
    assert len(table) == 63
    median = table.groupby("class")["equivalent_diameter_um"].median()
    assert median[GLOBAL.name] < 0.6 * median[NORMAL.name]


def test_a_real_slide_shows_fewer_nuclei_in_globally_sclerotic_glomeruli(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "slides/kidney"
    item = {"image": str(folder / "HE_I_1_S_3.tif"), "label": str(folder / "HE_I_1_S_3.geojson")}
    (tmp_path / "list.json").write_text(json.dumps({"test": [{**item, "patient": "I_1", "stain": "HE"}]}))
    store = extract(tmp_path / "list.json", tmp_path / "out", crop_px=320, crop_mpp=1.0)
    assert len(store) == 42
    median = store.table.groupby("class")[["nuclei_per_mm2", "pale_fraction"]].median()
    assert (median.loc[GLOBAL.name] < median.loc[NORMAL.name]).all()
    assert 2 < store.slides["tissue_mm2"][0] < 45  # of 44.7 mm²
