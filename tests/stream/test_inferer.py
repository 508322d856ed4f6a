"""The whole way from slide to class map, and MONAI's contract of splitters and mergers."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import PatchInferer
from monai.transforms import ScaleIntensityRange
from scipy import ndimage

from bundle.errors import ConfigError
from bundle.geometry import Size
from bundle.grid import PhysicalTiles, Tile
from bundle.slide import Slide, open_slide
from bundle.stream import BandMerger, SlideInferer, TileSplitter
from bundle.stream.prediction import class_probabilities
from bundle.tissue import TissueFinder
from tests.oracle import OracleNetwork, write_oracle

WIDTH, HEIGHT = 611, 503
TILES = PhysicalTiles(tile_um=256, overlap_um=64, mpp=4.0)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    path = tmp_path_factory.mktemp("inferer") / "slide.tif"
    write_oracle(path, WIDTH, HEIGHT, seed=5)
    with open_slide(path) as opened:
        yield opened


def splitter(tissue: TissueFinder | None = None) -> TileSplitter:
    return TileSplitter(TILES, ScaleIntensityRange(0, 255, 0.0, 1.0, clip=True), tissue)


def selected_tiles(of: TileSplitter, slide: Slide) -> list[Tile]:
    return of.select(slide, of.tissue_mask(slide))


def planes(result: object) -> np.ndarray:
    return np.stack([result.classes, result.foreground, result.confidence])


def blurring_network() -> torch.nn.Module:
    """A network whose answer depends on the neighbourhood, so that overlapping tiles disagree at their edges."""
    torch.manual_seed(3)
    return torch.nn.Sequential(OracleNetwork(5), torch.nn.Conv2d(4, 4, 9, padding=4)).eval()


class SpyNetwork(OracleNetwork):
    """Remembers the shapes of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(tiles.shape))
        return super().forward(tiles)


def test_monai_s_patch_inferer_runs_our_splitter_and_merger_to_the_same_map(slide: Slide) -> None:
    network = blurring_network()
    with torch.inference_mode():
        by_monai = PatchInferer(
            splitter(), merger_cls=BandMerger, batch_size=3, postprocessing=class_probabilities, downsample=2.0
        )(slide, network)
    ours = SlideInferer(splitter(), batch_size=4, progress=False)(slide, network)
    assert by_monai.size == ours.size == Size(306, 252)
    assert by_monai.downsample == ours.downsample == pytest.approx(2.0)
    # Another batch size may change the last digit of a convolution.
    assert np.abs(planes(by_monai)[1:].astype(int) - planes(ours)[1:]).max() <= 1
    assert (planes(by_monai)[0] == planes(ours)[0]).mean() > 0.999


def test_tiling_changes_nothing_for_a_network_that_looks_at_single_pixels(slide: Slide) -> None:
    result = SlideInferer(splitter(), progress=False)(slide, OracleNetwork())
    whole = slide.read_region(0, 0, 306, 252, 4.0).transpose(2, 0, 1)[None] / np.float32(255)
    probabilities = OracleNetwork()(torch.from_numpy(whole)).softmax(1)[0]
    foreground = probabilities[1:].sum(0).numpy()
    # A tile's pixels differ from the whole picture's by up to one grey level.
    assert np.quantile(np.abs(result.foreground / 255 - foreground), 0.99) < 0.03
    sure = np.abs(foreground - 0.5) > 0.2
    expected = np.where(foreground >= 0.5, probabilities[1:].argmax(0) + 1, 0)
    assert (result.classes[sure] == expected[sure]).all()
    assert set(np.unique(result.classes)) >= {0, 1, 3}


