"""NIfTI, MHA and NRRD images by MONAI's readers and writers, with micrometres per pixel and rows first.

MONAI and the formats index (x, y) and measure in millimetres; slides index (row, column) and measure in micrometres.
The change between the two is made here and nowhere else.
"""

import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import itk
import nibabel
import numpy as np
from monai.data import ITKReader, ITKWriter, NibabelReader, NibabelWriter
from numpy.typing import NDArray

from bundle.atomic import atomic_path
from bundle.errors import AnnotationError, OutputError

NIFTI_SUFFIXES: Final = (".nii.gz", ".nii")
ITK_SUFFIXES: Final = (".mha", ".nrrd")
MEDICAL_SUFFIXES: Final = NIFTI_SUFFIXES + ITK_SUFFIXES
UM_PER_MM: Final = 1000.0
RGB_CHANNELS: Final = 3


@dataclass(frozen=True)
class MedicalImage:
    """A plane image: `array` (height, width) or (height, width, channels) as stored, `mpp` micrometres per pixel."""

    array: NDArray
    mpp: float


def suffix_of(path: Path | str) -> str:
    """The suffix in lower case, `.nii.gz` as one."""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def read_medical(path: Path | str) -> MedicalImage:
    """Read one plane of NIfTI (by nibabel), MHA or NRRD (by ITK) through MONAI's readers.

    Raises:
        AnnotationError: not readable, more than one plane, or pixels that are not square.
    """
    path = Path(path)
    _load_itk()
    # Not through LoadImage: it makes every reader that MONAI knows, and those of absent libraries warn.
    try:
        reader = NibabelReader() if suffix_of(path) in NIFTI_SUFFIXES else _itk_reader(path)
        image = reader.read(path)
        array, meta = reader.get_data(image)
        # ITK's array is a view of the image's memory, which goes with the image.
        array = np.array(array)
    except Exception as error:  # nibabel, ITK and MONAI share no base class; the reason is kept in the message
        raise AnnotationError(f"{path}: cannot be read ({_first_line(error)}); export it again") from error
    if array.ndim >= 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim > 3 or (array.ndim == 3 and array.shape[2] > 4):
        raise AnnotationError(f"{path}: has shape {array.shape}; only one plane can be read, export a 2-D image")
    spacing = np.linalg.norm(np.asarray(meta["affine"])[:2, :2], axis=0)
    if not np.isclose(spacing[0], spacing[1], rtol=1e-3):
        raise AnnotationError(f"{path}: pixels of {spacing[0]} x {spacing[1]} mm are not square; resample the image")
    return MedicalImage(array.swapaxes(0, 1), round(float(spacing[0]) * UM_PER_MM, 6))


def write_medical(array: NDArray, path: Path | str, mpp: float) -> None:
    """Write a (height, width) image as one plane of NIfTI, MHA or NRRD, through MONAI's writers.

    3D Slicer and ITK show it upright: the direction is the identity in ITK's frame. The plane is 1 mm thick.

    Args:
        array: integer or float image.
        path: file to write; the suffix chooses the format.
        mpp: micrometres per pixel, stored as millimetres.

    Raises:
        OutputError: not writable, or of another suffix.
    """
    _load_itk()
    path = Path(path)
    if suffix_of(path) not in MEDICAL_SUFFIXES:
        raise OutputError(f"{path}: cannot be written; choose a suffix of {', '.join(MEDICAL_SUFFIXES)}")
    # RAS affine whose x and y are negative: the identity in the LPS frame of ITK and 3D Slicer.
    affine = np.diag([-mpp / UM_PER_MM, -mpp / UM_PER_MM, 1.0, 1.0])
    writer: NibabelWriter | ITKWriter = ITKWriter(output_dtype=array.dtype)
    options: dict[str, Any] = {"compression": True}
    if suffix_of(path) in NIFTI_SUFFIXES:
        writer = NibabelWriter(output_dtype=array.dtype)
        header = nibabel.Nifti1Header()
        header.set_xyzt_units("mm")
        header.set_data_dtype(array.dtype)
        options = {"header": header}
    writer.set_data_array(array.T, channel_dim=None)
    # set_data_array leaves (x, y); nnU-Net and 3D Slicer want a volume of one plane.
    writer.data_obj = np.ascontiguousarray(array.T[..., None])
    writer.set_metadata({"affine": affine, "original_affine": affine}, resample=False)
    with atomic_path(path) as temporary:
        # atomic_path keeps the last suffix only; nibabel and ITK choose compression by ".nii.gz".
        whole_name = temporary.with_name(temporary.name.removesuffix(path.suffix) + suffix_of(path))
        writer.write(whole_name, **options)
        whole_name.replace(temporary)


def _itk_reader(path: Path) -> ITKReader:
    """MONAI's reader; MHA does not tell RGB from a vector of three bytes, a type that ITK's Python wrappers lack."""
    header = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    if header is None:
        raise ValueError("in no format that ITK knows")
    header.SetFileName(str(path))
    header.ReadImageInformation()
    is_rgb = header.GetNumberOfComponents() == RGB_CHANNELS
    return ITKReader(pixel_type=itk.RGBPixel[itk.UC]) if is_rgb else ITKReader()


@cache
def _load_itk() -> None:
    """ITK's wrappers warn as they load; where warnings are errors that kills the interpreter (segmentation fault)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # ITK loads its wrappers at the first use of a class.
        _ = itk.Image


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
