"""The server's pure parts: regions, answers, rankings, settings, requests."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from monai.bundle import ConfigParser
from shapely.geometry import MultiPolygon, Polygon, box

from bundle.classes import CLASS_NAMES, GLOBAL, NORMAL
from bundle.data.annotations import Annotation, Glomerulus, write_geojson
from bundle.data.slides import SLIDE_SUFFIXES
from bundle.errors import ConfigError, PromptError, UnknownResolutionError
from bundle.geometry import Rect
from bundle.slide import Slide, open_slide
from monailabel.engine.prompting import prompts_from_labels
from monailabel.engine.region import of_region, requested_region, seen_around
from monailabel.engine.worker import answer
from monailabel.lib.answers import annotation_of, count_by_class
from monailabel.lib.labels import SLIDES, labelled_rows
from monailabel.lib.ranking import by_both, by_sclerosis, by_uncertainty, score
from monailabel.lib.request_values import RequestError, number, whole_numbers
from monailabel.lib.settings import Settings, SettingsError, read_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def slide(tmp_path: Path) -> Slide:
    """400 x 300 px of 2 um, and a level of half that."""
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as tiff:
        shared = {"tile": (64, 64), "photometric": "rgb", "resolutionunit": "CENTIMETER"}
        tiff.write(np.full((300, 400, 3), 200, np.uint8), resolution=(5000, 5000), **shared)
        tiff.write(np.full((150, 200, 3), 200, np.uint8), resolution=(2500, 2500), subfiletype=1, **shared)
    return open_slide(path)


def geojson(tmp_path: Path, *found: tuple[Polygon | MultiPolygon, int, float, float]) -> dict:
    """A collection as the bundle writes it, of (outline, label, probability of the class, of any glomerulus)."""
    glomeruli = [
        Glomerulus(
            outline,
            label,
            CLASS_NAMES[label - 1],
            properties={"measurements": {"Probability": p, "Glomerulus probability": q}},
        )
        for outline, label, p, q in found
    ]
    write_geojson(Annotation(tuple(glomeruli)), tmp_path / "found.geojson")
    return json.loads((tmp_path / "found.geojson").read_text())


def settings_of(tmp_path: Path, **conf: str) -> Settings:
    return read_settings(ROOT / "monailabel", tmp_path, conf)


def test_a_region_is_placed_in_level_0_pixels_and_sized_in_those_of_its_level(slide: Slide) -> None:
    assert requested_region(slide, (10, 20), (30, 40), 0) == Rect(10, 20, 30, 40)
    assert requested_region(slide, (10, 20), (30, 40), 1) == Rect(10, 20, 60, 80)


def test_a_region_is_cut_to_the_slide(slide: Slide) -> None:
    assert requested_region(slide, (-10, 280), (100, 100), 0) == Rect(0, 280, 90, 20)


def test_a_size_of_zero_means_the_whole_slide(slide: Slide) -> None:
    assert requested_region(slide, (0, 0), (0, 0), 0) is None
    assert requested_region(slide, (0, 0), (-1, -1), 0) is None


def test_a_region_off_the_slide_or_of_no_level_is_refused(slide: Slide) -> None:
    with pytest.raises(ConfigError, match=r"\(400, 0\) of 10 x 10 px lies off the slide of 400 x 300 px"):
        requested_region(slide, (400, 0), (10, 10), 0)
    with pytest.raises(ConfigError, match="has no level 2; it has 0 to 1"):
        requested_region(slide, (0, 0), (10, 10), 2)


def test_the_network_sees_a_margin_around_a_region(slide: Slide) -> None:
    assert seen_around(slide, Rect(100, 50, 60, 60), 100) == Rect(50, 0, 160, 160)


def test_a_margin_needs_the_resolution(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "no_mpp.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb", tile=(64, 64))
    with open_slide(tmp_path / "no_mpp.tif") as slide, pytest.raises(UnknownResolutionError):
        seen_around(slide, Rect(0, 0, 10, 10), 100)


def test_a_glomerulus_across_two_regions_belongs_whole_to_one_of_them() -> None:
    window = Rect(50, 50, 200, 200)
    seen = Annotation((Glomerulus(box(40, 40, 80, 80), 1),))
    left = of_region(seen, window, Rect(60, 60, 60, 100))
    right = of_region(seen, window, Rect(120, 60, 60, 100))
    assert [g.polygon.bounds for found in (left, right) for g in found.glomeruli] == [(90, 90, 130, 130)]


def test_an_annotation_has_every_polygon_under_its_class(tmp_path: Path) -> None:
    parts = MultiPolygon([box(0, 0, 2, 2), box(4, 0, 6, 2)])
    found = geojson(
        tmp_path, (box(10, 10, 20, 30), 1, 0.9, 1.0), (parts, 3, 0.8, 0.9), (box(50, 50, 60, 60), 1, 0.7, 0.9)
    )
    annotation = annotation_of(found, (1, 2), (3, 4))
    contours = {element["label"]: element["contours"] for element in annotation["elements"]}
    assert annotation["labels"] == {"normal": list(NORMAL.rgb), "global_sclerosis": list(GLOBAL.rgb)}
    assert [Polygon(ring).bounds for ring in contours["normal"]] == [(10, 10, 20, 30), (50, 50, 60, 60)]
    assert [Polygon(ring).area for ring in contours["global_sclerosis"]] == [4, 4]
    assert all(ring[0] != ring[-1] for rings in contours.values() for ring in rings)
    assert count_by_class(found) == {"normal": 2, "global_sclerosis": 1}


def test_a_slide_without_glomeruli_has_an_empty_annotation(tmp_path: Path) -> None:
    assert annotation_of(geojson(tmp_path), (0, 0), (9, 9))["elements"] == []
    assert score("empty", geojson(tmp_path)).uncertainty == 0


def test_uncertainty_is_the_mean_doubt_and_sclerosis_the_expected_number(tmp_path: Path) -> None:
    square = box(0, 0, 9, 9)
    found = score("s", geojson(tmp_path, (square, 1, 0.6, 1.0), (square, 2, 0.5, 0.8), (square, 3, 0.9, 0.95)))
    assert found.glomeruli == 3
    assert found.uncertainty == pytest.approx((0.4 + 0.5 + 0.1) / 3, abs=1e-4)
    assert found.expected_sclerotic == pytest.approx(0.4 + 0.5 + 0.9)


def test_slides_are_ranked_by_either_measure_or_by_both(tmp_path: Path) -> None:
    square = box(0, 0, 9, 9)
    doubtful = score("doubtful", geojson(tmp_path, (square, 1, 0.45, 0.5)))
    sclerotic = score("sclerotic", geojson(tmp_path, *[(square, 3, 0.95, 1.0)] * 4))
    both = score("both", geojson(tmp_path, *[(square, 3, 0.6, 1.0)] * 3))
    dull = score("dull", geojson(tmp_path, (square, 1, 0.99, 1.0)))
    slides = [dull, sclerotic, both, doubtful]
    assert [s.image for s in by_uncertainty(slides)] == ["doubtful", "both", "sclerotic", "dull"]
    assert [s.image for s in by_sclerosis(slides)] == ["sclerotic", "both", "doubtful", "dull"]
    assert by_both(slides)[0].image == "both"
    assert by_both(slides)[-1].image == "dull"


def test_the_server_takes_the_same_files_for_slides_as_the_bundle() -> None:
    assert {f".{suffix}" for suffix in SLIDES} == SLIDE_SUFFIXES


def test_regions_and_whole_slides_find_glomeruli_alike() -> None:
    whole = ConfigParser.load_config_file(ROOT / "configs" / "inference.yaml")["postprocessing"]["transforms"]
    region = ConfigParser.load_config_file(ROOT / "monailabel" / "polygons.yaml")["postprocessing#transforms"]
    assert all(step in whole for step in region)
    assert [whole.index(step) for step in region] == sorted(whole.index(step) for step in region)
    assert region[0] == whole[0]


def test_settings_say_what_they_could_be(tmp_path: Path) -> None:
    assert settings_of(tmp_path).models == ("glomeruli", "seggpt")
    assert settings_of(tmp_path, models="glomeruli", zoo_source="ngc", mpp="0.25").mpp == 0.25
    for conf, message in {
        ("modles", "glomeruli"): "no such setting; known are models",
        ("models", "glomeruli,sam"): "no model 'sam'; choose of glomeruli, seggpt",
        ("mpp", "0,25"): "'0,25' is no number",
        ("checkpoint", "no.pt"): "no.pt does not exist",
    }.items():
        with pytest.raises(SettingsError, match=message):
            settings_of(tmp_path, **dict([conf]))
    with pytest.raises(SettingsError, match="not a remote datastore"):
        read_settings(ROOT / "monailabel", "http://localhost/dicom-web", {})


def test_weights_that_were_trained_on_the_studies_are_served(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert settings.served_checkpoint == ROOT / "models" / "model.pt"
    settings.trained_checkpoint.parent.mkdir(parents=True)
    settings.trained_checkpoint.touch()
    assert settings.served_checkpoint.is_relative_to(tmp_path)


def test_a_request_s_texts_are_numbers_or_refused() -> None:
    assert number({"mpp": "0.25"}, "mpp", 0, 0, 10) == 0.25
    assert number({}, "mpp", 7, 0, 10) == 7
    for bad in ("$__import__('os')", "@network", "nan", -1, 11, [1]):
        with pytest.raises(RequestError, match=r"mpp: .* must be a number from 0 to 10"):
            number({"mpp": bad}, "mpp", 0, 0, 10)
    assert whole_numbers({"size": [3.0, 4]}, "size", 2) == [3, 4]
    for bad in ([1], [1, 2.5], ["1", 2], [True, 1], "12"):
        with pytest.raises(RequestError, match="size"):
            whole_numbers({"size": bad}, "size", 2)


class Submitted:
    """A datastore with two labelled slides."""

    def get_labeled_images(self) -> list[str]:
        return ["K2_a", "K1_a"]

    def get_image_uri(self, image: str) -> str:
        return f"/slides/{image}.svs"

    def get_label_uri(self, image: str, tag: str) -> str:
        return f"/slides/labels/{tag}/{image}.geojson"

    def get_image_info(self, image: str) -> dict:
        return {"stain": "HE", "mpp": 0.5} if image == "K1_a" else {}

    def get_label_info(self, image: str, tag: str) -> dict:
        return {"complete": False, "stain": "PAS"} if image == "K1_a" else {}


def test_submitted_labels_become_rows_of_a_datalist(tmp_path: Path) -> None:
    rows = labelled_rows(Submitted(), settings_of(tmp_path, patient_regex="^[^_]+", stain="PAMS"))
    label = "/slides/labels/final/{}.geojson".format
    assert rows == [
        {"image": "/slides/K1_a.svs", "label": label("K1_a"), "patient": "K1", "stain": "PAS", "mpp": 0.5}
        | {"complete": False},
        {"image": "/slides/K2_a.svs", "label": label("K2_a"), "patient": "K2", "stain": "PAMS"},
    ]


def test_prompts_need_a_labelled_glomerulus(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="none of the 0 submitted labels holds a whole glomerulus"):
        prompts_from_labels([], 12, [], {}, str(tmp_path / "prompts.yaml"))


def test_the_engine_answers_a_bad_job_in_one_line(tmp_path: Path) -> None:
    job = {"kind": "segment", "slide": str(tmp_path / "no.svs"), "output_dir": str(tmp_path)}
    job |= {"config_files": [str(ROOT / "configs" / "inference.yaml")], "overrides": {}}
    told = answer(json.dumps(job))
    assert told["error"].startswith(f"{tmp_path / 'no.svs'}: cannot be opened")
    assert "\n" not in told["error"]
