"""Which glomerulus has which lesion: from a table, or from the classes that the crops bring.

The table is a CSV with `entity_id` and a column a lesion: 0 or 1; 0, 1, 2, ... for a lesion in grades; empty where
nobody looked.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bundle.classes import CLASS_NAMES
from bundle.errors import FindingsError, reason_of
from bundle.findings.embedding_crops import DESCRIPTORS, KEY

MOST_GRADES: Final = 10
"""A column with higher numbers is a measurement, not a grade."""


@dataclass(frozen=True)
class Lesion:
    """One question with the answer yes or no.

    Attributes:
        name: of the lesion; "NAME>=2" asks whether it has grade 2 or more (Frank & Hall 2001).
        known: (n,) of which glomeruli the answer is known.
        present: (n,) the answer; False where it is not known.
    """

    name: str
    known: NDArray[np.bool_]
    present: NDArray[np.bool_]


def read_lesions(path: Path | str | None, table: pd.DataFrame) -> list[Lesion]:
    """The lesions of the glomeruli in `table`.

    Args:
        path: CSV; `None` takes the classes of `table`: one lesion for each class, where there are at least two.
        table: one row a glomerulus, with entity_id and class.

    Raises:
        FindingsError: the CSV is missing or malformed, or names no glomerulus of `table`; no lesion has both answers.
    """
    found = _of_classes(table) if path is None else _of_table(_read(Path(path), table), Path(path))
    usable = [lesion for lesion in found if 0 < lesion.present.sum() < lesion.known.sum()]
    if not usable:
        where = "the crops' classes" if path is None else str(path)
        raise FindingsError(f"{where}: no lesion is both present and absent; give a CSV of lesions with --labels")
    return usable


def _of_classes(table: pd.DataFrame) -> list[Lesion]:
    classes = table["class"].to_numpy()
    known = np.isin(classes, CLASS_NAMES)
    # With two classes the rarer one's question is the other's, answered the other way round.
    names = [name for name in CLASS_NAMES if (classes == name).any()]
    return [Lesion(name, known, classes == name) for name in (names[1:] if len(names) == 2 else names)]


def _read(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Columns of lesions, a row for each of `table`; NaN where nothing is known."""
    try:
        labels = pd.read_csv(path, dtype={KEY: str})
    except (OSError, ValueError) as error:
        raise FindingsError(f"{path}: labels cannot be read ({reason_of(error)})") from error
    if KEY not in labels:
        raise FindingsError(f"{path}: has no column {KEY!r}; it names the glomerulus of each row")
    if labels[KEY].duplicated().any():
        twice = labels[KEY][labels[KEY].duplicated()].iloc[0]
        raise FindingsError(f"{path}: {KEY} {twice} has two rows; keep one")
    if not labels[KEY].isin(table[KEY]).any():
        raise FindingsError(f"{path}: names none of the crops; its {KEY} must be theirs (embeddings.parquet has them)")
    lesions = [name for name in labels if name not in DESCRIPTORS]
    return labels.set_index(KEY).reindex(table[KEY])[lesions]


def _of_table(labels: pd.DataFrame, path: Path) -> list[Lesion]:
    found = []
    for name in labels:
        grades = pd.to_numeric(labels[name], errors="coerce").to_numpy(float)
        known = ~np.isnan(grades)
        bad = labels[name].notna().to_numpy() & ~known
        good = (grades[known] == grades[known].round()) & (grades[known] >= 0) & (grades[known] <= MOST_GRADES)
        if bad.any() or not good.all():
            value = labels[name].to_numpy()[bad][0] if bad.any() else grades[known][~good][0]
            raise FindingsError(
                f"{path}: column {name!r} holds {value}; write 0 and 1, grades to {MOST_GRADES}, or nothing"
            )
        highest = int(grades[known].max()) if known.any() else 0
        names = [(name, 1)] if highest < 2 else [(f"{name}>={grade}", grade) for grade in range(1, highest + 1)]
        found += [Lesion(str(question), known, np.nan_to_num(grades) >= grade) for question, grade in names]
    return found
