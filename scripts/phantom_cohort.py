"""Write a phantom cohort with the structure of the study's data: `python scripts/phantom_cohort.py --output_dir study`.

It holds normal.json, sclerosis.json and mixed.json, the datalists for training, testing and fine-tuning, and their
slides with the exact truth. Repeated with the same arguments it writes only the slides that are missing.
bundle/phantom/cohort.py tells what is as in the study and what is scaled.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from bundle.errors import BundleError
from bundle.phantom.cohort import plan_study, write_datalists, write_slide


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the cohort that the command line asks for; give the exit status."""
    options = _parser().parse_args(arguments)
    try:
        plan = plan_study(options.seed, options.scale, options.slides)
        written = 0
        rows = sum(slide.spec.size.height for slide in plan.slides)
        with tqdm(total=rows, unit="row", disable=options.quiet) as bar:
            for slide in plan.slides:
                bar.set_description(slide.name)
                written += write_slide(slide, options.output_dir, bar.update)
        write_datalists(plan, options.output_dir)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.output_dir}: {written} slides written, {len(plan.slides) - written} were there already")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output_dir", type=Path, required=True, help="folder for slides and datalists; made if it is missing")
    add("--seed", type=int, default=0, help="another seed is another cohort (default: 0)")
    add("--scale", type=float, default=4.0, help="how much coarser pixels are than at 40x and 20x (default: 4)")
    add("--slides", type=float, default=1.0, help="share of the study's slides and glomeruli, up to 1 (default: 1)")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


if __name__ == "__main__":
    sys.exit(main())
