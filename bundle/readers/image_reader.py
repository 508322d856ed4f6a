"""PNG and JPEG: one level, decoded whole, without micrometres per pixel."""

from pathlib import Path

import numpy as np
from PIL import Image

from bundle.geometry import Size
from bundle.readers.base import Pixels, SlideFacts, over_background, read_error, whole

_MODES = ("RGB", "RGBA", "L", "LA", "P", "CMYK")


class ImageReader:
    """Pillow behind the `Reader` interface. Safe for threads: the pixels lie in memory."""

    def __init__(self, path: Path):
        """Decode the image; raises `SlideReadError` when it is truncated, huge, or neither 8-bit RGB nor gray."""
        self.name = "pillow"
        try:
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                if image.mode not in _MODES:
                    raise read_error(path, f"has pixels of mode {image.mode}, not 8-bit RGB; convert it to RGB")
                rgba = np.asarray(image.convert("RGBA"))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise read_error(path, f"too large to decode whole ({error}); convert it to a pyramidal TIFF") from error
        except (OSError, SyntaxError, ValueError) as error:
            raise read_error(path, f"cannot be decoded ({error}); copy it again") from error
        self._pixels = over_background(rgba)
        size = Size(self._pixels.shape[1], self._pixels.shape[0])
        self.facts = SlideFacts((size,), None, None, whole(size))

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """See `Reader.read`."""
        return self._pixels[y : y + height, x : x + width]

    def close(self) -> None:
        """See `Reader.close`."""
        self._pixels = np.empty((0, 0, 3), np.uint8)
