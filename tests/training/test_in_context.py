"""Samples of in-context training: query and prompts of different slides, colours that only the prompts explain."""

import json
from itertools import combinations

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, EnsureTyped, RandFlipd, ScaleIntensityRanged
from PIL import Image
from shapely.geometry import box, mapping

from bundle.classes import CLASS_NAMES
from bundle.data.tiles import TileDataset
from bundle.errors import ConfigError, DatalistError
from bundle.grid import PhysicalTiles
from bundle.training.colouring import Colouring, usual_palettes
from bundle.training.in_context import InContextDataset

TILE_PX = 16
PLAIN = Colouring(usual=0.0, black_background=0.0, one_class=0.0, all_alike=0.0)
"""Any colours, all classes."""


@pytest.fixture
def make_item(tmp_path):
    """A function that makes slide `number`, flat but for its number in red, with a square of 8 um for each class."""

    def make(number, patient="a", stain="PAS", classes=(1, 2, 3), **more):
        image, label = tmp_path / f"{number}.png", tmp_path / f"{number}.geojson"
        Image.fromarray(np.full((80, 120, 3), (number, 40, 80), np.uint8)).save(image)
        features = [
            {
                "type": "Feature",
                "geometry": mapping(box(20 + 40 * i - 4, 36, 20 + 40 * i + 4, 44)),
                "properties": {"classification": {"name": CLASS_NAMES[index - 1]}},
            }
            for i, index in enumerate(classes)
        ]
        label.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        return {"image": str(image), "label": str(label), "stain": stain, "patient": patient, "mpp": 1.0, **more}

    return make


def tiles(items, length=40, seed=0, transform=None, **options) -> TileDataset:
    augment = Compose(transform or [ScaleIntensityRanged("image", 0, 255, 0.0, 1.0), EnsureTyped(["image", "label"])])
    return TileDataset(items, PhysicalTiles(TILE_PX, 0, 1.0), length, augment, seed=seed, jitter=0.2, **options)


def samples(items, colouring=PLAIN, length=40, transform=None, background_fraction=0.2, **options):
    drawn = tiles(items, length, transform=transform, background_fraction=background_fraction)
    dataset = InContextDataset(drawn, colouring=colouring, **options)
    return [dataset[i] for i in range(length)]


def slide_numbers(images: torch.Tensor) -> list[int]:
    """Which slides the tiles (K, 3, S, S) show."""
    return [round(255 * float(image[0, 0, 0])) for image in images]


def colours(mask: torch.Tensor, where: torch.Tensor | None = None) -> set[tuple[float, ...]]:
    """The colours of painted masks (..., 3, S, S), where wanted."""
    pixels = mask.movedim(-3, -1)
    flat = pixels.reshape(-1, 3) if where is None else pixels[where]
    return {tuple(colour) for colour in flat.unique(dim=0).tolist()}


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_sample_is_queries_and_their_prompts(make_item):
    (sample,) = samples([make_item(1), make_item(2)], length=1, prompts=2, queries=3)
    shapes = {key: tuple(value.shape) for key, value in sample.items()}
    assert shapes == {
        "image": (3, 3, TILE_PX, TILE_PX),
        "label": (3, 4, TILE_PX, TILE_PX),
        "prompt_images": (2, 3, TILE_PX, TILE_PX),
        "prompt_masks": (2, 3, TILE_PX, TILE_PX),
    }
    assert all(value.dtype == torch.float32 and value.min() >= 0 and value.max() <= 1 for value in sample.values())


def test_samples_depend_on_seed_epoch_and_index_alone(make_item):
    items = [make_item(1), make_item(2), make_item(3, patient="b")]
    flips = [
        ScaleIntensityRanged("image", 0, 255, 0.0, 1.0),
        RandFlipd(["image", "label"], prob=0.5, spatial_axis=0),
        EnsureTyped(["image", "label"], track_meta=False),
    ]

    def dataset(epoch=1, seed=0):
        made = InContextDataset(tiles(items, seed=seed, transform=flips))
        made.set_epoch(epoch)
        return made

    expected = [dataset()[i] for i in range(8)]
    again = dataset()
    assert all(equal(again[i], expected[i]) for i in reversed(range(8)))
    assert not any(equal(one, other) for one, other in combinations(expected, 2))
    assert not equal(dataset(epoch=2)[0], expected[0])
    assert not equal(dataset(seed=1)[0], expected[0])


