"""Read a crop store: every glomerulus of a cohort as one row of a table and one crop at fixed µm/px.

    store = CropStore.open("CROPS")
    image, mask = store.read(store.table["row"][0])

`CROPS/` holds `image` (N, S, S, 3) and `mask` (N, S, S), sharded zarr arrays, `entities.parquet` and `entities.csv`,
`slides.parquet` and `slides.csv`. `store_writer` writes it.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from bundle.errors import ConfigError
from bundle.findings.extras import extra

IMAGE: Final = "image"
MASK: Final = "mask"
ENTITIES: Final = "entities"
SLIDES: Final = "slides"
FORMAT: Final = 1
"""Version of the layout, in the attributes of the zarr group."""


@dataclass(frozen=True)
class CropStore:
    """A finished store, read only; made by `open`.

    Attributes:
        folder: where it lies.
        crop_px: side of the crops; None in a store of geometry only.
        crop_mpp: their µm per px; likewise.
    """

    folder: Path
    crop_px: int | None
    crop_mpp: float | None

    @classmethod
    def open(cls, folder: Path | str) -> "CropStore":
        """Open the store in `folder`.

        Raises:
            ConfigError: there is no store, the run that writes it has not come to its end, it is of another format, or
                pyarrow is not installed.
        """
        extra("pyarrow", "crop stores")
        folder = Path(folder)
        if not (folder / "zarr.json").is_file():
            raise ConfigError(f"{folder}: is no crop store; make one with configs/entities.yaml")
        if not (folder / f"{ENTITIES}.parquet").is_file():
            raise ConfigError(f"{folder}: this crop store is not finished; run the same command again")
        attributes = zarr.open_group(folder, mode="r").attrs
        if attributes.get("format") != FORMAT:
            raise ConfigError(
                f"{folder}: a crop store of format {attributes.get('format')}, not {FORMAT}; make it anew"
            )
        return cls(folder, _optional(attributes["crop_px"], int), _optional(attributes["crop_mpp"], float))

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row an entity, columns `entities.COLUMNS`; the crop of a row is at `row`, from 0 without gaps."""
        return pd.read_parquet(self.folder / f"{ENTITIES}.parquet")

    @cached_property
    def slides(self) -> pd.DataFrame:
        """One row a slide, columns as `slide_table.SlideTable` says."""
        return pd.read_parquet(self.folder / f"{SLIDES}.parquet")

    @property
    def has_crops(self) -> bool:
        """Whether there are crops, or geometry only."""
        return self.crop_px is not None

    def __len__(self) -> int:
        return len(self.table)

    def read(self, row: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A crop: RGB (S, S, 3) and mask (S, S), the class index of this glomerulus and 0 elsewhere.

        Raises:
            IndexError: no such row.
            ConfigError: the store has no crops.
        """
        if not self.has_crops:
            raise ConfigError(f"{self.folder}: holds no crops, it was made with geometry_only; make it from slides")
        if not 0 <= row < len(self):
            raise IndexError(f"{self.folder}: no row {row}; there are {len(self)}")
        image, mask = self._arrays
        return np.asarray(image[int(row)]), np.asarray(mask[int(row)])

    @cached_property
    def _arrays(self) -> tuple[Any, Any]:
        group = zarr.open_group(self.folder, mode="r")
        return group[IMAGE], group[MASK]


def _optional(value: Any, kind: type) -> Any:
    return None if value is None else kind(value)
