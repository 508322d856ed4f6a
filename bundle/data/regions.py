"""nnU-Net (v2) data sets: regions of slides out, regions of others in, with micrometres per pixel kept.

The layout is that of nnU-Net's `documentation/dataset_format.md`: imagesTr, labelsTr, imagesTs, labelsTs and
`dataset.json`. PNG has one RGB file a case; NIfTI has one file a channel and keeps the spacing itself. What nnU-Net has
no place for (spacing of PNG, patient, stain, split) stands under `cases` in `dataset.json`, which nnU-Net ignores.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from monai.data import PILWriter
from numpy.typing import NDArray

from bundle.atomic import atomic_path, write_text
from bundle.classes import BACKGROUND_INDEX, GLOMERULUS_CLASSES, IGNORE_INDEX, NUM_CLASSES
from bundle.data.annotations.masks import MAX_MASK_PX
from bundle.data.datalist import DatalistItem, load_annotation
from bundle.data.medical import MEDICAL_SUFFIXES, read_medical, suffix_of, write_medical
from bundle.errors import DatalistError, OutputError
from bundle.slide import open_slide

CHANNELS: Final = ("R", "G", "B")
NNUNET_IGNORE: Final = NUM_CLASSES
"""nnU-Net wants consecutive labels with `ignore` as the highest."""
_LABELS: Final = {
    "background": BACKGROUND_INDEX,
    **{c.name: c.index for c in GLOMERULUS_CLASSES},
    "ignore": NNUNET_IGNORE,
}
_FOLDERS: Final = {"training": "Tr", "validation": "Tr", "test": "Ts"}


@dataclass(frozen=True)
class Region:
    """Pixels of a case: `image` (height, width, 3) uint8, `label` (height, width) or None, `mpp` or None if unknown."""

    image: NDArray[np.uint8]
    label: NDArray[np.uint8] | None
    mpp: float | None


def export_nnunet(
    items_by_split: Mapping[str, Sequence[DatalistItem]],
    folder: Path,
    file_ending: str = ".png",
    mpp: float | None = None,
) -> None:
    """Write slides, or the regions of them that items name, as an nnU-Net data set.

    Training and validation both go to imagesTr, told apart by `splits_final.json` (copy it to the preprocessed folder);
    test goes to imagesTs.

    Args:
        items_by_split: datalist items; images of more than 400 million pixels need a `region`.
        folder: data set folder, by nnU-Net's custom named `Dataset001_Glomeruli`.
        file_ending: ".png", ".nii.gz", ".mha" or ".nrrd".
        mpp: resample to these micrometres per pixel; `None` keeps level 0.

    Raises:
        DatalistError: two items of one name, an image that is too large, or an unknown resolution to be stored.
        UnknownResolutionError: `mpp` is given and a slide's own is not known.
        SlideReadError, AnnotationError, ConfigError: see `open_slide` and `load_annotation`.
        OutputError: the folder cannot be written, or an unknown ending.
    """
    if file_ending != ".png" and file_ending not in MEDICAL_SUFFIXES:
        raise OutputError(
            f"{folder}: cannot write {file_ending!r}; choose .png or one of {', '.join(MEDICAL_SUFFIXES)}"
        )
    cases: dict[str, dict[str, Any]] = {}
    for split, items in items_by_split.items():
        for item in items:
            name = re.sub(r"[^A-Za-z0-9.-]+", "_", item.slide or item.image.stem)
            if name in cases:
                raise DatalistError(f"{folder}: two items are named {name!r}; give each its own `slide`")
            region = _render(item, mpp)
            _write_case(region, folder, _FOLDERS[split], name, file_ending)
            facts = {"split": split, "patient": item.patient, "stain": item.stain, "mpp": region.mpp}
            cases[name] = {key: value for key, value in facts.items() if value is not None}
    _write_json(_description(cases, file_ending), folder / "dataset.json")
    fold = {
        key: [n for n, c in cases.items() if c["split"] == s]
        for key, s in (("train", "training"), ("val", "validation"))
    }
    _write_json([fold], folder / "splits_final.json")


def import_nnunet(folder: Path, converted: Path, mpp: float | None = None) -> dict[str, list[DatalistItem]]:
    """The cases of an nnU-Net data set as datalist items by split.

    PNG images are used where they are; channels of NIfTI, MHA or NRRD are put together as RGB PNG in `converted`.
    A case's patient is the one that `export_nnunet` noted, or else the case itself; cases without a noted split are
    split by fold 0 of `splits_final.json`, or are all training.

    Args:
        folder: data set folder with `dataset.json`.
        converted: folder for converted images.
        mpp: micrometres per pixel where neither `dataset.json` nor the images say it.

    Raises:
        DatalistError: no `dataset.json`, region-based labels, no case, or values outside of 0 to 255. Labels that are
            no glomerulus classes are found when the masks are read.
        AnnotationError: a NIfTI, MHA or NRRD image cannot be read.
        OutputError: `converted` cannot be written.
    """
    dataset = _read_json(folder / "dataset.json")
    ending = dataset.get("file_ending", ".nii.gz")
    mask_values = _mask_values(dataset.get("labels", {}), folder)
    validation = _validation_cases(folder)
    found: dict[str, list[DatalistItem]] = {}
    for name, part in _case_names(folder, ending):
        facts = dataset.get("cases", {}).get(name, {})
        image, own_mpp = _image_of(folder / f"images{part}", name, ending, converted)
        label = folder / f"labels{part}" / f"{name}{ending}"
        case_mpp = facts.get("mpp") or own_mpp or mpp
        split = "test" if part == "Ts" else "validation" if name in validation else "training"
        item = DatalistItem(
            image=image,
            patient=facts.get("patient", name),
            stain=facts.get("stain", "unknown"),
            label=label if label.is_file() else None,
            mpp=case_mpp,
            label_mpp=case_mpp,
            slide=name,
            mask_values=mask_values or None,
        )
        found.setdefault(facts.get("split", split), []).append(item)
    if not found:
        raise DatalistError(
            f"{folder}: holds no image `imagesTr/CASE_0000{ending}`; check `file_ending` in dataset.json"
        )
    return found


def _render(item: DatalistItem, mpp: float | None) -> Region:
    with open_slide(item.image, mpp=item.mpp, region=item.region) as slide:
        downsample = 1.0 if mpp is None else mpp / slide.require_mpp()
        width, height = (max(1, round(side / downsample)) for side in (slide.size.width, slide.size.height))
        if width * height > MAX_MASK_PX:
            raise DatalistError(
                f"{item.image}: {width} x {height} px are too many for one case; give a `region` or `mpp`"
            )
        image = slide.read_downsampled(0, 0, width, height, downsample)
        out_mpp = None if slide.mpp is None else slide.mpp * downsample
        if item.label is None:
            return Region(image, None, out_mpp)
        annotation = load_annotation(item.as_dict(), slide.size, slide.mpp)
    label = annotation.rasterize(0, 0, width, height, downsample)
    return Region(image, np.where(label == IGNORE_INDEX, NNUNET_IGNORE, label).astype(np.uint8), out_mpp)


def _write_case(region: Region, folder: Path, part: str, name: str, ending: str) -> None:
    images, labels = folder / f"images{part}", folder / f"labels{part}"
    if ending == ".png":
        _write_png(region.image, images / f"{name}_0000{ending}")
        if region.label is not None:
            _write_png(region.label, labels / f"{name}{ending}")
        return
    if region.mpp is None:
        raise DatalistError(f"{name}: {ending} stores a spacing, and none is known; give the item's `mpp`")
    for channel in range(len(CHANNELS)):
        write_medical(region.image[..., channel], images / f"{name}_{channel:04d}{ending}", region.mpp)
    if region.label is not None:
        write_medical(region.label, labels / f"{name}{ending}", region.mpp)


def _write_png(array: NDArray[np.uint8], path: Path) -> None:
    writer = PILWriter(output_dtype=np.uint8, scale=None)
    # MONAI's writers index (x, y).
    writer.set_data_array(array.swapaxes(0, 1), channel_dim=-1 if array.ndim == 3 else None, contiguous=True)
    with atomic_path(path) as temporary:
        writer.write(temporary)


def _description(cases: Mapping[str, Mapping[str, Any]], ending: str) -> dict[str, Any]:
    return {
        "channel_names": {str(i): name for i, name in enumerate(CHANNELS)},
        "labels": _LABELS,
        "numTraining": sum(_FOLDERS[case["split"]] == "Tr" for case in cases.values()),
        "file_ending": ending,
        "cases": cases,
    }


def _case_names(folder: Path, ending: str) -> Iterator[tuple[str, str]]:
    """Each case's name and part, "Tr" or "Ts"."""
    for part in ("Tr", "Ts"):
        for path in sorted((folder / f"images{part}").glob(f"*_0000{ending}")):
            yield path.name.removesuffix(f"_0000{ending}"), part


