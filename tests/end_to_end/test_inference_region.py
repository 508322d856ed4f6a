"""configs/inference_region.yaml: an image that fits in memory to a mask that 3D Slicer opens."""

from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from bundle.classes import GLOBAL, NORMAL
from bundle.errors import ConfigError
from bundle.evaluation import class_dice
from bundle.phantom import ORACLE_RGB
from tests.oracle import OracleNetwork, run_config, write_oracle

MODEL_MPP = 4.0


def segment(image: Path, output_dir: Path, **overrides: object) -> np.ndarray:
    """The mask (rows, columns) that the config writes, read by nibabel, which indexes (x, y, z)."""
    run_config("inference_region.yaml", {"image": str(image), "output_dir": str(output_dir), **overrides})
    (mask,) = output_dir.glob("*_mask.nii.gz")
    volume = np.asarray(nibabel.load(mask).dataobj)
    assert volume.ndim == 3
    return volume[..., 0].T


def write_corner_region(path: Path) -> None:
    """600 x 400 px of tissue with one globally sclerotic glomerulus near the top right corner."""
    rgb = np.full((400, 600, 3), ORACLE_RGB[0], np.uint8)
    rows, columns = np.mgrid[:400, :600] + 0.5
    rgb[np.hypot(columns - 520, rows - 80) < 60] = ORACLE_RGB[GLOBAL.index]
    Image.fromarray(rgb).save(path)


def test_the_mask_has_the_region_s_orientation_and_values(tmp_path: Path) -> None:
    write_corner_region(tmp_path / "region.png")
    mask = segment(tmp_path / "region.png", tmp_path / "out", mpp=2.0)
    assert mask.shape == (200, 300)
    assert mask.dtype == np.uint8
    assert np.unique(mask).tolist() == [0, GLOBAL.index]
    rows, columns = np.nonzero(mask)
    # Half of the region's pixels: 2 um there, 4 um in the mask.
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((260, 40), abs=0.5)
    assert len(rows) == pytest.approx(np.pi * 30**2, rel=0.03)


def test_the_mask_states_its_spacing_to_nibabel_and_itk(tmp_path: Path) -> None:
    write_corner_region(tmp_path / "region.png")
    segment(tmp_path / "region.png", tmp_path / "out", mpp=2.0)
    path = tmp_path / "out" / "region_mask.nii.gz"
    by_nibabel = nibabel.load(path)
    assert by_nibabel.header.get_zooms()[:2] == pytest.approx((MODEL_MPP / 1000, MODEL_MPP / 1000))
    assert by_nibabel.header.get_xyzt_units()[0] == "mm"
    by_itk = itk.imread(str(path))
    assert tuple(by_itk.GetSpacing())[:2] == pytest.approx((MODEL_MPP / 1000, MODEL_MPP / 1000))
    np.testing.assert_allclose(itk.array_from_matrix(by_itk.GetDirection()), np.eye(3), atol=1e-6)
    upright = itk.array_from_image(by_itk)[0]  # (z, y, x): rows first, as on the slide
    assert upright[:100, 150:].any()
    assert not upright[100:].any()
    assert not upright[:, :150].any()


def test_region_and_whole_slide_inference_agree(tmp_path: Path) -> None:
    phantom = write_oracle(tmp_path / "slide.tif", 1400, 1100, seed=5)
    region = segment(tmp_path / "slide.tif", tmp_path / "region")
    run_config("inference.yaml", {"slide": str(tmp_path / "slide.tif"), "output_dir": str(tmp_path / "whole")})
    # One pixel of the region's mask is two of the slide.
    whole = tifffile.imread(tmp_path / "whole" / "mask.tif", key=0)[::2, ::2]
    assert region.shape == whole.shape == (550, 700)
    assert min(value for value in class_dice(region, whole).values() if not np.isnan(value)) > 0.95
    assert class_dice(region, phantom.annotation.rasterize(0, 0, 700, 550, 2.0))["glomerulus"] >= 0.95


