"""The study's own figures, read from `published.yaml`: what stands beside ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

LEVELS: Final = {"slides": "whole slides", "crops": "crops"}
"""Folder of an evaluation's tables, and what its images are."""


@dataclass(frozen=True)
class PaperTable:
    """A table of the study.

    Attributes:
        number: in the study.
        title: what it shows.
        label: the annotated class, a name of `bundle.classes`.
        stage: of the weights: trained on `normal`, or then fine-tuned on `mixed`.
        test_set: `normal` or `sclerosis`.
        figures: mean Dice by (level, stain, network), stain ALL among them.
    """

    number: int
    title: str
    label: str
    stage: str
    test_set: str
    figures: Mapping[tuple[str, str, str], float]

    @property
    def levels(self) -> list[str]:
        """Those of `LEVELS` that the table has."""
        return [level for level in LEVELS if any(key[0] == level for key in self.figures)]


@dataclass(frozen=True)
class Published:
    """The study's tables by number, the order of its networks, and where it all is from."""

    source: str
    networks: tuple[str, ...]
    tables: Mapping[int, PaperTable]


@cache
def published() -> Published:
    """The figures of Souza et al. 2025."""
    content = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
    networks = tuple(content["networks"])
    tables = [_table(entry, networks) for entry in content["tables"]]
    return Published(content["source"], networks, {table.number: table for table in tables})


def _table(entry: Mapping[str, Any], networks: tuple[str, ...]) -> PaperTable:
    figures = {
        (level, stain, network): float(value)
        for level in LEVELS
        for stain, row in entry.get(level, {}).items()
        for network, value in zip(networks, row, strict=False)  # a short row has no figure for the last networks
    }
    return PaperTable(entry["number"], entry["title"], entry["class"], entry["stage"], entry["set"], figures)
