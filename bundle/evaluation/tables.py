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
    return pd.concat([summary[[by, "images"]], _cells(summary)], axis=1).to_markdown(index=False)


def one_line(frame: pd.DataFrame) -> str:
    """The last row of the summaries, ALL, for a log: "glomerulus 0.921 ± 0.030 (5), normal n/a (0), ..."."""
    overall = _cells(summarise(frame, "stain")).iloc[-1]
    return ", ".join(f"{name} {cell}" for name, cell in overall.items())


def _cells(summary: pd.DataFrame) -> pd.DataFrame:
    """Text per row of a summary and Dice."""
    names = [c.removeprefix("dice_").removesuffix("_mean") for c in summary if c.endswith("_mean")]
    parts = {name: summary[[f"dice_{name}_{part}" for part in ("mean", "std", "n")]] for name in names}
    return pd.DataFrame(
        {name.replace("_", " "): [_cell(*row) for row in part.itertuples(index=False)] for name, part in parts.items()}
    )


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
