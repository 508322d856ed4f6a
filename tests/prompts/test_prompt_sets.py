"""Prompt-set files, read as a user writes them; tiles checked against Pillow's own crops."""

import hashlib
import json
import logging
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image
from shapely.geometry import box, mapping

from bundle.errors import ConfigError, PromptError
from bundle.geometry import Rect
from bundle.prompts import PromptSet, PromptSource, read_entries, read_prompt_set, write_prompt_set

MPP = 2.0
BOXES = {
    "id-normal": ("Normal", (100, 60, 140, 110)),
    "id-global": ("Sclerotic", (220, 20, 250, 50)),
    "id-normal-2": ("Normal", (10, 180, 50, 230)),
    "id-nothing": ("unclassified", (60, 200, 70, 210)),
}
"""Class and left, top, right, bottom in pixels of the slide, 300 x 240."""
SLIDE = {"image": "slides/a.png", "label": "slides/a.geojson", "mpp": MPP, "stain": "PAS", "patient": "P1"}
CROP = {"image": "crop.png", "label": "crop_mask.png", "mask_values": {">127": "global_sclerosis"}, "mpp": 1.0}


@pytest.fixture
def folder(tmp_path):
    """A slide with GeoJSON in a sub-folder, and a crop of one glomerulus, 200 um wide, with a mask."""
    (tmp_path / "slides").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (240, 300, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "slides" / "a.png")
    write_annotation(tmp_path, BOXES.items())
    Image.fromarray(pixels[:200, :200]).save(tmp_path / "crop.png")
    mask = np.zeros((200, 200), np.uint8)
    mask[40:160, 40:160] = 255
    Image.fromarray(mask).save(tmp_path / "crop_mask.png")
    return tmp_path


