"""The association of glomeruli with the clinic as one object that `configs/association.yaml` names."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd
from monai.utils import ensure_tuple

from bundle.atomic import write_text
from bundle.errors import ConfigError, FindingsError
from bundle.findings.aggregation import Selection, measured, patient_features, read_entities, select
from bundle.findings.association_pairs import Cohort, Limits, associate, associate_glomeruli
from bundle.findings.association_plots import heat_map, volcano
from bundle.findings.association_report import Summary, report
from bundle.findings.clinical import read_clinical, read_variables

logger = logging.getLogger(__name__)

LEVELS: Final = ("patient", "glomerulus")


class Association:
    """Tests every feature of the glomeruli against every clinical variable, and writes tables and plots.

    Args:
        entities: table of glomeruli, Parquet or CSV: entity_id, patient, and numeric columns.
        clinical: CSV with a row a patient.
        output_dir: folder of associations.csv, associations.md, features.csv, heatmap.png and volcano.png.
        variables: declaration of the clinical variables or its YAML file, see `bundle.findings.clinical`; `None` takes
            the YAML file beside the clinical table.
        covariates: names of variables that are held constant; they are not tested themselves.
        patient_column: of the clinical table.
        level: "patient" tests features aggregated per patient; "glomerulus" fits mixed models to the glomeruli.
        selection: arguments of `bundle.findings.aggregation.Selection`.
        statistics: by which glomeruli are aggregated.
        limits: arguments of `bundle.findings.association_pairs.Limits`.
        fdr: false-discovery rate at which pairs are called found, 0 to 1.
        progress: show a bar.

    Raises:
        ConfigError: a setting that cannot be meant.
    """

    def __init__(
        self,
        *,
        entities: Path | str | None,
        clinical: Path | str | None,
        output_dir: Path | str,
        variables: Mapping[str, Any] | Path | str | None = None,
        covariates: Sequence[str] | str = (),
        patient_column: str = "patient",
        level: str = "patient",
        selection: Mapping[str, Any] | None = None,
        statistics: Sequence[str] = ("mean", "sd", "median", "q10", "q90"),
        limits: Mapping[str, int] | None = None,
        fdr: float = 0.05,
        progress: bool = True,
    ) -> None:
        if entities is None or clinical is None:
            raise ConfigError("give --entities, the table of glomeruli, and --clinical, the CSV with a row a patient")
        if level not in LEVELS:
            raise ConfigError(f"level {level!r}: must be one of {', '.join(LEVELS)}")
        if not 0 < fdr < 1:
            raise ConfigError(f"fdr {fdr}: must be between 0 and 1")
        self.entities, self.clinical, self.output_dir = Path(entities), Path(clinical), Path(output_dir)
        self.declared, self.covariates = variables, [str(name) for name in ensure_tuple(covariates)]
        self.patient_column, self.level = patient_column, level
        self.selection = Selection(**(selection or {}))
        self.statistics = [str(name) for name in ensure_tuple(statistics)]
        self.limits, self.fdr, self.progress = Limits(**(limits or {})), fdr, progress

    def run(self) -> pd.DataFrame:
        """Test all pairs, write everything, return the table of `associate`.

        Raises:
            FindingsError: a table is malformed, or the two have no patient in common.
            ConfigError: a covariate that is not declared or a survival time, an unknown statistic, or a package that is
                not installed.
            OutputError: an output cannot be written.
        """
        glomeruli = select(read_entities(self.entities), self.selection, str(self.entities))
        cohort = self._cohort()
        features = patient_features(glomeruli, self.selection, self.statistics, str(self.entities))
        matched = self._match(features.index, cohort.clinical.index)
        clinical = Cohort(cohort.clinical.loc[matched], cohort.variables, cohort.covariates)
        if self.level == "patient":
            table = associate(features.loc[matched], clinical, self.limits, progress=self.progress)
        else:
            rows = measured(glomeruli, self.selection, str(self.entities))
            rows = rows[rows["patient"].isin(matched)]
            table = associate_glomeruli(rows, clinical, self.limits, progress=self.progress)
        summary = Summary(
            entities=self.entities,
            clinical=self.clinical,
            level=self.level,
            fdr=self.fdr,
            covariates=tuple(self.covariates),
            glomeruli=int(glomeruli["patient"].isin(matched).sum()),
            patients=len(matched),
            without_clinical=len(features) - len(matched),
            without_glomeruli=len(cohort.clinical) - len(matched),
        )
        self._write(table, features, summary)
        return table

    def _cohort(self) -> Cohort:
        """The clinical table, with what is tested and what is held constant."""
        declared = {variable.name: variable for variable in read_variables(self.declared, self.clinical)}
        unknown = [name for name in self.covariates if name not in declared]
        if unknown:
            raise ConfigError(f"covariates: no variable {unknown[0]!r}; declared are {', '.join(declared)}")
        covariates = [declared[name] for name in self.covariates]
        survival = [variable.name for variable in covariates if len(variable.columns) > 1]
        if survival:
            raise ConfigError(f"covariates: {survival[0]!r} is a survival time, which cannot be held constant")
        tested = [variable for name, variable in declared.items() if name not in self.covariates]
        if not tested:
            raise ConfigError("covariates: every declared variable is one; none is left to be tested")
        clinical = read_clinical(self.clinical, list(declared.values()), self.patient_column)
        return Cohort(clinical, tested, covariates)

    def _match(self, found: pd.Index, known: pd.Index) -> list[str]:
        matched = [patient for patient in known if patient in found]
        if not matched:
            raise FindingsError(
                f"{self.clinical}: none of its patients (such as {known[0]!r}) is in {self.entities} "
                f"(such as {found[0]!r}); make the ids of both tables the same"
            )
        return matched

    def _write(self, table: pd.DataFrame, features: pd.DataFrame, summary: Summary) -> None:
        texts = {
            "features.csv": features.to_csv(),
            "associations.csv": table.to_csv(index=False),
            "associations.md": report(table, summary),
        }
        for name, text in texts.items():
            write_text(self.output_dir / name, text)
        heat_map(table, self.output_dir / "heatmap.png", self.fdr)
        volcano(table, self.output_dir / "volcano.png", self.fdr)
        for warning in summary.warnings(table):
            logger.warning("%s", warning)
        logger.info("%s; see %s", summary.found(table), self.output_dir / "associations.md")
