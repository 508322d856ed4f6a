"""Embeddings of crops: one vector a glomerulus, in a Parquet file keyed by entity_id.

The file says which encoder made it, so that vectors of one encoder never meet a classifier of another. It is written in
a stream: memory does not grow with the number of crops.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from bundle.atomic import atomic_path
from bundle.errors import FindingsError, reason_of
from bundle.findings.embedding_crops import DESCRIPTORS, KEY, ROW, Crops
from bundle.findings.encoders import Encoder
from bundle.findings.extras import extra

if TYPE_CHECKING:
    import pyarrow

logger = logging.getLogger(__name__)

VECTOR: Final = "embedding"
_ENCODER: Final = b"encoder"


@dataclass(frozen=True)
class Embeddings:
    """Vectors and what they are of.

    Attributes:
        table: one row a glomerulus, at least `DESCRIPTORS`.
        values: float32 (rows, D).
        encoder: what made them, `Encoder.describe`.
    """

    table: pd.DataFrame
    values: NDArray[np.float32]
    encoder: Mapping[str, Any]

    @property
    def patients(self) -> NDArray[np.str_]:
        """Patient of each row, (rows,)."""
        return self.table["patient"].astype(str).to_numpy(str)


def embed_crops(
    crops: Crops, encoder: Encoder, path: Path | str, batch_size: int = 32, progress: bool = True
) -> Embeddings:
    """The embeddings of all crops, from `path` where it holds just these, else made and written there.

    Args:
        crops: all of one size.
        encoder: called with batches.
        path: .parquet
        batch_size: crops at once.
        progress: whether a bar is shown.

    Raises:
        FindingsError: the file at `path` is damaged or holds no embeddings.
        ConfigError: pyarrow is not installed.
        OutputError: `path` cannot be written.
        BundleError: a crop cannot be read.
    """
    path = Path(path)
    if path.exists():
        found = read_embeddings(path)
        if found.encoder == encoder.describe() and found.table[KEY].tolist() == crops.table[KEY].tolist():
            logger.info("%s holds these %d embeddings already", path, len(found.table))
            return Embeddings(crops.table.reset_index(drop=True), found.values, found.encoder)
    batches = _batches(crops, encoder, batch_size, progress)
    write_embeddings(batches, encoder.describe(), path)
    return Embeddings(crops.table.reset_index(drop=True), read_embeddings(path).values, encoder.describe())


def write_embeddings(
    batches: Iterator[tuple[pd.DataFrame, NDArray[np.float32]]], encoder: Mapping[str, Any], path: Path | str
) -> None:
    """Write batches of (rows with `DESCRIPTORS`, vectors (B, D)) as they come; the file is whole or not there.

    Raises:
        ConfigError: pyarrow is not installed.
        OutputError: `path` cannot be written.
    """
    pa, parquet = _pyarrow()
    writer = None
    with atomic_path(path) as temporary:
        try:
            for rows, vectors in batches:
                batch = _arrow(pa, rows, vectors, encoder)
                if writer is None:
                    writer = parquet.ParquetWriter(temporary, batch.schema)
                writer.write_table(batch)
        finally:
            if writer is not None:
                writer.close()


def read_embeddings(path: Path | str) -> Embeddings:
    """What `write_embeddings` wrote.

    Raises:
        FindingsError: the file is missing, damaged or holds no embeddings.
        ConfigError: pyarrow is not installed.
    """
    pa, parquet = _pyarrow()
    try:
        table = parquet.read_table(path)
        encoder = json.loads((table.schema.metadata or {})[_ENCODER])
        vectors = table.column(VECTOR).combine_chunks()
        values = vectors.flatten().to_numpy().reshape(len(table), vectors.type.list_size)
        return Embeddings(table.drop_columns([VECTOR]).to_pandas(), values.astype(np.float32), encoder)
    except (OSError, LookupError, ValueError, AttributeError, pa.ArrowException) as error:
        reason = reason_of(error)
        raise FindingsError(f"{path}: holds no embeddings ({reason}); delete it to have them made anew") from error


def _batches(
    crops: Crops, encoder: Encoder, batch_size: int, progress: bool
) -> Iterator[tuple[pd.DataFrame, NDArray[np.float32]]]:
    with tqdm(total=len(crops), desc="embedding", unit="glomerulus", disable=not progress) as bar:
        for start in range(0, len(crops), batch_size):
            rows = crops.table.iloc[start : start + batch_size]
            pixels = [crops.read(int(row)) for row in rows[ROW]]
            images = np.stack([image for image, _ in pixels])
            masks = np.stack([mask for _, mask in pixels]) > 0
            yield rows, encoder(images, masks)
            bar.update(len(rows))


def _arrow(pa: Any, rows: pd.DataFrame, vectors: NDArray[np.float32], encoder: Mapping[str, Any]) -> "pyarrow.Table":
    # As text: a batch in which no glomerulus has a class must not have another schema than the next one.
    columns = {name: pa.array(rows[name].astype(object).fillna("").astype(str), pa.string()) for name in DESCRIPTORS}
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    columns[VECTOR] = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    return pa.table(columns).replace_schema_metadata({_ENCODER: json.dumps(dict(encoder), sort_keys=True)})


def _pyarrow() -> tuple[Any, Any]:
    return extra("pyarrow", "embeddings"), extra("pyarrow.parquet", "embeddings")
