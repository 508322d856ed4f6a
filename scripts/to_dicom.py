"""Write glomeruli of a DICOM slide, such as corrected in QuPath, as DICOM annotations and segmentation.

Example:
    python scripts/to_dicom.py --slide SLIDE --glomeruli CORRECTED.geojson --output_dir OUT --generation SEMIAUTOMATIC
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bundle.data.annotations import read_annotation
from bundle.dicom import SaveDicomd
from bundle.dicom.saver import ANNOTATIONS, GENERATIONS, SEGMENTATION
from bundle.errors import BundleError, ConfigError, reason_of
from bundle.slide import open_slide


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        saver = SaveDicomd(
            "glomeruli",
            options.output_dir,
            segmentation_mpp=options.segmentation_mpp,
            segmentation_type=options.segmentation_type,
            codes=_codes(options.codes),
            generation=options.generation,
        )
        with open_slide(options.slide) as slide:
            saver({"image": slide, "glomeruli": read_annotation(options.glomeruli)})
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    written = [options.output_dir / name for name in (ANNOTATIONS, SEGMENTATION)]
    found = [str(path) for path in written if path.is_file()]
    print(f"written: {', '.join(found)}" if found else "no glomeruli, nothing to write")
    return 0


def _codes(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        codes = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({reason_of(error)})") from error
    if not isinstance(codes, dict):
        raise ConfigError(f"{path}: give a mapping, `normal: [value, coding scheme, meaning]`")
    return codes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slide", type=Path, required=True, help="a file of the DICOM slide, or its folder")
    parser.add_argument("--glomeruli", type=Path, required=True, help="GeoJSON, level-0 pixels of the slide")
    parser.add_argument("--output_dir", type=Path, required=True, help=f"folder of {ANNOTATIONS} and {SEGMENTATION}")
    parser.add_argument(
        "--segmentation_mpp", type=float, help="largest µm per pixel of the segmentation; level 0 if none"
    )
    parser.add_argument("--segmentation_type", choices=("BINARY", "LABELMAP"), default="BINARY")
    parser.add_argument("--generation", choices=GENERATIONS, default="AUTOMATIC", help="who made the outlines")
    parser.add_argument("--codes", type=Path, help="YAML of class name to [value, coding scheme, meaning]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
