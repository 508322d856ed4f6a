"""What the association says, to read: counts, warnings, the pairs found, and what was set apart and why."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from bundle import __version__
from bundle.command_line import config_fingerprint
from bundle.findings.association_pairs import set_apart
from bundle.hashing import file_sha256

SHOWN: Final = 20
"""Pairs in the table where fewer were found."""

MOST: Final = 200
"""Pairs in the table at most; associations.csv has them all."""


@dataclass(frozen=True)
class Summary:
    """What was tested.

    Attributes:
        entities: the table of glomeruli.
        clinical: the clinical table.
        level: "patient" or "glomerulus".
        fdr: false-discovery rate of what is called found.
        covariates: held constant.
        glomeruli: of the patients in both tables.
        patients: in both tables.
        without_clinical: patients with glomeruli only.
        without_glomeruli: patients in the clinical table only.
    """

    entities: Path
    clinical: Path
    level: str
    fdr: float
    covariates: tuple[str, ...]
    glomeruli: int
    patients: int
    without_clinical: int
    without_glomeruli: int

    def warnings(self, table: pd.DataFrame) -> Iterator[str]:
        """What a reader must know before the results."""
        features = table.loc[table["p"].notna(), "feature"].nunique()
        if self.patients < features:
            yield (
                f"{self.patients} patients are fewer than {features} features: such a cohort finds strong effects "
                "only, and those look larger than they are; choose features beforehand"
            )
        if self.without_clinical or self.without_glomeruli:
            yield (
                f"{self.without_clinical} patients have glomeruli only and {self.without_glomeruli} clinical data "
                "only; they are left out"
            )
        if table["p"].isna().all():
            yield "no pair could be tested"

    def found(self, table: pd.DataFrame) -> str:
        """The result in one line."""
        found = int((table["q"] <= self.fdr).sum())
        return (
            f"{found} of {int(table['p'].notna().sum())} pairs tested found at a false-discovery rate of {self.fdr:g}"
        )


def report(table: pd.DataFrame, summary: Summary) -> str:
    """The Markdown of associations.md; `table` is of `associate`."""
    held = f", {', '.join(summary.covariates)} held constant" if summary.covariates else ""
    sections = [
        "# Clinical association",
        f"{summary.glomeruli} glomeruli of {summary.patients} patients; tested by {summary.level}{held}. "
        f"**{summary.found(table)}.**",
        *(f"**Warning:** {warning}." for warning in summary.warnings(table)),
        "![Heat map of all pairs](heatmap.png)",
        "![Effect against p](volcano.png)",
        "## Pairs",
        "Effect with its 95 % interval, which is not corrected for the number of pairs; q is Benjamini and Hochberg's "
        "over all pairs tested; missing are patients without feature, variable or covariate. An association is no "
        "cause. All pairs are in associations.csv, the features in features.csv.",
        _pairs(table, summary.fdr),
        *_untested(table),
        "## Made from",
        _provenance(summary),
    ]
    return "\n\n".join(sections) + "\n"


def _pairs(table: pd.DataFrame, fdr: float) -> str:
    tested = table[table["p"].notna()].sort_values("p", kind="stable")
    if tested.empty:
        return "None could be tested."
    shown = tested.head(min(max(SHOWN, int((tested["q"] <= fdr).sum())), MOST))
    rows = [
        {
            "feature": _cell(row["feature"]),
            "variable": _cell(row["variable"]),
            "test": row["test"],
            "effect": f"{row['measure']} {row['effect']:.2f} [{row['low']:.2f}, {row['high']:.2f}]",
            "p": f"{row['p']:.2g}",
            "q": f"{row['q']:.2g}" + (" *" if row["q"] <= fdr else ""),
            "patients": row["patients"],
            "missing": row["missing"],
            "sizes": row["sizes"],
        }
        for row in shown.to_dict("records")
    ]
    text = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
    return f"{text}\n\n\\* q at or below {fdr:g}. {len(shown)} of {len(tested)} pairs, the smallest p first."


def _untested(table: pd.DataFrame) -> Iterator[str]:
    """The section of what was set apart; nothing where all was tested."""
    reasons = pd.DataFrame(set_apart(table), columns=["reason", "pairs"])
    if len(reasons):
        yield "## Set apart"
        yield reasons.to_markdown(index=False, disable_numparse=True)


def _provenance(summary: Summary) -> str:
    files = [f"- `{path.name}`, sha256 {file_sha256(path)}" for path in (summary.entities, summary.clinical)]
    config = config_fingerprint()
    return "\n".join([*files, *([f"- config, sha256 {config}"] if config else []), f"- bundle {__version__}"])


def _cell(text: object) -> str:
    # A bar in a name would make one column two.
    return str(text).replace("|", "\\|")
