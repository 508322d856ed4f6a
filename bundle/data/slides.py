"""Which slides a path means: one file, a folder of files, or the embedded default."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bundle.errors import ConfigError, SlideReadError
from bundle.geometry import Rect
from bundle.phantom.default import default_slide

SLIDE_SUFFIXES = frozenset(
    {".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".czi", ".dcm", ".qptiff"}
    | {".png", ".jpg", ".jpeg"}
)
"""Files of a folder that are taken for slides; a single file may have any name."""


def find_slides(
    path: Path | str | None,
    mpp: float | None = None,
    region: Sequence[int] | None = None,
    default_dir: Path | str = ".",
) -> list[dict[str, Any]]:
    """The datalist of `path`: items {"image", "name"} and, where given, "mpp" and "region".

    Args:
        path: a slide; a folder of slides, each with an output sub-folder "name"; or None for a phantom slide that is
            made in `default_dir`.
        mpp: µm per level-0 pixel of all of them, where the files do not say it or say it wrongly.
        region: (x, y, width, height) in level-0 pixels, the part of every slide that is meant.
        default_dir: folder of the phantom slide.

    Raises:
        ConfigError: `region` is no rectangle.
        SlideReadError: nothing is at `path`, or the folder holds no slide.
        OutputError: the phantom slide cannot be written.
    """
    overrides = _overrides(mpp, region)
    if path is None:
        return [{"image": str(default_slide(default_dir)), "name": "", **overrides}]
    path = Path(path)
    if not path.exists():
        raise SlideReadError(f"{path}: no such slide file or folder; check the path")
    if path.is_file() or _is_dicom(path):
        return [{"image": str(path), "name": "", **overrides}]
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in SLIDE_SUFFIXES and not p.name.startswith("."))
    if not files:
        raise SlideReadError(f"{path}: the folder holds no slide ({', '.join(sorted(SLIDE_SUFFIXES))})")
    stems = [p.stem for p in files]
    # Two scans may share a stem; then the suffix keeps their outputs apart.
    return [{"image": str(p), "name": p.stem if stems.count(p.stem) == 1 else p.name, **overrides} for p in files]


def _overrides(mpp: float | None, region: Sequence[int] | None) -> dict[str, Any]:
    overrides: dict[str, Any] = {} if mpp is None else {"mpp": mpp}
    if region is not None:
        if len(region) != 4 or not all(isinstance(value, int) for value in region):
            raise ConfigError(f"region {region}: give [x, y, width, height] in whole level-0 pixels")
        overrides["region"] = Rect(*region)
    return overrides


def _is_dicom(folder: Path) -> bool:
    """Whether the folder is one DICOM slide: the pieces of its levels, and nothing else."""
    suffixes = {p.suffix.lower() for p in folder.iterdir() if p.is_file()}
    return suffixes == {".dcm"}