def write_annotation(folder, boxes):
    features = [
        {"type": "Feature", "id": id, "geometry": mapping(box(*b)), "properties": {"classification": {"name": name}}}
        for id, (name, b) in boxes
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (folder / "slides" / "a.geojson").write_text(text)


def write(folder, *entries):
    path = folder / "prompts.yaml"
    path.write_text(yaml.safe_dump({"prompts": list(entries)}))
    return path


def pillow_crop(path, left, top, right, bottom):
    """A crop by Pillow, which makes what is off the image black; as white, and which of it is on the image."""
    with Image.open(path) as image:
        picture = np.array(image.convert("RGB").crop((left, top, right, bottom)))
        inside = np.array(Image.new("1", image.size, 1).crop((left, top, right, bottom)))
    picture[~inside] = 255
    return picture, inside


def label_by_hand(left, top, side, inside):
    """The label of a tile at the slide's own resolution."""
    whole = np.zeros((1000, 1000), np.uint8)
    for name, (x0, y0, x1, y1) in BOXES.values():
        whole[300 + y0 : 300 + y1, 300 + x0 : 300 + x1] = {"Normal": 1, "Sclerotic": 3}.get(name, 255)
    label = whole[300 + top : 300 + top + side, 300 + left : 300 + left + side]
    return np.where(inside, label, 255)


@pytest.mark.parametrize(
    ("name", "class_name", "id", "centre"),
    [
        ("id-normal", "normal", "id-normal", (120, 85)),
        (1, "normal", "id-normal", (120, 85)),
        (2, "global_sclerosis", "id-global", (235, 35)),  # its tile reaches past the slide
    ],
)
def test_a_glomerulus_is_in_the_middle_of_its_tile(folder, name, class_name, id, centre):
    path = write(folder, {**SLIDE, "class": class_name, "glomerulus": name})

    prompts = read_prompt_set(path, tile_px=96, mpp=MPP)

    left, top = centre[0] - 48, centre[1] - 48
    picture, inside = pillow_crop(folder / "slides" / "a.png", left, top, left + 96, top + 96)
    np.testing.assert_array_equal(prompts.images[0].transpose(1, 2, 0), picture)
    np.testing.assert_array_equal(prompts.labels[0], label_by_hand(left, top, 96, inside))
    (source,) = prompts.sources
    assert (source.glomerulus_id, source.class_name, source.stain, source.patient) == (id, class_name, "PAS", "P1")
    assert (source.region, source.mpp) == (Rect(left, top, 96, 96), MPP)
    assert source.image == folder / "slides" / "a.png"
    assert source.label == folder / "slides" / "a.geojson"
    assert source.sha256 == hashlib.sha256((folder / "slides" / "a.png").read_bytes()).hexdigest()


def test_tiles_are_at_model_resolution(folder):
    path = write(folder, {**SLIDE, "class": "normal", "glomerulus": "id-normal"})

    prompts = read_prompt_set(path, tile_px=32, mpp=4.0)

    with Image.open(folder / "slides" / "a.png") as image:
        expected = image.resize((32, 32), Image.Resampling.BILINEAR, box=(88, 53, 152, 117))
    np.testing.assert_allclose(prompts.images[0].transpose(1, 2, 0), np.asarray(expected), atol=1)
    assert prompts.sources[0].region == Rect(88, 53, 64, 64)
    # 40 x 50 pixels of 2 um are 20 x 25 of 4 um, to half a pixel.
    assert (prompts.labels[0] == 1).sum() == pytest.approx(20 * 25, abs=25)


def test_a_crop_is_padded_white_and_unknown_with_one_warning(folder, caplog):
    path = write(folder, {**CROP, "class": "global_sclerosis"})

    with caplog.at_level(logging.WARNING):
        prompts = read_prompt_set(path, tile_px=128, mpp=4.0)  # 512 um

    on_image = np.zeros((128, 128), bool)
    on_image[39:89, 39:89] = True  # 200 um are 50 px
    assert (prompts.images[0].transpose(1, 2, 0)[~on_image] == 255).all()
    np.testing.assert_array_equal(prompts.labels[0] == 255, ~on_image)
    assert (prompts.labels[0] == 3).sum() == 30 * 30
    (record,) = caplog.records
    assert "prompts[0]" in record.getMessage()
    assert "less than half" in record.getMessage()


def test_a_crop_that_fills_half_the_tile_is_not_warned_of(folder, caplog):
    read_prompt_set(write(folder, {**CROP, "class": "global_sclerosis"}), tile_px=128, mpp=2.0)
    assert not caplog.records


def test_a_region_is_in_the_middle_and_all_that_is_seen(folder):
    path = write(folder, {**SLIDE, "class": "normal", "region": [90, 50, 60, 80]})

    prompts = read_prompt_set(path, tile_px=100, mpp=MPP)

    left, top = 120 - 50, 90 - 50
    on_region = np.zeros((100, 100), bool)
    on_region[50 - top : 130 - top, 90 - left : 150 - left] = True
    picture, _ = pillow_crop(folder / "slides" / "a.png", left, top, left + 100, top + 100)
    picture[~on_region] = 255
    np.testing.assert_array_equal(prompts.images[0].transpose(1, 2, 0), picture)
    np.testing.assert_array_equal(prompts.labels[0], label_by_hand(left, top, 100, on_region))
    assert (prompts.sources[0].glomerulus_number, prompts.sources[0].glomerulus_id) == (None, "")


def test_a_number_counts_in_the_file_also_where_a_region_shows_only_part_of_it(folder):
    path = write(folder, {**SLIDE, "class": "normal", "glomerulus": 3, "region": [0, 150, 100, 90]})

    (source,) = read_prompt_set(path, tile_px=60, mpp=MPP).sources

    assert (source.glomerulus_id, source.glomerulus_number) == ("id-normal-2", 3)
    assert source.region == Rect(30 - 30, 205 - 30, 60, 60)


def test_of_a_partly_annotated_slide_only_glomeruli_are_known(folder):
    path = write(folder, {**SLIDE, "class": "normal", "glomerulus": 1, "complete": False})
    labels = read_prompt_set(path, tile_px=96, mpp=MPP).labels
    assert set(np.unique(labels)) == {1, 255}


def test_classes_are_counted_in_the_order_of_the_file(folder):
    path = write(
        folder,
        {**SLIDE, "class": "global_sclerosis", "glomerulus": 2},
        {**SLIDE, "class": "normal", "glomerulus": 1},
        {**CROP, "class": "global_sclerosis"},
    )
    prompts = read_prompt_set(path, tile_px=64, mpp=4.0)
    assert [s.class_name for s in prompts.sources] == ["global_sclerosis", "normal", "global_sclerosis"]
    assert prompts.class_counts == {"normal": 1, "segmental_sclerosis": 0, "global_sclerosis": 2}
    assert len(prompts) == 3


def test_a_set_written_elsewhere_reads_the_same(folder):
    path = write(
        folder,
        {**SLIDE, "class": "normal", "glomerulus": "id-normal"},
        {**SLIDE, "class": "normal", "region": [0, 150, 100, 90], "glomerulus": 3, "complete": False},
        {**CROP, "class": "global_sclerosis"},
    )
    copy = folder / "elsewhere" / "deep" / "copy.yaml"

    write_prompt_set(read_entries(path), copy, {"method": "by hand"})

    written = yaml.safe_load(copy.read_text())
    assert written["provenance"] == {"method": "by hand"}
    assert written["prompts"][0]["image"] == "../../slides/a.png"
    before, after = (read_prompt_set(p, tile_px=64, mpp=4.0) for p in (path, copy))
    np.testing.assert_array_equal(after.images, before.images)
    np.testing.assert_array_equal(after.labels, before.labels)
    assert after.sources == before.sources


def test_a_folder_with_slides_and_prompts_can_be_moved(folder, tmp_path_factory):
    path = folder / "prompts.yaml"
    write_prompt_set(read_entries(write(folder, {**CROP, "class": "global_sclerosis"})), path)
    moved = tmp_path_factory.mktemp("moved") / "here"
    shutil.move(folder, moved)
    assert len(read_prompt_set(moved / "prompts.yaml", tile_px=64, mpp=4.0)) == 1


NORMAL = {**SLIDE, "class": "normal", "glomerulus": 1}
MISTAKES = {
    "unknown class": ({**NORMAL, "class": "sclerotic"}, r"prompts\[1\]: unknown class 'sclerotic'; choose one of"),
    "no class": ({**SLIDE, "glomerulus": 1}, r"prompts\[1\]: has no 'class'"),
    "no label": ({**NORMAL, "label": None}, r"prompts\[1\]: has no 'label'"),
    "unknown key": ({**NORMAL, "glom": 1}, r"prompts\[1\]: unknown key 'glom'"),
    "wrong type": ({**NORMAL, "mpp": "fine"}, r"prompts\[1\]: mpp is 'fine'"),
    "odd glomerulus": ({**NORMAL, "glomerulus": [1]}, r"prompts\[1\]: glomerulus is \[1\]"),
    "odd sha256": ({**NORMAL, "sha256": 7}, r"prompts\[1\]: sha256 is 7"),
    "no such id": ({**NORMAL, "glomerulus": "x"}, r"prompts\[1\]: .*a\.geojson: has no glomerulus 'x' among its 4"),
    "no such number": ({**NORMAL, "glomerulus": 5}, r"prompts\[1\]: .*has no glomerulus 5"),
    "number from 0": ({**NORMAL, "glomerulus": 0}, r"prompts\[1\]: .*has no glomerulus 0"),
    "other class": ({**NORMAL, "glomerulus": 2}, r"glomerulus 2 is global_sclerosis, not normal"),
    "without class": ({**NORMAL, "glomerulus": 4}, r"glomerulus 4 is of no class, not normal"),
    "which one": ({**SLIDE, "class": "normal"}, r"holds 2 normal glomeruli; name one"),
    "none of the class": ({**SLIDE, "class": "segmental_sclerosis"}, r"holds no segmental_sclerosis glomerulus"),
    "empty region": ({**SLIDE, "class": "normal", "region": [200, 150, 60, 60]}, r"tile shows no normal glomerulus"),
    "region off": ({**SLIDE, "class": "normal", "region": [500, 0, 60, 60]}, r"prompts\[1\]: .*a\.png: "),
    "off its region": ({**NORMAL, "region": [200, 150, 60, 60]}, r"glomerulus 1 has its middle at .*off the `region`"),
    "no image": ({**NORMAL, "image": "b.png"}, r"prompts\[1\]: .*b\.png"),
    "no annotation": ({**NORMAL, "label": "b.geojson"}, r"prompts\[1\]: .*b\.geojson: no such annotation"),
    "no resolution": ({**NORMAL, "mpp": None}, r"prompts\[1\]: .*states no resolution; give `mpp`"),
    "changed image": ({**NORMAL, "sha256": "0" * 64}, r"prompts\[1\]: .*a\.png: has changed since"),
    "same by id": (
        {**SLIDE, "class": "global_sclerosis", "glomerulus": "id-global"},
        r"prompts\[1\]: is the same prompt as prompts\[0\]",
    ),
    "same in a copy": (
        {**SLIDE, "class": "global_sclerosis", "glomerulus": 2, "image": "slides/copy.png"},
        r"prompts\[1\]: is the same prompt as prompts\[0\]",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_in_one_line_with_file_and_entry(folder, mistake):
    shutil.copy(folder / "slides" / "a.png", folder / "slides" / "copy.png")
    entry, message = MISTAKES[mistake]
    path = write(folder, {**SLIDE, "class": "global_sclerosis", "glomerulus": 2}, entry)
    with pytest.raises(PromptError, match=message) as raised:
        read_prompt_set(path, tile_px=64, mpp=4.0)
    assert str(raised.value).startswith(f"{path}: prompts[1]: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompts: []", "holds no prompts"),
        ("- class: normal", "must hold `prompts`"),
        ("prompts: [a]", "must hold `prompts`"),
        ("", "must hold `prompts`"),
        ("prompts: [", "cannot be read"),
        ("prompts: !!python/object/apply:os.getcwd []", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_prompt_set_is_named(tmp_path, text, message):
    path = tmp_path / "prompts.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PromptError, match=message) as raised:
        read_prompt_set(path, tile_px=64, mpp=4.0)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_slide_of_another_size_than_its_annotation_is_an_error(folder):
    write_annotation(folder, [("far", ("Normal", (900, 900, 950, 950)))])
    path = write(folder, {**SLIDE, "class": "normal", "glomerulus": "far"})
    with pytest.raises(PromptError, match=r"prompts\[0\]: .*\(925, 925\) px, off the slide of 300 x 240 px"):
        read_prompt_set(path, tile_px=64, mpp=4.0)


def test_an_id_that_two_glomeruli_share_is_an_error(folder):
    write_annotation(folder, [("id", BOXES["id-normal"]), ("id", BOXES["id-normal-2"])])
    path = write(folder, {**SLIDE, "class": "normal", "glomerulus": "id"})
    with pytest.raises(PromptError, match="glomeruli 1 and 2 share the id 'id'"):
        read_prompt_set(path, tile_px=64, mpp=4.0)


def test_balance_is_checked_on_demand(folder):
    path = write(folder, {**SLIDE, "class": "normal", "glomerulus": 1}, {**CROP, "class": "global_sclerosis"})
    with pytest.raises(PromptError, match="1 normal, 0 segmental_sclerosis, 1 global_sclerosis"):
        read_prompt_set(path, tile_px=64, mpp=4.0, balanced=True)

    write_annotation(folder, [*BOXES.items(), ("s", ("segmental", (150, 150, 190, 190)))])
    rows = [("normal", 1), ("segmental_sclerosis", "s"), ("global_sclerosis", 2)]
    path = write(folder, *({**SLIDE, "class": name, "glomerulus": g} for name, g in rows))
    assert set(read_prompt_set(path, tile_px=64, mpp=4.0, balanced=True).class_counts.values()) == {1}


@pytest.mark.parametrize(("tile_px", "mpp"), [(0, 4.0), (64, 0.0), (64, -1.0)])
def test_a_tile_of_no_size_is_an_error(folder, tile_px, mpp):
    path = write(folder, NORMAL)
    with pytest.raises((PromptError, ConfigError), match="tile"):
        read_prompt_set(path, tile_px=tile_px, mpp=mpp)


def arrays(count=2, side=8, **changes):
    made = {"images": np.zeros((count, 3, side, side), np.uint8), "labels": np.zeros((count, side, side), np.uint8)}
    return {**made, **changes}


def test_a_prompt_set_is_images_and_labels_alone():
    assert len(PromptSet(**arrays())) == 2
    assert set(PromptSet(**arrays()).class_counts.values()) == {0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (arrays(count=0), "N and S above 0"),
        (arrays(side=0), "N and S above 0"),
        (arrays(images=np.zeros((2, 8, 8, 3), np.uint8)), "are not"),
        (arrays(labels=np.zeros((1, 8, 8), np.uint8)), "are not"),
        (arrays(labels=np.zeros((2, 8, 9), np.uint8)), "are not"),
        (arrays(labels=np.array(3, np.uint8)), "are not"),
        (arrays(images=np.zeros((2, 3, 8, 8))), "must be uint8"),
        (arrays(labels=np.full((2, 8, 8), 4, np.uint8)), "label 4 is no class"),
    ],
)
def test_arrays_that_are_no_prompts_are_refused(given, message):
    with pytest.raises(PromptError, match=message):
        PromptSet(**given)


def test_sources_are_one_each_or_none(tmp_path):
    source = PromptSource(tmp_path, tmp_path, "", 1, "normal", "HE", "P", Rect(0, 0, 8, 8), 1.0, None)
    assert PromptSet(**arrays(), sources=(source,) * 2).class_counts["normal"] == 2
    with pytest.raises(PromptError, match="1 sources for 2 prompts"):
        PromptSet(**arrays(), sources=(source,))


def test_an_empty_set_cannot_be_written(tmp_path):
    with pytest.raises(PromptError, match="no prompts"):
        write_prompt_set([], tmp_path / "p.yaml")
    assert not list(tmp_path.iterdir())
