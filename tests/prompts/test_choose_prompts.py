"""The command that chooses prompts, as a user runs it, on phantoms and on real crops and fields."""

import hashlib
import io
import json
import sys
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
import yaml
from PIL import Image
from shapely.geometry import box, mapping, shape

from bundle.data.datalist import DatalistItem, read_datalist, write_datalist
from bundle.data.presets import preset_items
from bundle.geometry import Rect
from bundle.prompts import prompt_candidates, read_prompt_set
from scripts.choose_prompts import main
from tests.cohort import ROOT, finish, start, write_cohort


def run(*arguments):
    """Exit status, output and errors of the command."""
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        status = main([str(argument) for argument in arguments])
    return status, output.getvalue(), errors.getvalue()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Four small phantom slides of two stains, with the exact truth."""
    splits = {"training": [("P1", "HE"), ("P2", "PAS"), ("P3", "HE")], "test": [("P4", "PAS")]}
    return write_cohort(tmp_path_factory.mktemp("cohort"), splits)


@pytest.fixture(scope="module")
def chosen(cohort):
    """Six prompts by colour and texture, as the command wrote them; and what it printed."""
    out = cohort.parent / "chosen" / "prompts.yaml"
    status, output, errors = run("--datalist", cohort, "--count", 6, "--mpp", 8, "--tile_px", 32, "--out", out)
    assert status == 0, errors
    assert "features: 100%" in errors
    return out, output


def test_the_set_has_two_of_each_class_and_both_stains(chosen):
    prompts = read_prompt_set(chosen[0], tile_px=32, mpp=8.0, balanced=True)
    assert set(prompts.class_counts.values()) == {2}
    assert Counter(s.stain for s in prompts.sources) == {"HE": 3, "PAS": 3}
    assert "P4" not in {s.patient for s in prompts.sources}


def test_every_id_is_in_the_annotation_and_its_glomerulus_in_the_middle(chosen):
    prompts = read_prompt_set(chosen[0], tile_px=32, mpp=8.0)
    for source, label in zip(prompts.sources, prompts.labels, strict=True):
        features = json.loads(source.label.read_text())["features"]
        (feature,) = [f for f in features if f["id"] == source.glomerulus_id]
        assert feature["properties"]["classification"]["name"] == source.class_name
        assert features[source.glomerulus_number - 1] is feature
        middle = shape(feature["geometry"]).centroid
        assert middle.x == pytest.approx(source.region.x + source.region.width / 2, abs=1)
        assert middle.y == pytest.approx(source.region.y + source.region.height / 2, abs=1)
        assert label[16, 16] == {"normal": 1, "segmental_sclerosis": 2, "global_sclerosis": 3}[source.class_name]


def test_tiles_at_the_slides_resolution_are_what_pillow_crops(chosen):
    prompts = read_prompt_set(chosen[0], tile_px=48, mpp=2.0)
    for source, tile in zip(prompts.sources, prompts.images, strict=True):
        at = source.region
        with Image.open(source.image) as slide:
            cropped = np.asarray(slide.convert("RGB").crop((at.x, at.y, at.x + at.width, at.y + at.height)))
        # Two JPEG decoders differ by a few grey levels.
        np.testing.assert_allclose(tile.transpose(1, 2, 0).astype(int), cropped, atol=6)


def test_file_and_report_tell_where_the_prompts_come_from(chosen, cohort):
    written = yaml.safe_load(chosen[0].read_text())
    assert written["provenance"]["features"] == "colour and texture"
    assert written["provenance"]["datalist_sha256"] == hashlib.sha256(cohort.read_bytes()).hexdigest()
    for number, row in enumerate(written["prompts"], start=1):
        image = chosen[0].parent / row["image"]
        assert row["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
        (line,) = [line for line in chosen[1].splitlines() if line.split()[:1] == [str(number)]]
        assert line.split()[1:5] == [row["class"], row["stain"], row["patient"], image.name]
        assert line.split()[-1] == row["glomerulus"]
    assert "farthest candidate from its nearest prompt" in chosen[1]


def test_the_picture_shows_tiles_and_outlines_in_the_classes_colours(chosen):
    picture = np.asarray(Image.open(chosen[0].with_suffix(".png")).convert("RGB")).astype(int)
    assert min(picture.shape[:2]) > 300
    for rgb in ((0, 160, 70), (255, 165, 0), (200, 30, 60)):
        assert (np.abs(picture - rgb).sum(-1) < 60).sum() > 200


def test_the_same_command_chooses_the_same(chosen, cohort, tmp_path):
    assert run("--datalist", cohort, "--count", 6, "--mpp", 8, "--tile_px", 32, "--out", tmp_path / "p.yaml")[0] == 0
    again, before = (yaml.safe_load(p.read_text())["prompts"] for p in (tmp_path / "p.yaml", chosen[0]))
    assert [row["glomerulus"] for row in again] == [row["glomerulus"] for row in before]


def test_a_quota_a_random_choice_and_its_seed(cohort, tmp_path):
    ids = []
    for seed, name in ((0, "a.yaml"), (1, "b.yaml")):
        quota = '{"normal": 1, "global_sclerosis": 4}'
        status, output, errors = run(
            *("--datalist", cohort, "--method", "random", "--quota", quota, "--seed", seed, "--quiet"),
            *("--tile_px", 32, "--mpp", 8, "--out", tmp_path / name),
        )
        assert (status, errors) == (0, "")
        prompts = read_prompt_set(tmp_path / name, tile_px=32, mpp=8.0)
        assert prompts.class_counts == {"normal": 1, "segmental_sclerosis": 0, "global_sclerosis": 4}
        ids.append({s.glomerulus_id for s in prompts.sources})
    assert ids[0] != ids[1]
    assert "farthest" not in output


def test_features_of_the_committed_networks_encoder(cohort, tmp_path):
    out = tmp_path / "p.yaml"
    status, _, errors = run(
        *("--datalist", cohort, "--split", "test", "--count", 3, "--checkpoint", ROOT / "models" / "model.pt"),
        *("--tile_px", 64, "--out", out),
    )
    assert status == 0, errors
    assert yaml.safe_load(out.read_text())["provenance"]["features"] == "model.pt"
    assert {s.patient for s in read_prompt_set(out, tile_px=64, mpp=4.0).sources} == {"P4"}


def test_help_names_every_option():
    _, output, _ = finish(start([sys.executable, "scripts/choose_prompts.py", "--help"]))
    for option in ("--datalist", "--method {informative,random}", "--checkpoint", "--tile_px", "--mpp", "--quota"):
        assert option in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--count", 500], "500 are asked for, the pool holds"),
        (["--out", "prompts.json"], "is a .yaml file"),
        (["--split", "validation"], "the split 'validation' is empty"),
        (["--min_area_um2", 1e9], "lower --min_area_um2"),
        (["--checkpoint", "none.pt"], "none.pt: no such weight file"),
        (["--checkpoint", ROOT / "models" / "model.pt", "--layer", "down_9"], "has no layer 'down_9'"),
        (["--mpp", 0], "mpp must be > 0"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(cohort, tmp_path, options, message):
    out = tmp_path / "p.yaml"
    status, _, errors = run("--datalist", cohort, "--out", out, "--quiet", *options)
    assert status == 1
    (line,) = errors.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not list(tmp_path.iterdir())


@pytest.fixture
def region_items(tmp_path):
    """A slide of 2 um per pixel with five glomeruli, seen through two regions."""
    Image.fromarray(np.full((200, 400, 3), 99, np.uint8)).save(tmp_path / "a.png")
    boxes = {
        "in the first": (20, 20, 60, 60),
        "in both": (120, 20, 180, 60),  # the first region cuts a sixth of it
        "cut by both": (120, 120, 230, 160),
        "small": (300, 20, 310, 30),
        "off": (220, 170, 260, 199),
    }
    features = [
        {"type": "Feature", "id": id, "geometry": mapping(box(*b)), "properties": {"classification": {"name": "gn"}}}
        for id, b in boxes.items()
    ]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    image, label = tmp_path / "a.png", tmp_path / "a.geojson"
    regions = Rect(0, 0, 170, 165), Rect(110, 0, 100, 165), Rect(290, 0, 50, 50)
    items = [DatalistItem(image, "P", "HE", label=label, mpp=2.0, region=region) for region in regions]
    write_datalist({"training": items}, tmp_path / "datalist.json")
    return read_datalist(tmp_path / "datalist.json", "training")


def test_candidates_are_whole_glomeruli_once_each_in_the_region_that_shows_most(region_items):
    pool = prompt_candidates(region_items)
    assert {e.glomerulus: e.item.region.x for e in pool} == {"in the first": 0, "in both": 110}


def test_smaller_and_cut_glomeruli_are_candidates_on_demand(region_items):
    pool = prompt_candidates(region_items, min_area_um2=100, min_visible=0.5)
    assert {e.glomerulus for e in pool} == {"in the first", "in both", "cut by both", "small"}


def test_real_crops_and_fields_make_a_set_of_both_classes(shared_data, tmp_path, caplog):
    crops, fields = (preset_items(name, shared_data / name) for name in ("crops", "fields"))
    write_datalist({"training": [*crops["training"][::8], *fields["training"][::12]]}, tmp_path / "datalist.json")
    out = tmp_path / "prompts.yaml"

    status, output, errors = run("--datalist", tmp_path / "datalist.json", "--out", out)

    assert status == 0, errors
    prompts = read_prompt_set(out, tile_px=128, mpp=4.0)
    assert prompts.class_counts == {"normal": 6, "segmental_sclerosis": 0, "global_sclerosis": 6}
    assert prompts.images.shape == (12, 3, 128, 128)
    for source, label in zip(prompts.sources, prompts.labels, strict=True):
        index = {"normal": 1, "global_sclerosis": 3}[source.class_name]
        area_um2 = (label == index).sum() * 16
        assert 2000 < area_um2 < 400_000
        with Image.open(source.image) as image:
            assert (label != 255).sum() * 16 <= image.width * image.height * source.mpp**2 * 1.05
    assert "white and ignored" in caplog.text  # crops of 200 um in tiles of 512
    assert "6 of " in output