def _image_of(images: Path, name: str, ending: str, converted: Path) -> tuple[Path, float | None]:
    """The image as one RGB file, and the micrometres per pixel that it states."""
    first = images / f"{name}_0000{ending}"
    if suffix_of(first) not in MEDICAL_SUFFIXES:
        return first, None
    channels = [read_medical(path) for path in sorted(images.glob(f"{name}_[0-9][0-9][0-9][0-9]{ending}"))]
    planes = [channel.array for channel in channels]
    image = (
        planes[0] if planes[0].ndim == 3 else np.stack(planes if len(planes) == len(CHANNELS) else planes[:1] * 3, -1)
    )
    if image.min() < 0 or image.max() > np.iinfo(np.uint8).max:
        raise DatalistError(f"{first}: has values outside of 0 to 255; convert the images to 8 bits a channel")
    path = converted / f"{name}.png"
    _write_png(np.ascontiguousarray(image[..., : len(CHANNELS)].astype(np.uint8)), path)
    return path, channels[0].mpp


def _mask_values(labels: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """`mask_values` of nnU-Net's `labels`, with background left out."""
    if not all(isinstance(value, int) for value in labels.values()):
        raise DatalistError(f"{folder}: region-based labels {dict(labels)} cannot be read; give one number a class")
    return {str(value): name for name, value in labels.items() if value != BACKGROUND_INDEX}


def _validation_cases(folder: Path) -> set[str]:
    path = folder / "splits_final.json"
    return set(_read_json(path)[0]["val"]) if path.is_file() else set()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatalistError(f"{path}: cannot be read ({error}); nnU-Net's layout needs it") from error


def _write_json(document: Any, path: Path) -> None:
    write_text(path, json.dumps(document, indent=1) + "\n")
