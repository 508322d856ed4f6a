"""A small phantom slide and the outputs of a perfect inference on it."""

from dataclasses import replace
from pathlib import Path

from bundle.data.annotations import Annotation
from bundle.geometry import Size
from bundle.outputs import SaveGeoJSONd, SaveSummaryd
from bundle.outputs.glomeruli import AREA, PROBABILITY
from bundle.phantom import Phantom, PhantomSpec, write_phantom
from bundle.slide import open_slide

COUNTS = (5, 3, 4)
"""Normal, segmental and global glomeruli of the slide."""

SPEC = PhantomSpec(Size(1700, 1300), mpp=1.0, seed=4, counts=COUNTS)


def write_segmented(folder: Path, slide: str = "slide.tif", spec: PhantomSpec = SPEC) -> Path:
    """Write a slide, glomeruli.geojson and summary.json into `folder`; give the slide's path.

    Every glomerulus has a confidence of its own, 0.99, 0.98, ... in the order of the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    phantom = Phantom(spec)
    path = write_phantom(phantom, folder / slide)
    glomeruli = tuple(
        replace(
            g,
            properties={
                "objectType": "annotation",
                "isLocked": False,
                "measurements": {
                    PROBABILITY: round(0.99 - i / 100, 2),
                    AREA: round(g.polygon.area * spec.mpp**2, 1),
                },
            },
        )
        for i, g in enumerate(phantom.glomeruli)
    )
    with open_slide(path) as opened:
        item = {"image": opened, "glomeruli": Annotation(glomeruli), "name": ""}
        SaveGeoJSONd("glomeruli", folder)(item)
        SaveSummaryd("glomeruli", folder, provenance={"model_mpp": 4.0})(item)
    return path
