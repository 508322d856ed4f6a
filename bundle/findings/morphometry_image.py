"""What the pixels of a glomerulus say: stain densities, pale area, an estimate of its nuclei, texture.

All are measured inside of the outline on a crop of known resolution. Stains vary between laboratories and days: compare
these figures within a batch, or after normalization.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import hed_from_rgb, hpx_from_rgb, rgb2gray, separate_stains
from skimage.feature import graycomatrix, graycoprops, peak_local_max

MATRICES: Final[Mapping[str, NDArray]] = {
    "HE": hed_from_rgb,
    "H&E": hed_from_rgb,
    "PAS": hpx_from_rgb,
}
"""Unmixing matrices by stain, first channel haematoxylin. For silver and trichrome there is none with haematoxylin."""

DECADIC: Final = 6.0
"""`separate_stains` divides by ln(1e-6): times 6 its figures are optical densities to the base 10."""

MIN_NUCLEUS_PX: Final = 4.0
"""Nuclei of a smaller diameter are lost between the pixels."""

ANGLES: Final = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)


@dataclass(frozen=True)
class Appearance:
    """The look of one glomerulus; NaN where it cannot be measured.

    Attributes:
        od_mean: optical density, -log10(I / 255), mean over the three channels and the glomerulus (Beer-Lambert).
        od_haematoxylin: mean density of haematoxylin after colour deconvolution (Ruifrok & Johnston 2001, matrices of
            scikit-image); NaN for stains without a matrix (silver, trichrome).
        od_counterstain: likewise of eosin in HE, of the PAS reagent in PAS.
        pale_fraction: share of pixels nearly as bright as glass: lumina and Bowman's space together, which a mask of
            one class does not tell apart.
        nuclei_per_mm2: estimate: dark blobs of haematoxylin of a nucleus's size in a mm² of glomerulus; touching nuclei
            count as one. NaN where haematoxylin is, or where a nucleus is less than 4 px wide.
        glcm_contrast: Haralick et al. 1973, of grey levels at a fixed distance in µm, four directions pooled.
        glcm_homogeneity: likewise, inverse difference moment.
        glcm_energy: likewise, root of the angular second moment.
        glcm_correlation: likewise.
    """

    od_mean: float
    od_haematoxylin: float
    od_counterstain: float
    pale_fraction: float
    nuclei_per_mm2: float
    glcm_contrast: float
    glcm_homogeneity: float
    glcm_energy: float
    glcm_correlation: float


UNSEEN: Final = Appearance(*[float("nan")] * len(fields(Appearance)))
"""Of a glomerulus without pixels."""


@dataclass(frozen=True)
class ImageMorphometry:
    """Measures crops.

    Attributes:
        nucleus_um: diameter of a nucleus.
        min_nucleus_od: least density of a nucleus's haematoxylin above its surroundings.
        pale_od: densities below count as pale.
        texture_um: distance of the pixels that the texture compares.
        grey_levels: of the texture.
    """

    nucleus_um: float = 6.0
    min_nucleus_od: float = 0.15
    pale_od: float = 0.1
    texture_um: float = 4.0
    grey_levels: int = 32

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.bool_], mpp: float, stain: str, slide_mpp: float = 0.0
    ) -> Appearance:
        """The appearance of the glomerulus in a crop.

        Args:
            image: RGB, shape (H, W, 3).
            mask: the glomerulus, shape (H, W).
            mpp: µm per px of the crop.
            stain: HE and PAS have an unmixing matrix.
            slide_mpp: µm per level-0 px of the slide: a crop that enlarges it shows no more than it.
        """
        if not mask.any():
            return UNSEEN
        window = _with_margin(mask, round(2 * self.nucleus_um / mpp))
        image, mask = image[window], mask[window]
        density = -np.log10(np.maximum(image, 1) / 255).mean(axis=2)[mask]
        matrix = MATRICES.get(stain.upper())
        haematoxylin = counterstain = nuclei = float("nan")
        if matrix is not None:
            stains = separate_stains(image, matrix) * DECADIC
            haematoxylin, counterstain = (float(stains[..., i][mask].mean()) for i in (0, 1))
            if self.nucleus_um / max(mpp, slide_mpp) >= MIN_NUCLEUS_PX:
                nuclei = self._nuclei_per_mm2(stains[..., 0], mask, mpp)
        texture = self._texture(image, mask, mpp)
        return Appearance(
            float(density.mean()), haematoxylin, counterstain, float((density < self.pale_od).mean()), nuclei, *texture
        )

    def _nuclei_per_mm2(self, haematoxylin: NDArray, mask: NDArray[np.bool_], mpp: float) -> float:
        """Maxima of the scale-normalized Laplacian of Gaussian (Lindeberg 1998) at the scale of a nucleus."""
        radius = self.nucleus_um / mpp / 2
        sigma = radius / np.sqrt(2)  # where a disc of that radius answers most
        response = -(sigma**2) * ndimage.gaussian_laplace(haematoxylin, sigma)
        least = self.min_nucleus_od * 2 / np.e  # the answer of a disc of that density
        peaks = peak_local_max(response, min_distance=max(1, round(radius)), threshold_abs=least, exclude_border=False)
        return float(mask[tuple(peaks.T)].sum() / (mask.sum() * mpp**2 * 1e-6))

    def _texture(self, image: NDArray[np.uint8], mask: NDArray[np.bool_], mpp: float) -> tuple[float, ...]:
        grey = np.minimum((rgb2gray(image) * self.grey_levels).astype(np.uint8), self.grey_levels - 1)
        # Level 0 is outside of the glomerulus; its pairs are struck out below.
        levels = np.where(mask, grey + 1, 0).astype(np.uint8)
        distance = max(1, round(self.texture_um / mpp))
        pairs = graycomatrix(levels, [distance], ANGLES, levels=self.grey_levels + 1, symmetric=True)[1:, 1:]
        pooled = pairs.sum(axis=3, keepdims=True).astype(np.float64)
        if not pooled.any():
            return (float("nan"),) * 4
        pooled /= pooled.sum()
        return tuple(float(graycoprops(pooled, p).item()) for p in ("contrast", "homogeneity", "energy", "correlation"))


def _with_margin(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """The mask's box, `margin` px wider: what lies at the rim is seen with its surroundings."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
    )
