"""Results as DICOM objects beside the DICOM slide that they were found on; needs the extra `dicom`."""

from bundle.dicom.saver import RequireDicomd, SaveDicomd

__all__ = ["RequireDicomd", "SaveDicomd"]
