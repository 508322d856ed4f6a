"""From one row an image to the tables of a paper: per stain, patient and slide, as CSV and Markdown."""

from pathlib import Path

import pandas as pd

from bundle.atomic import atomic_path

ALL = "ALL"


def summarise(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """Mean, standard deviation (n - 1) and number of images of every Dice column per value of `by`, and over ALL.

    Args:
        frame: `ClassDice.frame()`, one row an image.
        by: a descriptor column, e.g. "stain" or "patient".

    Returns:
        One row a group; columns DICE_mean, DICE_std, DICE_n. NaN rows of a class do not count; a group without any is
        NaN with n = 0.
    """
    dice = [column for column in frame if column.startswith("dice_")]
    groups = [(str(value), group) for value, group in frame.groupby(by, sort=True)] + [(ALL, frame)]
    rows = []
    for name, group in groups:
        row: dict[str, object] = {by: name, "images": len(group)}
        for column in dice:
            row |= {f"{column}_mean": group[column].mean(), f"{column}_std": group[column].std()}
            row[f"{column}_n"] = int(group[column].notna().sum())
        rows.append(row)
    return pd.DataFrame(rows)


def markdown(summary: pd.DataFrame, by: str) -> str:
    """A summary as a Markdown table: "mean ± std (n)" per class."""
    names = [c.removeprefix("dice_").removesuffix("_mean") for c in summary if c.endswith("_mean")]
    table = summary[[by, "images"]].copy()
    for name in names:
        columns = [f"dice_{name}_{part}" for part in ("mean", "std", "n")]
        table[name.replace("_", " ")] = [_cell(*values) for values in summary[columns].itertuples(index=False)]
    return table.to_markdown(index=False)


def _cell(mean: float, std: float, n: int) -> str:
    if n == 0:
        return "n/a (0)"
    return f"{mean:.3f} ({n})" if pd.isna(std) else f"{mean:.3f} ± {std:.3f} ({n})"


def write_tables(frame: pd.DataFrame, folder: Path | str, title: str) -> None:
    """Write dice_per_image.csv, dice_per_stain.csv, dice_per_patient.csv and dice.md into `folder`."""
    folder = Path(folder)
    sections = [f"# {title}", "Dice: mean ± standard deviation (images whose annotation has the class)."]
    _write(folder / "dice_per_image.csv", frame.to_csv(index=False))
    for by in ("stain", "patient"):
        summary = summarise(frame, by)
        _write(folder / f"dice_per_{by}.csv", summary.to_csv(index=False))
        sections += [f"## Per {by}", markdown(summary, by)]
    columns = [c for c in frame if not c.startswith("false_positive")]
    sections += ["## Per image", frame[columns].to_markdown(index=False, floatfmt=".3f")]
    _write(folder / "dice.md", "\n\n".join(sections) + "\n")


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
