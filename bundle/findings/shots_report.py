"""N-shot curves as a Markdown table and a picture."""

from pathlib import Path
from typing import Final

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from bundle.atomic import atomic_path

PANEL: Final = ("lesion", "transfer", "train", "test_group")
"""A picture's panel, and a table's block of rows."""


def shots_markdown(curves: pd.DataFrame, lines: str = "classifier") -> str:
    """Tables "AUC [interval]", a column a number of shots; a block each direction.

    Args:
        curves: of `transfer_curves`.
        lines: column whose values are the rows of a table.
    """
    blocks = []
    for (lesion, transfer, train, test), block in curves.groupby(list(PANEL), sort=False):
        first = block.iloc[0]
        title = (
            f"**{lesion}, {transfer}: trained on {train}, tested on {test}** ({first['test']} glomeruli of "
            f"{first['test_patients']} patients, {first['test_present']} with the lesion)"
        )
        cells = block.assign(
            cell=[f"{r.auc:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in block.itertuples()],
            shots=block["shots"].astype(int),
        )
        table = cells.pivot(index=lines, columns="shots", values="cell").loc[block[lines].drop_duplicates()]
        blocks.append(f"{title}\n\n{table.fillna('').reset_index().to_markdown(index=False, disable_numparse=True)}")
    return "\n\n".join(blocks) + "\n"


def plot_shots(curves: pd.DataFrame, path: Path, lines: str = "classifier") -> None:
    """Write a picture: a panel each direction, a line each value of `lines` with its interval.

    Args:
        curves: of `transfer_curves`, not empty.
        path: .png
        lines: column whose values are the lines.

    Raises:
        OutputError: `path` cannot be written.
    """
    panels = list(curves.groupby(list(PANEL), sort=False))
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.6 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axis, ((lesion, _, train, test), panel) in zip(axes, panels, strict=False):
        for name, line in panel.groupby(lines, sort=False):
            axis.plot(line["shots"], line["auc"], marker="o", markersize=4, label=name)
            axis.fill_between(line["shots"], line["low"], line["high"], alpha=0.12)
        axis.set_xscale("log", base=2)
        axis.set_xticks(sorted(panel["shots"].unique()), [str(s) for s in sorted(panel["shots"].unique())])
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
        axis.set_ylim(0.3, 1.01)
        axis.set_title(f"{lesion.replace('_', ' ')}: {train} to {test}")
        axis.set_xlabel("shots of each class")
        axis.grid(alpha=0.3)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis in axes[::columns]:
        axis.set_ylabel("AUC")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
