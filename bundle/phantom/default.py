"""The slide that inference runs on when the user names none."""

import logging
from pathlib import Path

from tqdm import tqdm

from bundle.geometry import Size
from bundle.phantom.phantom import Phantom
from bundle.phantom.spec import PhantomSpec
from bundle.phantom.writer import write_phantom

logger = logging.getLogger(__name__)

DEFAULT_SPEC = PhantomSpec(Size(12000, 6000), mpp=0.5, stain="PAS", seed=1)
"""6 x 3 mm of PAS-stained phantom cortex at 20x."""


def default_slide(folder: Path | str) -> Path:
    """phantom.tif in `folder`, with its truth phantom.geojson; made where it is missing.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = Path(folder) / "phantom.tif"
    if not path.exists():
        logger.info("no --slide given: making the phantom slide %s", path)
        with tqdm(total=DEFAULT_SPEC.size.height, desc=path.name, unit="row") as bar:
            write_phantom(Phantom(DEFAULT_SPEC), path, bar.update)
    return path
