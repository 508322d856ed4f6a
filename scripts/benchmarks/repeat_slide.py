"""Make a huge slide of a small one by repeating its stored tiles; nothing is encoded anew.

    python scripts/benchmarks/repeat_slide.py slide.tif huge.tif --times 5

Takes a tiled pyramid of JPEG tiles, and of its levels those whose sides are whole tiles: with tiles of 256 px a slide
of 20,480 px has five.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import tifffile

from bundle.atomic import atomic_path


def main() -> int:
    """Write the slide; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--times", type=int, default=5, help="along each axis")
    options = parser.parse_args()
    with (
        tifffile.TiffFile(options.slide) as tiff,
        atomic_path(options.output) as temporary,
        tifffile.TiffWriter(temporary, bigtiff=True) as writer,
    ):
        levels = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage) and _is_whole(page)]
        if not levels:
            print(f"error: {options.slide}: no level whose sides are whole tiles", file=sys.stderr)
            return 1
        for index, page in enumerate(levels):
            writer.write(
                _tiles(page, options.times),
                shape=(page.imagelength * options.times, page.imagewidth * options.times, 3),
                dtype="uint8",
                tile=(page.tilelength, page.tilewidth),
                photometric="ycbcr",
                compression="jpeg",
                subsampling=page.subsampling,
                subfiletype=int(index > 0),
                resolution=page.resolution,
                resolutionunit=page.resolutionunit,
                metadata=None,
            )
    return 0


def _is_whole(page: tifffile.TiffPage) -> bool:
    if not page.is_tiled or page.jpegtables is not None:
        return False
    return page.imagewidth % page.tilewidth == 0 and page.imagelength % page.tilelength == 0


def _tiles(page: tifffile.TiffPage, times: int) -> Iterator[bytes]:
    across = page.imagewidth // page.tilewidth
    file = page.parent.filehandle
    for _ in range(times):
        for row in range(page.imagelength // page.tilelength):
            spans = range(row * across, (row + 1) * across)
            tiles = [bytes(file.read_array("u1", page.databytecounts[i], page.dataoffsets[i])) for i in spans]
            for _ in range(times):
                yield from tiles


if __name__ == "__main__":
    sys.exit(main())
