"""Write a crop store in a stream: a shard of crops in memory, whatever the number of slides.

Crops go out by whole shards; a slide counts once all its crops are out and its rows are in `SLIDES/NAME.parquet`, which
its `NAME.json` seals. A run that is killed loses the slides of the last shard, and the same command goes on behind the
last sealed one. Every file is written beside its name and moved to it.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import zarr

from bundle.atomic import write_text
from bundle.cohort.lock import hold
from bundle.errors import ConfigError, OutputError
from bundle.findings.entities_crop import Crop, Cropper
from bundle.findings.extras import extra
from bundle.findings.store import ENTITIES, FORMAT, IMAGE, MASK, SLIDES
from bundle.findings.store_tables import merge_tables, write_rows, write_slides

SHARD_CROPS: Final = 64
"""Crops of a shard file: at 320 px 26 MB before compression; a million crops are 16,000 files an array."""


@dataclass(frozen=True)
class _Finished:
    """A slide whose rows wait for their crops to be written."""

    key: str
    source: str
    summary: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]
    stop: int


class CropWriter:
    """Appends slides to a crop store; a context manager that finishes the tables where nothing went wrong.

    Args:
        folder: of the store; a store that is there is continued.
        cropper: side and resolution of the crops; None for a store of geometry only.
        shard_crops: crops of a shard.

    Raises:
        ConfigError: the store in `folder` has other crops, or pyarrow is missing.
        OutputError: the folder cannot be written, or another run writes to it.
    """

    def __init__(self, folder: Path | str, cropper: Cropper | None, shard_crops: int = SHARD_CROPS) -> None:
        extra("pyarrow", "crop stores")
        self.folder = Path(folder)
        self._cropper = cropper
        self._shard = shard_crops
        self._stack = ExitStack()

    def __enter__(self) -> "CropWriter":
        with ExitStack() as stack:
            if not stack.enter_context(hold(self.folder / ".lock")):
                raise OutputError(f"{self.folder}: another run is writing to this store; wait for it")
            self._group = self._open_group()
            seals = self._seals()
            self._stack = stack.pop_all()
        self._sealed = {seal["key"]: seal["source"] for seal in seals}
        self._waiting: list[_Finished] = []
        self._rows: list[dict[str, Any]] = []
        side = self._cropper.crop_px if self._cropper is not None else 0
        self._buffer = {
            IMAGE: np.zeros((self._shard, side, side, 3), np.uint8),
            MASK: np.zeros((self._shard, side, side), np.uint8),
        }
        self._first = -1  # row of the buffer's first crop; none yet
        self._out = max((seal["stop"] for seal in seals), default=0)  # rows whose crops are on disk
        self._rewind(self._out)
        return self

    def has(self, key: str, source: str) -> bool:
        """Whether the slide `key` is in the store already.

        Args:
            key: name of the slide, unique in the store.
            source: fingerprint of what its rows are made from.

        Raises:
            ConfigError: it is there, made from another source.
        """
        if key in self._sealed and self._sealed[key] != source:
            raise ConfigError(
                f"{self.folder}: slide {key!r} is there with another annotation; use another output folder"
            )
        return key in self._sealed

    def add(self, row: Mapping[str, Any], crop: Crop | None) -> None:
        """Append an entity of the slide in work; its number becomes the column "row"."""
        self._rows.append({**row, "row": self._count})
        if crop is not None:
            place = self._count - self._first
            self._buffer[IMAGE][place], self._buffer[MASK][place] = crop.image, crop.mask
        self._count += 1
        if self._count - self._first == self._shard:
            self._flush()
            self._first = self._count

    def finish_slide(self, key: str, source: str, summary: Mapping[str, Any]) -> None:
        """Close the slide in work: its entities were all added.

        Args:
            key: see `has`.
            source: see `has`.
            summary: its row of the table of slides.

        Raises:
            OutputError: its table cannot be written.
        """
        self._waiting.append(_Finished(key, source, summary, tuple(self._rows), self._count))
        self._rows = []
        self._seal()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Rows of the slide in work."""
        return self._rows

    def drop_slide(self) -> None:
        """Forget the entities of the slide in work."""
        self._rewind(self._count - len(self._rows))
        self._rows = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None:
                self._finish()

    def _finish(self) -> None:
        self._flush()
        self._seal()
        seals = sorted(self._seals(), key=lambda seal: (seal["start"], seal["stop"], seal["key"]))
        parts = (self._part(seal["key"], "parquet") for seal in seals)
        write_slides([seal["summary"] for seal in seals], *self._tables(SLIDES))
        merge_tables(parts, *self._tables(ENTITIES))

    def _seals(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text(encoding="utf-8")) for path in (self.folder / SLIDES).glob("[!.]*.json")]

    def _tables(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.parquet", self.folder / f"{name}.csv"

    def _part(self, key: str, suffix: str) -> Path:
        return self.folder / SLIDES / f"{quote(key, safe=' @,()+')}.{suffix}"

    def _flush(self) -> None:
        """Write the buffered crops to their shard."""
        if self._cropper is not None:
            for name, buffer in self._buffer.items():
                array = self._array(name)
                array.resize((self._count, *array.shape[1:]))
                if self._count > self._first:
                    array[self._first : self._count] = buffer[: self._count - self._first]
        self._out = self._count

    def _seal(self) -> None:
        """Write the tables of the slides whose crops are all out."""
        while self._waiting and self._waiting[0].stop <= self._out:
            slide = self._waiting.pop(0)
            write_rows(slide.rows, self._part(slide.key, "parquet"))
            start = slide.stop - len(slide.rows)
            seal = {"key": slide.key, "source": slide.source, "start": start, "stop": slide.stop}
            write_text(self._part(slide.key, "json"), json.dumps({**seal, "summary": slide.summary}))
            self._sealed[slide.key] = slide.source

    def _rewind(self, count: int) -> None:
        """Make `count` the number of rows: later ones are forgotten, the shard it falls into is back in the buffer."""
        first = count // self._shard * self._shard
        if first != self._first and count > first and self._cropper is not None:
            for name, buffer in self._buffer.items():
                buffer[: count - first] = self._array(name)[first:count]
        self._first, self._count, self._out = first, count, min(self._out, count)

    def _array(self, name: str) -> Any:
        return self._group[name]

    def _open_group(self) -> zarr.Group:
        cropper = self._cropper
        attributes: dict[str, Any] = {
            "format": FORMAT,
            "crop_px": cropper.crop_px if cropper is not None else None,
            "crop_mpp": cropper.crop_mpp if cropper is not None else None,
            "shard_crops": self._shard,
        }
        if not (self.folder / "zarr.json").is_file():
            group = zarr.open_group(self.folder, mode="a", attributes=attributes)
        else:
            group = zarr.open_group(self.folder, mode="r+")
        if dict(group.attrs) != attributes:
            raise ConfigError(
                f"{self.folder}: holds crops of {dict(group.attrs)}, not {attributes}; use another folder"
            )
        for name, channels in ((IMAGE, (3,)), (MASK, ())):
            if cropper is not None and name not in group:  # a run may have been killed between the two
                shape = (cropper.crop_px, cropper.crop_px, *channels)
                group.create_array(
                    name, shape=(0, *shape), chunks=(1, *shape), shards=(self._shard, *shape), dtype="uint8"
                )
        return group
