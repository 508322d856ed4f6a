"""Write a phantom slide: pyramidal TIFF and QuPath's GeoJSON beside it, in memory that its height does not change."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bundle.data.annotations import write_geojson
from bundle.outputs.pyramid import write_pyramid
from bundle.phantom.phantom import Phantom


def write_phantom(phantom: Phantom, path: Path | str, progress: Callable[[int], object] | None = None) -> Path:
    """Write slide and truth; give the slide's path.

    A slide is JPEG of quality 87; an oracle is lossless in all levels, so that its colours stay those of the classes.

    Args:
        phantom: what to write.
        path: the slide's file (`.tif` or `.tiff`), or a folder, in which it becomes `slide.tif`. The truth has the
            same name with `.geojson`.
        progress: told the number of rows of pixels painted since the last call.

    Raises:
        OutputError: a file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".tif", ".tiff"):
        path = path / "slide.tif"
    spec = phantom.spec

    def read(x: int, y: int, width: int, height: int) -> np.ndarray:
        band = phantom.read(x, y, width, height)
        if progress is not None:
            progress(height)
        return band

    write_pyramid(
        path,
        spec.size,
        read,
        mpp=spec.mpp,
        channels=3,
        compression="deflate" if spec.oracle else "jpeg",
        downsampling="nearest" if spec.oracle else "mean",
        description=f"Phantom kidney slide, computer-generated: {spec}",
    )
    write_geojson(phantom.annotation, path.with_suffix(".geojson"))
    return path
