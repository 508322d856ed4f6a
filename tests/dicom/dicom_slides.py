"""DICOM whole-slide images made with pydicom alone: readers and writers under test have no part in them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage, generate_uid

TILE_PX = 64
ORIGIN_MM = (20.0, 40.0)
"""Where the top-left pixel lies on the glass."""


def picture(width: int, height: int) -> NDArray[np.uint8]:
    """RGB pixels each of which tells its place, shape (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 251, y % 241, (x // 16 * 37 + y // 16 * 53) % 256], axis=-1).astype(np.uint8)


def write_dicom_slide(folder: Path, rgb: NDArray[np.uint8], mpp: float, levels: int = 3, name: str = "level") -> Path:
    """Write a series of `levels` instances, each half the size of the one before; returns the finest's file."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = _shared()
    for level in range(levels):
        pixels = rgb[:: 2**level, :: 2**level]
        image = _instance(shared, pixels, mpp * 2**level, level)
        image.save_as(folder / f"{name}_{level}.dcm", enforce_file_format=True)
    return folder / f"{name}_0.dcm"


def _shared() -> Dataset:
    """What all instances of a slide have in common."""
    common = Dataset()
    common.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PyramidUID"):
        setattr(common, keyword, generate_uid())
    common.PatientName, common.PatientID = "Phantom^Kidney", "P7"
    common.PatientBirthDate, common.PatientSex, common.ReferringPhysicianName = "", "O", ""
    common.StudyID, common.AccessionNumber = "S1", "A1"
    for keyword in ("Study", "Series", "Content", "Acquisition"):
        setattr(common, f"{keyword}Date", "20260102")
        setattr(common, f"{keyword}Time", "030405")
    common.AcquisitionDateTime = "20260102030405"
    common.Modality, common.SeriesNumber = "SM", 1
    common.Manufacturer, common.ManufacturerModelName = "phantom", "phantom"
    common.DeviceSerialNumber, common.SoftwareVersions = "1", "1"
    common.PositionReferenceIndicator = "SLIDE_CORNER"
    common.VolumetricProperties = "VOLUME"
    common.BurnedInAnnotation = common.SpecimenLabelInImage = common.ExtendedDepthOfField = "NO"
    common.FocusMethod, common.LossyImageCompression = "AUTO", "00"
    common.ContainerIdentifier = "SLIDE_1"
    common.IssuerOfTheContainerIdentifierSequence = []
    common.ContainerTypeCodeSequence = [_code("433466003", "SCT", "Microscope slide")]
    common.AcquisitionContextSequence = []
    specimen = Dataset()
    specimen.SpecimenIdentifier, specimen.SpecimenUID = "B-7", generate_uid()
    specimen.IssuerOfTheSpecimenIdentifierSequence = []
    specimen.SpecimenPreparationSequence = []
    common.SpecimenDescriptionSequence = [specimen]
    common.OpticalPathSequence = [_optical_path()]
    common.NumberOfOpticalPaths = common.TotalPixelMatrixFocalPlanes = 1
    organization = Dataset()
    organization.DimensionOrganizationUID = generate_uid()
    common.DimensionOrganizationSequence = [organization]
    common.DimensionOrganizationType = "TILED_FULL"
    return common


def _optical_path() -> Dataset:
    path = Dataset()
    path.OpticalPathIdentifier = "0"
    path.IlluminationTypeCodeSequence = [_code("111744", "DCM", "Brightfield illumination")]
    path.IlluminationColorCodeSequence = [_code("414298005", "SCT", "Full Spectrum")]
    path.ObjectiveLensPower = 20
    path.ICCProfile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return path


def _instance(shared: Dataset, rgb: NDArray[np.uint8], mpp: float, level: int) -> Dataset:
    height, width = rgb.shape[:2]
    image = Dataset()
    image.update(shared)
    image.SOPInstanceUID = generate_uid()
    image.InstanceNumber = level + 1
    image.ImageType = ["ORIGINAL" if level == 0 else "DERIVED", "PRIMARY", "VOLUME", "RESAMPLED" if level else "NONE"]
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    image.Rows = image.Columns = TILE_PX
    image.TotalPixelMatrixColumns, image.TotalPixelMatrixRows = width, height
    image.ImagedVolumeWidth, image.ImagedVolumeHeight = width * mpp / 1000, height * mpp / 1000
    image.ImagedVolumeDepth = 1.0
    image.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = ORIGIN_MM
    image.TotalPixelMatrixOriginSequence = [origin]
    measures, frame_type, groups = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [mpp / 1000, mpp / 1000], 0.001
    frame_type.FrameType = image.ImageType
    groups.PixelMeasuresSequence = [measures]
    groups.WholeSlideMicroscopyImageFrameTypeSequence = [frame_type]
    image.SharedFunctionalGroupsSequence = [groups]
    frames = _frames(rgb)
    image.NumberOfFrames = len(frames)
    image.PixelData = frames.tobytes()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def _frames(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tiles in rows, shape (n, TILE_PX, TILE_PX, 3), white past the edges."""
    rows, columns = (-(-side // TILE_PX) for side in rgb.shape[:2])
    padded = np.full((rows * TILE_PX, columns * TILE_PX, 3), 255, np.uint8)
    padded[: rgb.shape[0], : rgb.shape[1]] = rgb
    tiles = padded.reshape(rows, TILE_PX, columns, TILE_PX, 3).swapaxes(1, 2)
    return np.ascontiguousarray(tiles.reshape(-1, TILE_PX, TILE_PX, 3))


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code