def test_workers_change_nothing(make_item):
    items = [make_item(1), make_item(2)]
    alone, helped = (
        list(DataLoader(InContextDataset(tiles(items, length=6)), batch_size=2, num_workers=n)) for n in (0, 2)
    )
    assert len(alone) == 3
    assert all(equal(one, other) for one, other in zip(alone, helped, strict=True))


def test_queries_of_a_sample_share_prompts_and_colours(make_item):
    items = [make_item(1), make_item(2), make_item(3, patient="b")]
    (sample,) = samples(items, length=1, queries=30, prompts=3, background_fraction=0.0, other_patient=0.0)
    assert not set(slide_numbers(sample["image"])) & set(slide_numbers(sample["prompt_images"]))
    known = sample["label"][:, 3] > 0
    assert colours(sample["label"][:, :3], known) <= colours(sample["prompt_masks"])


def test_tiles_are_turned_with_their_masks(make_item):
    # One place is left, cut once, with a square off the tile's middle, and pictures show their labels.
    def picture_label(tile):
        return {**tile, "image": np.repeat(tile["label"] == 1, 3, axis=0).astype(np.float32)}

    items = [make_item(n, classes=(1,)) for n in (1, 2)]
    drawn = tiles(items, transform=[picture_label], background_fraction=0.0, variants=1)
    sample = InContextDataset(drawn, colouring=PLAIN, queries=60)[0]
    shown = sample["image"][:, 0] == 1
    painted = (sample["label"][:, :3] != sample["label"][:, :3, :1, :1]).any(1)
    assert torch.equal(shown, painted)
    assert len({mask.numpy().tobytes() for mask in painted}) >= 4  # eight, or four if the square is on a diagonal


def test_prompts_are_of_other_slides_than_the_query(make_item):
    items = [make_item(n, patient="ab"[n % 2]) for n in range(1, 5)]
    seen = set()
    for sample in samples(items, other_patient=0.0):
        (query,), prompts = slide_numbers(sample["image"]), slide_numbers(sample["prompt_images"])
        assert query not in prompts
        seen |= {(query, prompt) for prompt in prompts}
    assert len(seen) == 4 * 3  # every other slide of either patient has been a prompt of every query


def test_prompts_are_of_other_patients_when_asked(make_item):
    items = [make_item(n, patient="ab"[n % 2]) for n in range(1, 5)]
    for sample in samples(items, other_patient=1.0):
        (query,) = slide_numbers(sample["image"])
        assert {prompt % 2 for prompt in slide_numbers(sample["prompt_images"])} == {1 - query % 2}


def test_prompts_have_the_query_s_stain_where_there_is_such_a_slide(make_item):
    items = [make_item(n, stain="HE" if n <= 10 else "PAS") for n in (1, 2, 3, 4, 5, 11, 12, 13, 14, 15)]
    alike = [
        {n <= 10 for n in slide_numbers(torch.cat([s["image"], s["prompt_images"]]))}
        for s in samples(items, same_stain=1.0)
    ]
    # In one of 126 divisions all of a stain is on one side.
    assert sum(len(stains) == 1 for stains in alike) >= 0.9 * len(alike)


def test_prompts_show_what_the_query_s_colours_mean(make_item):
    items = [make_item(1, classes=(1, 2)), make_item(2, classes=(2, 3)), make_item(3), make_item(4)]
    shown = 0
    for sample in samples(items, length=60, prompts=2):
        counts = sample["label"][0, 3] > 0
        assert colours(sample["label"][0, :3], counts) <= colours(sample["prompt_masks"])
        shown += len(colours(sample["label"][0, :3], counts)) > 1
    assert shown >= 40  # without a prompt of its class a query would have background alone


