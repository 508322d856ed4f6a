"""Tables of a small cohort as a user has them: glomeruli, a clinical CSV, and the YAML that declares it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bundle.findings.association_simulation import simulate

DECLARED = """
egfr: {kind: continuous}
stage: {kind: ordinal, levels: ['1', '2', '3a', '3b', '4']}
diabetes: {kind: binary, levels: ['no', 'yes']}
diagnosis: {kind: categorical}
failure: {kind: survival, time: months, event: failed}
"""
STAGES = np.array(["1", "2", "3a", "3b", "4"])
DIAGNOSES = np.array(["IgA", "lupus", "membranous"])


@dataclass(frozen=True)
class Files:
    """Where the tables lie; the YAML is beside the clinical CSV."""

    entities: Path
    clinical: Path


def write_files(folder: Path, seed: int = 0) -> Files:
    """Write a simulated cohort; with seed 0, od_mean and diabetes are the pair that is seen best."""
    cohort = simulate(np.random.default_rng(seed))
    clinical = cohort.clinical
    table = pd.DataFrame(
        {
            "patient": clinical.index,
            "egfr": clinical["egfr"].round(4),
            "stage": STAGES[clinical["stage"].astype(int)],
            "diabetes": np.where(clinical["diabetes"] == 1, "yes", "no"),
            "diagnosis": DIAGNOSES[clinical["diagnosis"].astype(int)],
            "months": clinical["failure"],
            "failed": clinical["failure event"].astype(int),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = Files(folder / "glomeruli.csv", folder / "clinical.csv")
    cohort.glomeruli.to_csv(files.entities, index=False)
    table.to_csv(files.clinical, index=False)
    files.clinical.with_suffix(".yaml").write_text(DECLARED)
    return files
