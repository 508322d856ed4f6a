"""Stain normalisation: nothing changes at the target's own stains, and two stainings of one tissue meet."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy import ndimage

from bundle.errors import ConfigError
from bundle.geometry import Rect
from bundle.grid import PhysicalTiles
from bundle.slide import open_slide
from bundle.stream import TileSplitter
from bundle.transforms import StainNormaliser
from bundle.transforms.normalise import LIGHT, Stains, estimate_stains, recolouring
from scripts.stain_reference import main as stain_reference

pytest.importorskip("torchstain", reason="the extra `stain` is not installed")

PURPLE_PINK = np.array([[0.65, 0.70, 0.29], [0.15, 0.95, 0.27]])
BLUE_RED = np.array([[0.80, 0.55, 0.24], [0.30, 0.85, 0.43]])
SIDE, MPP = 400, 4.0


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def amounts() -> np.ndarray:
    """Of two stains, (2, SIDE, SIDE): smooth, each alone in places, nothing at the border."""
    noise = np.random.default_rng(3).random((2, SIDE, SIDE))
    smooth = ndimage.gaussian_filter(noise, (0, 6, 6))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    smooth = np.clip(2.2 * smooth - 0.6, 0, None) + 0.12
    smooth[:, :40] = smooth[:, -40:] = smooth[:, :, :40] = smooth[:, :, -40:] = 0
    return smooth


def stained(vectors: np.ndarray, strengths: tuple[float, float]) -> np.ndarray:
    """uint8 (3, SIDE, SIDE) by Beer and Lambert."""
    density = np.einsum("sc,shw->chw", unit(vectors) * np.array(strengths)[:, None], amounts())
    return (LIGHT * np.exp(-density) - 1).round().clip(0, 255).astype(np.uint8)


def write(path: Path, rgb: np.ndarray) -> Path:
    Image.fromarray(rgb.transpose(1, 2, 0)).save(path)
    return path


def reference_of(stains: Stains) -> dict[str, list]:
    return {"vectors": stains.vectors.tolist(), "strengths": stains.strengths.tolist()}


def test_the_stains_of_a_picture_are_found():
    found = estimate_stains(stained(PURPLE_PINK, (1.2, 0.8)).reshape(3, -1).T)
    assert found is not None
    angles = np.degrees(np.arccos(np.clip((found.vectors * unit(PURPLE_PINK)).sum(1), -1, 1)))
    assert (angles < 8).all()


def test_source_equal_to_target_changes_no_pixel():
    stains = Stains(unit(PURPLE_PINK), np.array([1.5, 0.7]))
    everything = np.random.default_rng(0).integers(0, 256, (3, 300, 300), dtype=np.uint8)
    assert np.array_equal(recolouring(stains, stains)(everything), everything)


def test_glass_stays_glass_and_what_was_not_scanned_stays_black():
    change = recolouring(Stains(unit(PURPLE_PINK), np.array([2.0, 0.5])), Stains(unit(BLUE_RED), np.array([0.9, 1.9])))
    assert np.abs(change(np.full((3, 2, 2), 239, np.uint8)).astype(int) - 239).max() <= 1
    assert not change(np.zeros((3, 2, 2), np.uint8)).any()


def test_two_stainings_of_one_tissue_meet(tmp_path):
    first, second = stained(PURPLE_PINK, (2.2, 1.0)), stained(BLUE_RED, (0.9, 2.2))
    target = estimate_stains(first.reshape(3, -1).T)
    normalise = StainNormaliser("macenko", reference_of(target))
    with (
        open_slide(write(tmp_path / "a.png", first), mpp=MPP) as a,
        open_slide(write(tmp_path / "b.png", second), mpp=MPP) as b,
    ):
        alike = [normalise(slide)(rgb).astype(float) for slide, rgb in ((a, first), (b, second))]
    before = np.abs(first.astype(float) - second).mean()
    after = np.abs(alike[0] - alike[1]).mean()
    assert before > 12
    assert after < before / 4
    assert np.abs(alike[0] - first).mean() < 3


def test_all_tiles_of_a_slide_are_changed_alike_also_a_crop_of_it(tmp_path):
    path = write(tmp_path / "slide.png", stained(BLUE_RED, (0.7, 1.3)))
    normaliser = StainNormaliser("macenko", reference_of(Stains(unit(PURPLE_PINK), np.array([1.2, 0.8]))))
    tiles = PhysicalTiles(tile_um=400, overlap_um=100, mpp=MPP)
    plain = TileSplitter(tiles, lambda rgb: rgb.astype(np.float32))
    coloured = TileSplitter(tiles, lambda rgb: rgb.astype(np.float32), colours=normaliser)
    with open_slide(path, mpp=MPP) as slide:
        whole = normaliser(slide)
        for (raw, _), (found, _) in zip(plain(slide), coloured(slide), strict=True):
            expected = whole(raw[0].numpy().astype(np.uint8))
            assert torch.equal(found[0], torch.from_numpy(expected.astype(np.float32)))
            assert not torch.equal(found, raw)
    other = StainNormaliser("macenko", reference_of(normaliser.reference))
    with open_slide(path, mpp=MPP, region=Rect(100, 100, 60, 60)) as crop:
        rgb = np.random.default_rng(1).integers(20, 230, (3, 50, 50), dtype=np.uint8)
        assert np.array_equal(other(crop)(rgb), whole(rgb))


@pytest.mark.parametrize("level", [255, 128])
def test_a_slide_without_two_stains_keeps_its_colours_and_says_so(tmp_path, caplog, level):
    path = write(tmp_path / "plain.png", np.full((3, 200, 200), level, np.uint8))
    normaliser = StainNormaliser("macenko", reference_of(Stains(unit(BLUE_RED), np.array([1.0, 1.0]))))
    rgb = stained(BLUE_RED, (1.0, 1.0))
    with open_slide(path, mpp=MPP) as slide:
        assert np.array_equal(normaliser(slide)(rgb), rgb)
    assert "cannot be told apart" in caplog.text


def test_off_means_untouched_and_needs_no_reference(tmp_path):
    path = write(tmp_path / "slide.png", stained(BLUE_RED, (0.7, 1.3)))
    rgb = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    with open_slide(path, mpp=MPP) as slide:
        assert StainNormaliser("none")(slide)(rgb) is rgb


def test_settings_without_a_meaning_are_refused():
    with pytest.raises(ConfigError, match="must be one of"):
        StainNormaliser("reinhard")
    with pytest.raises(ConfigError, match="needs a reference"):
        StainNormaliser("macenko")
    with pytest.raises(ConfigError, match="two of red, green and blue"):
        StainNormaliser("macenko", {"vectors": [[1, 0, 0]], "strengths": [1]})


def test_the_command_prints_the_reference_of_a_picture(tmp_path, capsys):
    path = write(tmp_path / "slide.png", stained(PURPLE_PINK, (1.2, 0.8)))
    assert stain_reference([str(path), "--mpp", str(MPP)]) == 0
    printed = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    normaliser = StainNormaliser("macenko", {name: yaml.safe_load(text) for name, text in printed.items()})
    assert normaliser.reference.angle > 0.3
    assert stain_reference([str(path)]) == 1
    assert "states no resolution" in capsys.readouterr().err