def test_a_part_of_a_slide_is_segmented(tmp_path: Path) -> None:
    phantom = write_oracle(tmp_path / "slide.tif", 1400, 1100, seed=5)
    mask = segment(tmp_path / "slide.tif", tmp_path / "out", region=[301, 203, 640, 480])
    assert mask.shape == (240, 320)
    truth = phantom.annotation.rasterize(301, 203, 320, 240, 2.0)
    assert (truth > 0).any()
    assert class_dice(mask, truth)["glomerulus"] >= 0.95


def test_a_crop_smaller_than_the_window_is_padded_with_white_as_whole_slides_are(tmp_path: Path) -> None:
    Image.fromarray(np.full((90, 120, 3), ORACLE_RGB[NORMAL.index], np.uint8)).save(tmp_path / "crop.png")
    mask = segment(tmp_path / "crop.png", tmp_path / "out", mpp=2.0, network_def={"_target_": f"{__name__}.SpyNetwork"})
    assert mask.shape == (45, 60)
    (seen,) = SpyNetwork.seen
    assert seen.shape == (1, 3, 256, 256)
    colours = {tuple(c) for c in (seen[0].permute(1, 2, 0).reshape(-1, 3) * 255).round().int().tolist()}
    assert colours == {NORMAL.rgb, (255, 255, 255)}


class SpyNetwork(OracleNetwork):
    """Keeps what it saw."""

    seen: list[torch.Tensor]

    def __init__(self) -> None:
        super().__init__()
        SpyNetwork.seen = []

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        SpyNetwork.seen.append(tiles.clone())
        return super().forward(tiles)


def test_a_network_of_one_channel_is_understood(tmp_path: Path) -> None:
    write_corner_region(tmp_path / "region.png")
    network = {"_target_": f"{__name__}.OneChannelNetwork"}
    mask = segment(tmp_path / "region.png", tmp_path / "out", mpp=2.0, network_def=network)
    assert np.unique(mask).tolist() == [0, NORMAL.index]
    assert (mask > 0).sum() == pytest.approx(np.pi * 30**2, rel=0.03)


class OneChannelNetwork(OracleNetwork):
    """The study's head: glomerulus or not."""

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        logits = super().forward(tiles)
        return logits[:, 1:].logsumexp(1, keepdim=True) - logits[:, :1]


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_other_formats_are_written(tmp_path: Path, suffix: str) -> None:
    write_corner_region(tmp_path / "region.png")
    overrides = {"image": str(tmp_path / "region.png"), "mpp": 2.0, "output_dir": str(tmp_path)}
    run_config("inference_region.yaml", {**overrides, "postprocessing#transforms#1#suffix": suffix})
    image = itk.imread(str(tmp_path / f"region_mask{suffix}"))
    assert tuple(image.GetSpacing())[:2] == pytest.approx((0.004, 0.004))
    assert itk.array_from_image(image)[0][:100, 150:].any()


def test_images_of_one_stem_do_not_overwrite_each_other(tmp_path: Path) -> None:
    (tmp_path / "crops").mkdir()
    for name in ("a.png", "a.jpg", "b.png"):
        write_corner_region(tmp_path / "crops" / name)
    overrides = {"image": str(tmp_path / "crops"), "mpp": 2.0, "output_dir": str(tmp_path / "out")}
    run_config("inference_region.yaml", overrides)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a.png_mask.nii.gz", "a.jpg_mask.nii.gz", "b_mask.nii.gz"}


@pytest.mark.parametrize("region", [[0, 0, 10], [0, 0, 10.5, 10], [0, 0, 10_000, 10]])
def test_a_region_that_is_none_is_an_error_that_names_it(tmp_path: Path, region: list) -> None:
    write_corner_region(tmp_path / "region.png")
    with pytest.raises(RuntimeError) as failure:
        segment(tmp_path / "region.png", tmp_path / "out", mpp=2.0, region=region)
    cause = failure.value
    while cause.__cause__ is not None:
        cause = cause.__cause__
    assert isinstance(cause, ConfigError)
    assert "region" in str(cause).lower()
