"""Write phantom kidney slides with their exact truth: `python scripts/phantom.py --output_dir phantoms --count 3`."""

import argparse
import re
import sys
from pathlib import Path

from tqdm import tqdm

from bundle.errors import BundleError
from bundle.geometry import Size
from bundle.phantom import STAINS, Phantom, PhantomSpec, write_phantom


def main(arguments: list[str] | None = None) -> int:
    """Write the slides that the command line asks for; give the exit status."""
    options = _parser().parse_args(arguments)
    try:
        specs = [_spec(options, i) for i in range(options.count)]
        with tqdm(total=sum(spec.size.height for spec in specs), unit="row", disable=options.quiet) as bar:
            for i, spec in enumerate(specs):
                path = options.output_dir / f"slide_{i}.tif"
                bar.set_description(path.name)
                write_phantom(Phantom(spec), path, bar.update)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _spec(options: argparse.Namespace, i: int) -> PhantomSpec:
    return PhantomSpec(
        size=options.size,
        mpp=options.mpp,
        stain=options.stain[i % len(options.stain)],
        seed=options.seed + i,
        glomeruli_per_mm2=options.glomeruli_per_mm2,
        class_fractions=tuple(options.class_fractions),
        cores=options.cores,
        oracle=options.oracle,
        counts=None if options.counts is None else tuple(options.counts),
    )


def _size(text: str) -> Size:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size in pixels such as 20000x12000")
    return Size(int(match[1]), int(match[2]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Write phantom kidney slides: slide_0.tif (pyramid), slide_0.geojson (QuPath), slide_1.tif ...",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--output_dir", type=Path, required=True, help="folder for the slides; made if it is missing")
    add("--count", type=int, default=1, help="number of slides")
    add("--size", type=_size, default=Size(20000, 12000), metavar="WIDTHxHEIGHT", help="level-0 size, pixels")
    add("--mpp", type=float, default=0.25, help="micrometres per level-0 pixel")
    add("--stain", nargs="+", choices=STAINS, default=["PAS"], help="stain; slides take several in turn")
    add("--seed", type=int, default=0, help="seed of the first slide; each further slide takes the next number")
    add("--glomeruli_per_mm2", type=float, default=4.0, help="glomeruli per square millimetre of tissue")
    add(
        "--class_fractions",
        type=float,
        nargs=3,
        default=[0.6, 0.15, 0.25],
        metavar=("NORMAL", "SEGMENTAL", "GLOBAL"),
        help="shares of the classes",
    )
    add(
        "--counts",
        type=int,
        nargs=3,
        metavar=("NORMAL", "SEGMENTAL", "GLOBAL"),
        help="exact numbers of glomeruli, in place of density and shares",
    )
    add("--cores", type=int, default=None, help="biopsy cores per slide; by default one per 1.7 mm")
    add("--oracle", action="store_true", help="flat colours per class instead of tissue, lossless")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


if __name__ == "__main__":
    sys.exit(main())
