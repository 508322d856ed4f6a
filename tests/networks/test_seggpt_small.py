"""The small SegGPT that comes with the bundle reads from its prompts which class is which: on phantoms it never saw."""

import numpy as np
import pytest
import torch
import yaml

from bundle.classes import CLASS_NAMES, GLOMERULUS_CLASSES
from bundle.data.datalist import DatalistItem, read_datalist, write_datalist
from bundle.data.tiles import TileDataset
from bundle.geometry import Size
from bundle.grid import PhysicalTiles
from bundle.networks import SegGPT, read_seggpt
from bundle.phantom import Phantom, PhantomSpec, write_phantom
from bundle.prompts import PromptSet, choose_prompts, load_prompts, prompt_candidates
from tests.cohort import ROOT

SETTINGS = yaml.safe_load((ROOT / "configs" / "networks" / "seggpt_small.yaml").read_text())
MPP, SIDE = SETTINGS["model_mpp"], SETTINGS["prompt_px"]


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """A datalist: prompts of one phantom, queries of another, of the same stain."""
    folder = tmp_path_factory.mktemp("phantoms")
    items = {}
    for seed, split in ((8101, "training"), (8102, "validation")):
        spec = PhantomSpec(Size(1500, 1000), 2.0, "PAS", seed=seed, class_fractions=(0.4, 0.3, 0.3))
        path = write_phantom(Phantom(spec), folder / f"{split}.tif")
        items[split] = [DatalistItem(path, split, "PAS", label=path.with_suffix(".geojson"), slide=split)]
    write_datalist(items, folder / "datalist.json")
    return folder / "datalist.json"


@pytest.fixture(scope="module")
def queries(slides):
    """Tiles (N, 3, side, side) in 0..1 and their classes (N, side, side)."""
    tiles = PhysicalTiles(SIDE * MPP, 0, MPP)
    drawn = TileDataset(
        read_datalist(slides, "validation"), tiles, 60, background_fraction=0, class_balance=1, jitter=0.1
    )
    both = [drawn[i] for i in range(len(drawn))]
    images = torch.tensor(np.stack([tile["image"] for tile in both])) / 255
    return images, np.stack([tile["label"][0] for tile in both])


def prompts(slides, count: int) -> PromptSet:
    pool = prompt_candidates(read_datalist(slides, "training"))
    return load_prompts([pool[i] for i in choose_prompts(pool, count, method="random")], SIDE, MPP)


def predicted(shown: PromptSet, images: torch.Tensor) -> np.ndarray:
    options = {name: SETTINGS[f"network_def#{name}"] for name in ("prompt_attention", "palette")}
    network = SegGPT(read_seggpt(ROOT / "models" / "seggpt_small"), shown, **options).eval()
    with torch.inference_mode():
        return torch.cat([network(part).argmax(1) for part in images.split(20)]).numpy()


def dice(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    known = truth != 255
    return {
        c.name: 2
        * ((found == c.index) & (truth == c.index)).sum()
        / ((found == c.index)[known].sum() + (truth == c.index).sum())
        for c in GLOMERULUS_CLASSES
    }


def test_twelve_prompts_tell_three_classes_apart(slides, queries):
    images, truth = queries
    scores = dice(predicted(prompts(slides, 12), images), truth)
    assert min(scores.values()) > 0.5, scores
    assert np.mean(list(scores.values())) > 0.65, scores


@pytest.mark.parametrize("names", [(2, 3, 1), (3, 1, 2), (2, 1, 3)])
def test_it_calls_classes_as_the_prompts_call_them(slides, queries, names):
    images, truth = queries
    shown = prompts(slides, 12)
    renamed = np.arange(256, dtype=np.uint8)
    renamed[[1, 2, 3]] = names
    found = predicted(PromptSet(shown.images, renamed[shown.labels]), images)
    as_named, as_it_is = dice(found, renamed[truth]), dice(found, truth)
    assert np.mean(list(as_named.values())) > 0.6, as_named
    changed = [name for name, index in zip(CLASS_NAMES, names, strict=True) if CLASS_NAMES[index - 1] != name]
    assert max(as_it_is[name] for name in changed) < 0.35, as_it_is


def test_a_class_that_no_prompt_shows_is_not_found(slides, queries):
    images, _ = queries
    shown = prompts(slides, 12)
    normal = np.array([(label == 1).any() and not np.isin(label, [2, 3]).any() for label in shown.labels])
    found = predicted(PromptSet(shown.images[normal], shown.labels[normal]), images)
    assert (found == 1).sum() > 10 * np.isin(found, [2, 3]).sum()
