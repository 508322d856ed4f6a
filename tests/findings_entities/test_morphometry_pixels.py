"""Stain, nuclei and texture of crops that are made from known amounts of them."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import combine_stains, rgb_from_hed, rgb_from_hpx
from skimage.draw import disk

from bundle.findings.morphometry_image import Appearance, ImageMorphometry

measure = ImageMorphometry()
RGB_FROM = {"HE": rgb_from_hed, "PAS": rgb_from_hpx}


def round_mask(side: int = 96) -> np.ndarray:
    mask = np.zeros((side, side), bool)
    mask[disk((side / 2, side / 2), side * 0.4)] = True
    return mask


def stained(haematoxylin: np.ndarray, counterstain: float, stain: str) -> np.ndarray:
    """A picture of tissue with these optical densities of two stains."""
    amounts = np.stack([haematoxylin, np.full_like(haematoxylin, counterstain), np.zeros_like(haematoxylin)], axis=2)
    return np.rint(combine_stains(amounts / 6, RGB_FROM[stain]) * 255).astype(np.uint8)


def tissue_with_nuclei(count: int, mpp: float, stain: str = "HE") -> tuple[np.ndarray, np.ndarray]:
    """Round nuclei of 6 µm, no two of which touch, and a mask that is full of them."""
    side = round(300 / mpp)
    haematoxylin = np.full((side, side), 0.05)
    places = [(x, y) for x in range(30, 280, 16) for y in range(30, 280, 16)]
    chosen = np.random.default_rng(0).choice(len(places), count, replace=False)
    for x, y in (places[i] for i in chosen):
        haematoxylin[disk((y / mpp, x / mpp), 3 / mpp)] = 0.6
    return stained(haematoxylin, 0.2, stain), np.ones((side, side), bool)


def test_a_grey_picture_has_the_density_that_it_was_given() -> None:
    image = np.full((50, 50, 3), round(255 * 10**-0.4), np.uint8)
    assert measure(image, np.ones((50, 50), bool), 1.0, "PAMS").od_mean == pytest.approx(0.4, rel=0.01)


@pytest.mark.parametrize("stain", ["HE", "PAS"])
def test_the_amounts_of_two_stains_come_back(stain: str) -> None:
    found = measure(stained(np.full((60, 60), 0.3), 0.2, stain), round_mask(60), 1.0, stain)
    assert (found.od_haematoxylin, found.od_counterstain) == pytest.approx((0.3, 0.2), rel=0.05)


def test_silver_has_no_matrix_and_so_no_densities_of_stains_and_no_nuclei() -> None:
    image, mask = tissue_with_nuclei(30, 0.5)
    found = measure(image, mask, 0.5, "PAMS")
    assert np.isnan([found.od_haematoxylin, found.od_counterstain, found.nuclei_per_mm2]).all()
    assert np.isfinite([found.od_mean, found.pale_fraction, found.glcm_contrast]).all()


@pytest.mark.parametrize("stain", ["HE", "PAS"])
@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0])
def test_nuclei_are_counted_at_every_resolution_that_shows_them(mpp: float, stain: str) -> None:
    image, mask = tissue_with_nuclei(60, mpp, stain)
    assert measure(image, mask, mpp, stain).nuclei_per_mm2 == pytest.approx(60 / 0.09, rel=0.05)


def test_tissue_without_nuclei_has_none() -> None:
    image, mask = tissue_with_nuclei(0, 0.5)
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 5, image.shape), 0, 255).astype(np.uint8)
    assert measure(noisy, mask, 0.5, "HE").nuclei_per_mm2 == 0


@pytest.mark.parametrize(("mpp", "slide_mpp"), [(2.0, 0.25), (0.5, 2.0)])
def test_nuclei_are_not_counted_where_crop_or_slide_is_too_coarse(mpp: float, slide_mpp: float) -> None:
    image, mask = tissue_with_nuclei(60, mpp)
    assert np.isnan(measure(image, mask, mpp, "HE", slide_mpp).nuclei_per_mm2)


def test_pale_is_what_is_nearly_glass() -> None:
    image = np.full((40, 40, 3), 120, np.uint8)
    image[:, :10] = 245
    assert measure(image, np.ones((40, 40), bool), 1.0, "HE").pale_fraction == pytest.approx(0.25)


def test_texture_is_that_of_the_pairs_of_pixels_inside_the_mask() -> None:
    image = np.repeat(np.random.default_rng(0).integers(0, 256, (40, 40, 1), np.uint8), 3, axis=2)
    mask = round_mask(40)
    mask[18:22, 10:30] = False
    found = ImageMorphometry(texture_um=2.0, grey_levels=8)(image, mask, 1.0, "PAMS")
    level = image[..., 0].astype(int) // 32
    pairs = []
    for dy, dx in ((0, 2), (1, 1), (2, 0), (1, -1)):  # 2 px, on the diagonal rounded to (1, 1)
        for y in range(40):
            for x in range(40):
                inside = 0 <= y + dy < 40 and 0 <= x + dx < 40
                if inside and mask[y, x] and mask[y + dy, x + dx]:
                    pairs.append((level[y, x], level[y + dy, x + dx]))
    i, j = np.array(pairs + [pair[::-1] for pair in pairs]).T
    assert found.glcm_contrast == pytest.approx(((i - j) ** 2).mean())
    assert found.glcm_homogeneity == pytest.approx((1 / (1 + (i - j) ** 2)).mean())
    share = np.histogram2d(i, j, bins=np.arange(9))[0] / len(i)
    assert found.glcm_energy == pytest.approx(np.sqrt((share**2).sum()))
    assert found.glcm_correlation == pytest.approx(np.corrcoef(i, j)[0, 1])


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), turns=st.integers(0, 3), mirrored=st.booleans(), dx=st.integers(-15, 15))
def test_turning_mirroring_and_shifting_a_crop_changes_nothing(seed: int, turns: int, mirrored: bool, dx: int) -> None:
    random = np.random.default_rng(seed)
    image = np.full((140, 140, 3), 255, np.uint8)
    image[40:100, 40:100] = random.integers(60, 256, (15, 15, 3), np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    mask = np.zeros((140, 140), bool)
    mask[45:95, 45:95] = True
    moved, moved_mask = (np.roll(np.rot90(a, turns), dx, axis=1) for a in (image, mask))
    if mirrored:
        moved, moved_mask = moved[::-1], moved_mask[::-1]
    first, second = (measure(*crop, 0.5, "PAS") for crop in ((image, mask), (moved, moved_mask)))
    assert asdict(second) == pytest.approx(asdict(first), rel=1e-6)


def test_what_lies_outside_of_the_glomerulus_does_not_matter() -> None:
    mask = round_mask()
    image = np.random.default_rng(0).integers(0, 256, (*mask.shape, 3), np.uint8)
    other = np.where(mask[..., None], image, 0).astype(np.uint8)
    first, second = (asdict(measure(each, mask, 2.0, "HE")) for each in (image, other))
    assert second == pytest.approx(first, nan_ok=True)


def test_a_glomerulus_outside_of_its_crop_is_not_measured() -> None:
    found = measure(np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), bool), 1.0, "HE")
    assert isinstance(found, Appearance)
    assert np.isnan(list(asdict(found).values())).all()
