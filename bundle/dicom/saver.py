"""The transforms that a config names: refuse a slide that is not DICOM before it is segmented, save afterwards."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from monai.config import KeysCollection
from monai.transforms import MapTransform

from bundle.atomic import atomic_path
from bundle.classes import GLOMERULUS_CLASSES
from bundle.data.annotations import Annotation
from bundle.errors import ConfigError, OutputError
from bundle.hashing import file_sha256
from bundle.outputs.savers import SaveOutputd
from bundle.slide import Slide

if TYPE_CHECKING:
    from pydicom import Dataset

ANNOTATIONS, SEGMENTATION = "annotations.dcm", "segmentation.dcm"
GENERATIONS = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL")


class RequireDicomd(MapTransform):
    """Refuse a slide to which DICOM results could not refer, before hours go into it; keys are the open slides'.

    Raises:
        ConfigError: highdicom is not installed.
        OutputError: see `bundle.dicom.source.source_levels`.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item, unchanged."""
        _require_highdicom()
        from bundle.dicom.source import source_levels

        for key in self.key_iterator(dict(data)):
            source_levels(data[key].path)
        return dict(data)


class SaveDicomd(SaveOutputd):
    """annotations.dcm and segmentation.dcm of a DICOM slide; neither where no glomerulus was found.

    The slide may be closed already.

    Args:
        keys: the glomeruli's key, an `Annotation` in px of the slide's frame.
        output_dir: see `SaveOutputd`.
        slide_key: see `SaveOutputd`.
        segmentation_mpp: the segmentation is of the coarsest level of at most this many um per px; None for level 0.
        segmentation_type: see `bundle.dicom.segmentation.segmentation`.
        codes: class name to (value, coding scheme, meaning), in place of the private codes.
        generation: "AUTOMATIC", "SEMIAUTOMATIC" or "MANUAL".
        checkpoint: weight file whose hash the objects record.

    Raises:
        ConfigError: highdicom is not installed, or an argument makes no sense.
        OutputError: the slide is not DICOM, or a file cannot be written.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: Path | str,
        slide_key: str = "image",
        *,
        segmentation_mpp: float | None = None,
        segmentation_type: Literal["BINARY", "LABELMAP"] = "BINARY",
        codes: Mapping[str, Sequence[str]] | None = None,
        generation: str = "AUTOMATIC",
        checkpoint: Path | str | None = None,
    ) -> None:
        _require_highdicom()
        from bundle.dicom.concepts import merged_codes

        super().__init__(keys, output_dir, slide_key)
        if segmentation_type not in ("BINARY", "LABELMAP"):
            raise ConfigError(f"DICOM: segmentation_type {segmentation_type!r} is neither BINARY nor LABELMAP")
        if generation not in GENERATIONS:
            raise ConfigError(f"DICOM: generation {generation!r} is none of {', '.join(GENERATIONS)}")
        self.segmentation_mpp = segmentation_mpp
        self.segmentation_type: Literal["BINARY", "LABELMAP"] = segmentation_type
        self.codes = merged_codes(codes)
        self.generation = generation
        self.checkpoint = checkpoint

    def save(self, slide: Slide, glomeruli: Annotation, folder: Path) -> None:
        """Write both objects of one slide into `folder`."""
        from bundle.dicom.annotations import bulk_annotations
        from bundle.dicom.concepts import Terms
        from bundle.dicom.segmentation import segmentation
        from bundle.dicom.source import level_for, source_levels

        levels = source_levels(slide.path)
        finest = levels[0]
        corner = (slide.bounds.x + slide.bounds.width, slide.bounds.y + slide.bounds.height)
        if corner[0] > finest.size.width or corner[1] > finest.size.height:
            raise OutputError(f"{slide.path}: its finest DICOM image is missing; put all files of the slide together")
        known = {kind.index for kind in GLOMERULUS_CLASSES}
        found = Annotation(tuple(g for g in glomeruli.glomeruli if g.label in known))
        if not found.glomeruli:  # DICOM has no object of nothing
            for name in (ANNOTATIONS, SEGMENTATION):
                (folder / name).unlink(missing_ok=True)
            return
        placed = found.shifted(slide.bounds.x, slide.bounds.y)
        terms = Terms(self.codes, self.generation, self._parameters())
        _write(bulk_annotations(placed, finest, terms), folder / ANNOTATIONS)
        level = level_for(levels, self.segmentation_mpp)
        _write(segmentation(placed, finest, level, terms, self.segmentation_type), folder / SEGMENTATION)

    def _parameters(self) -> dict[str, str]:
        digest = None if self.checkpoint is None else file_sha256(self.checkpoint)
        return {} if digest is None else {"weights_sha256": digest}


def _write(made: "Dataset", path: Path) -> None:
    with atomic_path(path) as temporary:
        made.save_as(temporary, enforce_file_format=True)


def _require_highdicom() -> None:
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise ConfigError("DICOM results need highdicom; install it with `pip install -e '.[dicom]'`") from error
