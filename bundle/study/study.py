"""The whole study as one object that `configs/study.yaml` names: plan the cells, run them, write the tables."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.data.datalist import read_items
from bundle.errors import CellError, ConfigError, DatalistError
from bundle.study.plan import MIXED, NORMAL, SCLEROSIS, Cell, Network, Overrides, Plan, StudyTiles
from bundle.study.report import write_report
from bundle.study.running import Runner, ending_on_sigterm, run_cell, run_command

logger = logging.getLogger(__name__)


class Study:
    """Trains, fine-tunes and evaluates networks on a cohort, and writes the tables of Souza et al. 2025.

    Args:
        bundle_root: folder of the bundle; the commands run there.
        cohort: folder of normal.json (training, validation, test), mixed.json (training, validation) and
            sclerosis.json (test).
        output_dir: folder of all results; a study that was stopped goes on from what is there.
        networks: arguments of `bundle.study.plan.Network` by any id.
        tiles: arguments of `bundle.study.plan.StudyTiles`.
        only: names of the networks to run; all by default. Tables are of all that is there.
        overrides: settings of every command, nested as the config is; those of a network win.
        training: further settings for training on normal glomeruli.
        finetuning: further settings for fine-tuning.
        evaluation: further settings for evaluation.
        runner: how a command is run.

    Raises:
        ConfigError: `only` names a network that is not among `networks`.
    """

    def __init__(
        self,
        *,
        bundle_root: Path | str,
        cohort: Path | str,
        output_dir: Path | str,
        networks: Mapping[str, Mapping[str, Any]],
        tiles: Mapping[str, Any],
        only: Sequence[str] | None = None,
        overrides: Overrides | None = None,
        training: Overrides | None = None,
        finetuning: Overrides | None = None,
        evaluation: Overrides | None = None,
        runner: Runner = run_command,
    ) -> None:
        self.networks = {given["name"]: Network(**given) for given in networks.values()}
        self.only = list(self.networks) if only is None else list(only)
        unknown = [name for name in self.only if name not in self.networks]
        if unknown:
            raise ConfigError(f"only: no network {unknown[0]!r}; choose from {', '.join(self.networks)}")
        self.plan = Plan(
            root=Path(bundle_root).resolve(),
            cohort=Path(cohort).resolve(),
            output_dir=Path(output_dir).resolve(),
            tiles=StudyTiles(**tiles),
            overrides=overrides or {},
            training=training or {},
            finetuning=finetuning or {},
            evaluation=evaluation or {},
        )
        self.runner = runner

    def run(self) -> None:
        """Run what has not been run, then write the tables of all that is there.

        Raises:
            DatalistError: a datalist is missing or bad, or patients of the test were trained on.
            CellError: a cell failed; the others were run all the same.
            OutputError: a record or a table cannot be written.
        """
        _check_cohort(self.plan.cohort)
        cells = {name: list(self.plan.cells(network)) for name, network in self.networks.items()}
        with ending_on_sigterm():
            failures = self._run_cells([cell for name in self.only for cell in cells[name]])
        write_report([cell for of in cells.values() for cell in of], list(self.networks), self.plan.output_dir)
        logger.info("tables in %s", self.plan.output_dir / "study.md")
        if failures:
            others = f" ({len(failures) - 1} more cells failed or need it)" if len(failures) > 1 else ""
            raise CellError(f"{failures[0]}{others}; start the study again to run what is missing")

    def _run_cells(self, cells: Sequence[Cell]) -> list[CellError]:
        failures = []
        for cell in cells:
            try:
                run_cell(cell, self.plan.root, self.runner)
            except CellError as error:
                logger.error("%s", error)
                failures.append(error)
        return failures


def _check_cohort(cohort: Path) -> None:
    """The three datalists are there, and no patient of a test set was trained or validated on."""
    files = {name: cohort / f"{name}.json" for name in (NORMAL, MIXED, SCLEROSIS)}
    for file in files.values():
        if not file.is_file():
            raise DatalistError(f"{file}: missing; a cohort is a folder of normal.json, mixed.json and sclerosis.json")
    lists = {name: read_items(file) for name, file in files.items()}
    seen = {i.patient for name in (NORMAL, MIXED) for split in ("training", "validation") for i in lists[name][split]}
    for name in (NORMAL, SCLEROSIS):
        both = sorted(seen & {item.patient for item in lists[name]["test"]})
        if both:
            raise DatalistError(f"{files[name]}: patient {both[0]!r} is tested, but also in training; choose others")