def test_a_class_that_no_prompt_shows_does_not_count(make_item):
    items = [make_item(1, classes=(1,)), make_item(2, classes=(3,))]
    drawn = samples(items, background_fraction=0.0)
    hidden = [sample["label"][0, 3] == 0 for sample in drawn]
    assert all(weight.any() for weight in hidden)
    assert all(len(colours(s["label"][0, :3], ~w)) == 1 for s, w in zip(drawn, hidden, strict=True))


def test_pixels_of_which_nothing_is_known_do_not_count(make_item):
    # Of incomplete annotations the glomeruli alone are known: 8 x 8 pixels of 16 x 16.
    items = [make_item(n, complete=False) for n in (1, 2, 3)]
    weights = [sample["label"][0, 3] for sample in samples(items, glomerulus_weight=3.0)]
    assert {value for weight in weights for value in weight.unique().tolist()} == {0.0, 3.0}
    assert max(int(weight.count_nonzero()) for weight in weights) == 64


def test_colours_are_one_palette_in_a_sample_and_another_in_the_next(make_item):
    palettes = [colours(s["prompt_masks"]) | colours(s["label"][0, :3]) for s in samples([make_item(1), make_item(2)])]
    assert all(2 <= len(palette) <= 4 for palette in palettes)
    assert all(not one & other for one, other in combinations(palettes, 2))


def test_random_colours_are_well_apart():
    random = np.random.default_rng(0)
    for background, chance in (("black", 1.0), ("any", 0.0)):
        palettes = [Colouring(0.0, chance, 0.0, 0.0, 100).draw(random, None) for _ in range(50)]
        distances = [np.linalg.norm(a - b) for palette in palettes for a, b in combinations(palette, 2)]
        assert min(distances) >= 100
        assert all((palette[0] == 0).all() for palette in palettes) == (background == "black")


@pytest.mark.parametrize("name", ["seggpt", "distinct"])
def test_usual_colours_are_those_of_inference_in_every_order(name):
    random = np.random.default_rng(0)
    colouring = Colouring(usual=1.0, one_class=0.0, all_alike=0.0, palette=name)
    drawn = {colouring.draw(random, None).tobytes() for _ in range(100)}
    assert drawn == {palette.astype(float).tobytes() for palette in usual_palettes(name)}
    assert len(drawn) == 6


def test_tasks_are_one_class_or_all_alike_as_often_as_asked():
    random = np.random.default_rng(0)
    palettes = [Colouring(one_class=0.3, all_alike=0.2).draw(random, 2) for _ in range(1000)]
    alone = [p for p in palettes if (p[[1, 3]] == p[0]).all() and (p[2] != p[0]).any()]
    alike = [p for p in palettes if (p[1:] == p[1]).all() and (p[1] != p[0]).any()]
    assert len(alone) == pytest.approx(300, abs=60)
    assert len(alike) == pytest.approx(200, abs=60)


def test_no_class_is_painted_alone_where_none_is_shared():
    random = np.random.default_rng(0)
    palettes = [Colouring(one_class=1.0, all_alike=0.0).draw(random, None) for _ in range(20)]
    assert all(len(np.unique(palette, axis=0)) == 4 for palette in palettes)


@pytest.mark.parametrize(
    "values", [{"usual": 1.5}, {"one_class": 0.6, "all_alike": 0.6}, {"least_distance": 300}, {"all_alike": -0.1}]
)
def test_a_colouring_that_cannot_be_is_refused(values):
    with pytest.raises(ConfigError, match="must"):
        Colouring(**values)


def test_one_slide_is_not_enough(make_item):
    with pytest.raises(DatalistError, match=r"1\.geojson: .*add another annotated slide"):
        InContextDataset(tiles([make_item(1)]))


def test_no_prompts_are_refused(make_item):
    with pytest.raises(ConfigError, match="prompts and queries must be 1 or more, not 0 and 1"):
        InContextDataset(tiles([make_item(1), make_item(2)]), prompts=0)