def test_tiles_give_the_mask_of_one_forward_pass_over_the_whole_level_without_a_seam(slide: Slide) -> None:
    # Smooth, and with a receptive field: at a tile's edge it sees padding instead of the neighbours.
    blur = torch.nn.Conv2d(4, 4, 7, padding=3, groups=4, bias=False)
    torch.nn.init.constant_(blur.weight, 1 / 49)
    network = torch.nn.Sequential(OracleNetwork(20), blur).eval()
    result = SlideInferer(splitter(), progress=False)(slide, network)
    whole = slide.read_region(0, 0, 306, 252, 4.0).transpose(2, 0, 1)[None] / np.float32(255)
    with torch.inference_mode():
        probabilities = network(torch.from_numpy(whole)).softmax(1)[0]
    foreground = probabilities[1:].sum(0).numpy()
    dense = np.where(foreground >= 0.5, probabilities[1:].argmax(0).numpy() + 1, 0)
    for label in range(1, 4):
        found, expected = result.classes == label, dense == label
        assert 2 * (found & expected).sum() >= 0.999 * (found.sum() + expected.sum())
    # Where tiles join, as everywhere: but where the dense probability itself is next to the threshold.
    assert (result.classes == dense)[np.abs(foreground - 0.5) > 0.02].all()


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_the_network_sees_each_tissue_tile_once_in_batches(slide: Slide, batch_size: int) -> None:
    spy = SpyNetwork()
    tissue = TissueFinder()
    result = SlideInferer(splitter(tissue), batch_size=batch_size, progress=False)(slide, spy)
    count = len(selected_tiles(splitter(tissue), slide))
    assert count > 0
    assert sum(shape[0] for shape in spy.shapes) == count
    assert {shape[1:] for shape in spy.shapes} == {(3, 64, 64)}
    assert all(shape[0] == batch_size for shape in spy.shapes[:-1])
    reference = SlideInferer(splitter(), progress=False)(slide, OracleNetwork())
    assert np.array_equal(result.classes, reference.classes)


def test_glass_is_background_without_asking_the_network(tmp_path: Path) -> None:
    write_oracle(tmp_path / "corner.tif", 900, 900, seed=1, cores=1, origin=(-850, 0))
    spy = SpyNetwork()
    with open_slide(tmp_path / "corner.tif") as corner:
        everything, selected = (selected_tiles(s, corner) for s in (splitter(), splitter(TissueFinder())))
        result = SlideInferer(splitter(TissueFinder()), progress=False)(corner, spy)
    assert sum(shape[0] for shape in spy.shapes) == len(selected) < len(everything) / 3
    assert not result.classes[:, :300].any()


def test_what_the_network_sees_in_glass_beside_tissue_is_left_out(tmp_path: Path) -> None:
    write_oracle(tmp_path / "corner.tif", 900, 900, seed=1, cores=1, origin=(-500, 0))

    def everything_is_a_glomerulus(tiles: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(tiles), 4, *tiles.shape[2:])
        logits[:, 1] = 9
        return logits

    with open_slide(tmp_path / "corner.tif") as corner:
        mask = TissueFinder()(corner)
        result = SlideInferer(splitter(TissueFinder()), progress=False)(corner, everything_is_a_glomerulus)
        glass = (corner.read_region(0, 0, 450, 450, 4.0) == 255).all(axis=2)
    far_from_tissue = ndimage.distance_transform_edt(glass) * 4.0 > 100
    assert far_from_tissue.any()
    assert not planes(result)[:, far_from_tissue].any()
    assert result.classes[~glass].all()
    np.testing.assert_array_equal(result.classes > 0, mask.at(slice(0, 450), 450, 2.0))


def test_a_slide_of_glass_alone_gives_an_empty_map(tmp_path: Path) -> None:
    write_oracle(tmp_path / "glass.tif", 300, 200, glomeruli_per_mm2=0, origin=(-5000, -5000))
    with open_slide(tmp_path / "glass.tif") as glass:
        result = SlideInferer(splitter(TissueFinder()), progress=False)(glass, pytest.fail)
    assert result.size == Size(150, 100)
    assert not planes(result).any()


def test_a_network_of_one_channel_tells_glomerulus_from_background(slide: Slide) -> None:
    def one_channel(tiles: torch.Tensor) -> torch.Tensor:
        logits = OracleNetwork()(tiles)
        return logits[:, 1:].logsumexp(1, keepdim=True) - logits[:, :1]

    result = SlideInferer(splitter(), progress=False)(slide, one_channel)
    reference = SlideInferer(splitter(), progress=False)(slide, OracleNetwork())
    assert set(np.unique(result.classes)) == {0, 1}
    np.testing.assert_array_equal(result.classes > 0, reference.classes > 0)


def test_an_error_of_the_network_reaches_the_caller_and_ends_the_reading(slide: Slide) -> None:
    def broken(tiles: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        SlideInferer(splitter(), progress=False)(slide, broken)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tile-reader")]


def test_progress_is_shown_on_stderr(slide: Slide, capsys: pytest.CaptureFixture) -> None:
    SlideInferer(splitter(), progress=True)(slide, OracleNetwork())
    shown = capsys.readouterr().err
    assert "slide.tif" in shown
    assert "100%" in shown


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        SlideInferer(splitter(), batch_size=0)
