"""The tables of a crop store: one small Parquet file a slide as it goes, one large one and a CSV in the end.

pyarrow is optional and imported where it is needed; `CropWriter` sees that it is there.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd

from bundle.atomic import atomic_path
from bundle.findings.entities import COLUMNS, TEXT_COLUMNS

ROWS_AT_ONCE = 20_000
"""Rows of a row group: what merging holds in memory."""


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows with all of `entities.COLUMNS` as Parquet; no rows give a table without rows but with columns.

    Raises:
        OutputError: `path` cannot be written.
    """
    import pyarrow.parquet

    columns = {name: [row[name] for row in rows] for name in COLUMNS}
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(_typed(pd.DataFrame(columns)), temporary)


def merge_tables(parts: Iterable[Path], parquet: Path, csv: Path) -> None:
    """Write the rows of all `parts`, files of `write_rows`, into one Parquet and one CSV file, a few at a time.

    Raises:
        OutputError: a file cannot be written.
    """
    import pyarrow.csv
    import pyarrow.parquet

    with ExitStack() as stack:
        temporaries = [stack.enter_context(atomic_path(path)) for path in (parquet, csv)]
        schema = _typed(pd.DataFrame({name: [] for name in COLUMNS})).schema
        to_parquet = stack.enter_context(pyarrow.parquet.ParquetWriter(temporaries[0], schema))
        to_csv = stack.enter_context(pyarrow.csv.CSVWriter(temporaries[1], schema))
        for table in _batches(parts, schema):
            to_parquet.write_table(table)
            to_csv.write_table(table)


def write_slides(rows: Sequence[Mapping[str, Any]], parquet: Path, csv: Path) -> None:
    """Write the rows of slides as Parquet and CSV.

    Raises:
        OutputError: a file cannot be written.
    """
    frame = pd.DataFrame(list(rows))
    with atomic_path(parquet) as temporary:
        frame.to_parquet(temporary, index=False)
    with atomic_path(csv) as temporary:
        frame.to_csv(temporary, index=False)


def _batches(parts: Iterable[Path], schema: Any) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    waiting: list[Any] = []
    for part in parts:
        waiting.append(pyarrow.parquet.read_table(part, schema=schema))
        if sum(table.num_rows for table in waiting) >= ROWS_AT_ONCE:
            yield pyarrow.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pyarrow.concat_tables(waiting)


def _typed(frame: pd.DataFrame) -> Any:
    """The frame as an Arrow table whose types do not depend on its values."""
    import pyarrow

    kinds = {name: pyarrow.string() for name in TEXT_COLUMNS} | {"row": pyarrow.int64()}
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.float64())) for name in COLUMNS])
    return pyarrow.Table.from_pandas(frame, schema, preserve_index=False)
