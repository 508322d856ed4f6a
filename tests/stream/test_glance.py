"""Glance, then focus: nothing is lost that the first look suspects, and the second look sees less of the slide."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from monai.transforms import ScaleIntensityRange

from bundle.errors import ConfigError
from bundle.grid import PhysicalTiles
from bundle.slide import open_slide
from bundle.stream import Glance, SlideInferer, TileSplitter
from bundle.tissue import TissueFinder
from tests.oracle import OracleNetwork, run_config, write_oracle

SCALE = ScaleIntensityRange(0, 255, 0.0, 1.0, clip=True)
COARSE = PhysicalTiles(tile_um=512, overlap_um=128, mpp=8.0)
FINE = PhysicalTiles(tile_um=128, overlap_um=32, mpp=2.0)


class Counting(OracleNetwork):
    """Counts the tiles that it sees."""

    tiles = 0

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        self.tiles += len(tiles)
        return super().forward(tiles)


def glance(network: torch.nn.Module, **options: float) -> Glance:
    return Glance(SlideInferer(TileSplitter(COARSE, SCALE, TissueFinder()), progress=False), network, **options)


def test_the_second_look_finds_all_that_a_look_everywhere_finds_from_fewer_tiles(tmp_path: Path) -> None:
    write_oracle(tmp_path / "slide.tif", 2000, 1500, seed=8, glomeruli_per_mm2=1.0)
    everywhere, focused = Counting(), Counting()
    with open_slide(tmp_path / "slide.tif") as slide:
        full = SlideInferer(TileSplitter(FINE, SCALE, TissueFinder()), progress=False)(slide, everywhere)
        second = SlideInferer(TileSplitter(FINE, SCALE, glance(OracleNetwork())), progress=False)(slide, focused)
    assert full.classes.any()
    np.testing.assert_array_equal(second.classes, full.classes)
    assert focused.tiles < everywhere.tiles / 2


def test_a_slide_without_suspects_is_not_looked_at_again(tmp_path: Path) -> None:
    write_oracle(tmp_path / "slide.tif", 600, 400, seed=8, glomeruli_per_mm2=0.0)
    network = Counting()
    with open_slide(tmp_path / "slide.tif") as slide:
        found = SlideInferer(TileSplitter(FINE, SCALE, glance(OracleNetwork())), progress=False)(slide, network)
    assert network.tiles == 0
    assert not found.classes.any()


def test_suspects_grow_by_the_margin(tmp_path: Path) -> None:
    write_oracle(tmp_path / "slide.tif", 2000, 1500, seed=8, glomeruli_per_mm2=1.0)
    with open_slide(tmp_path / "slide.tif") as slide:
        bare, wide = (glance(OracleNetwork(), margin_um=margin)(slide).mask for margin in (0.0, 80.0))
    rows, columns = np.nonzero(wide & ~bare)
    to_bare = [np.abs(np.argwhere(bare) - place).max(1).min() for place in zip(rows[::50], columns[::50], strict=True)]
    assert max(to_bare) == 10  # 80 um at 8 um/px


@pytest.mark.parametrize("options", [{"min_probability": 0.0}, {"min_probability": 1.5}, {"margin_um": -1.0}])
def test_options_without_meaning_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="glance"):
        glance(OracleNetwork(), **options)


def test_the_config_finds_the_same_glomeruli_with_a_glance_and_saves_the_probability(tmp_path: Path) -> None:
    write_oracle(tmp_path / "slide.tif", 1500, 1100, seed=2)
    found = {}
    for name, files in {"full": ["inference.yaml"], "glance": ["inference.yaml", "glance.yaml"]}.items():
        folder = tmp_path / name
        run_config(files, {"slide": str(tmp_path / "slide.tif"), "output_dir": str(folder), "save_probability": True})
        found[name] = json.loads((folder / "summary.json").read_text())["classes"]
        with tifffile.TiffFile(folder / "probability.tif") as tiff:
            assert tiff.pages[0].shape == (550, 750)  # 4 um/px of 2 um/px
            foreground = tiff.pages[0].asarray()
        mask = tifffile.imread(folder / "mask.tif", level=0)[1::2, 1::2]
        agree = (foreground > 127)[: mask.shape[0], : mask.shape[1]] == (mask > 0)
        assert agree.mean() > 0.99
    assert {k: v["count"] for k, v in found["full"].items()} == {k: v["count"] for k, v in found["glance"].items()}
    assert sum(v["count"] for v in found["full"].values()) > 0
