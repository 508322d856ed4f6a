"""Cohorts made up with effects of known size, to see what the association finds; `scripts/simulate_association.py`.

Every cohort has 60 patients with 20 glomeruli each. Features vary within and between patients; five clinical variables
depend on the patient's mean of one feature each, and on nothing else.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from scipy import stats

from bundle.classes import CLASS_NAMES
from bundle.findings.clinical import Kind, Variable

PATIENTS, GLOMERULI = 60, 20
ALPHA: Final = 0.05
WITHIN = 0.7
"""Share of a feature's variance within patients."""
SPREAD = math.sqrt(1 - WITHIN + WITHIN / GLOMERULI)
"""Standard deviation of the patients' means; effects are in units of it."""
CORRELATION, SHIFT, STEP, LOG_HAZARD = 0.43, 0.85, 0.575, 0.5
EVENTS = 0.7
"""Expected share of patients whose event is seen."""

VARIABLES = (
    Variable("egfr", Kind.CONTINUOUS, "egfr"),
    Variable("stage", Kind.ORDINAL, "stage"),
    Variable("diabetes", Kind.BINARY, "diabetes"),
    Variable("diagnosis", Kind.CATEGORICAL, "diagnosis"),
    Variable("failure", Kind.SURVIVAL, "failure", "event"),
)
PLANTED = {
    "egfr": "area_um2",
    "stage": "circularity",
    "diabetes": "od_mean",
    "diagnosis": "pale_fraction",
    "failure": "nuclei_per_mm2",
}
"""The feature whose mean each variable depends on."""

FEATURES = (*PLANTED.values(), "eccentricity")


@dataclass(frozen=True)
class Simulated:
    """A cohort: glomeruli, and the clinical table as `bundle.findings.clinical` gives it."""

    glomeruli: pd.DataFrame
    clinical: pd.DataFrame


def simulate(random: np.random.Generator) -> Simulated:
    """A cohort with every effect planted."""
    shape = (PATIENTS, GLOMERULI)
    values = {name: _nested(random) for name in FEATURES}
    order = random.permutation(PATIENTS)
    diabetes, diagnosis = (order % 2).astype(float), (random.permutation(PATIENTS) % 3).astype(float)
    values["od_mean"] += SPREAD * SHIFT * diabetes[:, None]
    values["pale_fraction"] += SPREAD * STEP * (diagnosis - 1)[:, None]
    mean = {name: value.mean(axis=1) / SPREAD for name, value in values.items()}
    hazard = np.exp(LOG_HAZARD * mean["nuclei_per_mm2"])
    time = random.exponential(1 / hazard)
    end = random.exponential(EVENTS / (1 - EVENTS), PATIENTS)
    latent = _correlated(mean["circularity"], random)
    clinical = {
        "egfr": _correlated(mean["area_um2"], random),
        "stage": np.digitize(latent, stats.norm.ppf([0.2, 0.4, 0.6, 0.8])).astype(float),
        "diabetes": diabetes,
        "diagnosis": diagnosis,
        "failure": np.minimum(time, end),
        "failure event": (time <= end).astype(float),
    }
    patients = [f"P{i:02}" for i in range(PATIENTS)]
    glomeruli = pd.DataFrame({name: value.ravel() for name, value in values.items()})
    return Simulated(
        glomeruli.assign(
            entity_id=[f"{i}" for i in range(PATIENTS * GLOMERULI)],
            patient=np.repeat(patients, GLOMERULI),
            **{"class": random.choice(CLASS_NAMES, shape, p=[0.7, 0.1, 0.2]).ravel()},
        ),
        pd.DataFrame(clinical, index=pd.Index(patients, name="patient")),
    )


def _nested(random: np.random.Generator) -> np.ndarray:
    """Values of variance 1, a row a patient, `WITHIN` of it within patients."""
    between = random.normal(size=(PATIENTS, 1)) * math.sqrt(1 - WITHIN)
    return between + random.normal(size=(PATIENTS, GLOMERULI)) * math.sqrt(WITHIN)


def _correlated(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Standard normal, with correlation `CORRELATION` to standard normal `values`."""
    return CORRELATION * values + math.sqrt(1 - CORRELATION**2) * random.normal(size=len(values))


def stated() -> pd.DataFrame:
    """Per planted variable: true effect (NaN where it has no closed form) and power at `ALPHA`, from theory.

    Spearman by Fisher's z with the variance of Bonett & Wright 2000, rank tests of groups by the t and F tests' with
    the asymptotic efficiency 3 / pi, Cox by Schoenfeld (Biometrics 1983, 39:499).
    """
    z = stats.norm.isf(ALPHA / 2)
    rho = 6 / math.pi * math.asin(CORRELATION / 2)
    levels = rho_of_levels()
    auc = stats.norm.cdf(SHIFT / math.sqrt(2))
    efficiency = 3 / math.pi  # of rank tests against tests of means, for normal values
    # Groups of equal size at -STEP, 0 and STEP: variance between them 2 STEP² / 3, within 1.
    noncentrality = efficiency * PATIENTS * 2 * STEP**2 / 3
    failure = LOG_HAZARD * math.sqrt(PATIENTS * expected_events())
    rows = [
        ("egfr", rho, _correlation_power(rho)),
        ("stage", levels, _correlation_power(levels)),
        ("diabetes", 2 * auc - 1, stats.norm.sf(z - SHIFT / 2 * math.sqrt(efficiency * PATIENTS))),
        ("diagnosis", math.nan, stats.ncx2.sf(stats.chi2.isf(ALPHA, 2), 2, noncentrality)),
        ("failure", math.exp(LOG_HAZARD), stats.norm.sf(z - failure)),
    ]
    return pd.DataFrame(rows, columns=["variable", "truth", "power"]).set_index("variable")


def _correlation_power(rho: float) -> float:
    error = math.sqrt((1 + rho**2 / 2) / (PATIENTS - 3))
    return float(stats.norm.sf(stats.norm.isf(ALPHA / 2) - math.atanh(rho) / error))


def rho_of_levels() -> float:
    """Spearman's rho of a normal value and five equal levels of another, correlated `CORRELATION` with it.

    The grade of a level is the middle of its fifth; rho is 12 cov / sqrt(1 - 1/25) of the uniform grades.
    """
    grid = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)  # of the level's latent value
    expected = stats.norm.cdf(CORRELATION * grid / math.sqrt(2 - CORRELATION**2))  # mean grade of the other, given it
    grade = (np.floor(5 * stats.norm.cdf(grid)) + 0.5) / 5
    return float(12 * np.mean((expected - 0.5) * (grade - 0.5)) / math.sqrt(1 - 1 / 25))


def expected_events() -> float:
    """Expected share of events: mean of h / (h + c) over hazards h, for censoring at rate c."""
    mean = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    hazard = np.exp(LOG_HAZARD * mean)
    return float(np.mean(hazard / (hazard + (1 - EVENTS) / EVENTS)))
