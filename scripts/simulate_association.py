"""Simulate cohorts to see what the clinical association finds: planted effects at the power that theory states for
them, and nothing else. Writes association.md, its plot and its table.

    python scripts/simulate_association.py --output_dir docs/results

In the null cohorts the clinical rows of the planted ones are shuffled among the patients.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from association_tables import calibration, compare, discoveries, of_effect, planted, power
from matplotlib.figure import Figure
from scipy import stats
from tqdm import tqdm

from bundle.atomic import atomic_path, write_text
from bundle.findings.aggregation import Selection, measured, patient_features
from bundle.findings.association_pairs import Cohort, Limits, associate, associate_glomeruli
from bundle.findings.association_simulation import ALPHA, GLOMERULI, PATIENTS, PLANTED, VARIABLES, simulate, stated
from bundle.findings.clinical import Kind, Variable

STATISTICS = ("mean", "sd", "q90")
TESTS = ("Spearman", "Spearman", "Mann-Whitney", "Kruskal-Wallis", "Cox")
NESTED = {"mixed model": "mixed model", "unnested": "Spearman over glomeruli"}
CONFOUNDED = {"Spearman": "Spearman", "partial Spearman": "age held constant"}

TEXT = """# Simulated cohorts: what the association finds

{simulations} cohorts of {patients} patients with {glomeruli} glomeruli each, seed {seed}; {pairs} pairs of feature and
variable are tested in each. Made by

```bash
python scripts/simulate_association.py --output_dir docs/results    # {minutes:.1f} min of CPU
```

Every figure is the share of cohorts, in percent, with its 95 % interval (Clopper-Pearson; over cohorts where it is a
mean).

## Power

Five variables depend on the patients' mean of one feature each. *Stated* is what theory says for p < 0.05: Fisher's z
for Spearman, the asymptotic efficiency 3/π for the rank tests of groups, Schoenfeld's formula for Cox. *In all pairs*
is at a false-discovery rate of 5 % over all {pairs} pairs. *Covered* is how often the interval holds the true effect.

{power}

## False discoveries

With the clinical rows shuffled every pair is a null: the share of cohorts with any pair found is the false-discovery
rate. In the planted cohorts it is the mean share of nulls among the pairs found.

{discoveries}

Each test on null pairs, p < 0.05:

{calibration}

## Why patients, and not glomeruli, are the sample

`level: glomerulus` tests glomeruli by a mixed model, nested in patients. Spearman over all glomeruli, as if each were a
patient, finds what is not there. One feature against one variable, p < 0.05:

{nested}

## Why covariates

Feature and variable both depend on age, and not on each other; p < 0.05:

{confounded}

![Null p values; stated and found power](association.png)
"""


def one(random: np.random.Generator, run: int) -> pd.DataFrame:
    """All pairs of one planted and one null cohort, tested by patient, and some by glomerulus."""
    cohort = simulate(random)
    shuffled = cohort.clinical.iloc[random.permutation(PATIENTS)].set_axis(cohort.clinical.index)
    features = patient_features(cohort.glomeruli, Selection(), STATISTICS, "simulated")
    glomeruli = measured(cohort.glomeruli, Selection(features=["area_um2"]), "simulated")
    tables = []
    for scenario, clinical in (("planted", cohort.clinical), ("null", shuffled)):
        pairs = associate(features, Cohort(clinical, VARIABLES), Limits())
        nested = associate_glomeruli(glomeruli, Cohort(clinical, VARIABLES[:1]), Limits())
        flat = stats.spearmanr(glomeruli["area_um2"], clinical["egfr"].loc[glomeruli["patient"]])
        naive = pd.DataFrame({"feature": ["area_um2"], "variable": "egfr", "test": "unnested", "p": flat.pvalue})
        tables.append(pd.concat([pairs, nested, naive]).assign(scenario=scenario))
    return pd.concat([*tables, _confounded(random)], ignore_index=True).assign(run=run)


def _confounded(random: np.random.Generator) -> pd.DataFrame:
    """Feature and variable depend on age and not on each other: tested without and with age held constant."""
    index = pd.Index([f"P{i:02}" for i in range(PATIENTS)], name="patient")
    age = random.normal(size=PATIENTS)
    clinical = pd.DataFrame({"egfr": age + random.normal(size=PATIENTS), "age": age}, index=index)
    features = pd.DataFrame({"confounded": age + random.normal(size=PATIENTS)}, index=index)
    held = [Variable("age", Kind.CONTINUOUS, "age")]
    tables = [associate(features, Cohort(clinical, VARIABLES[:1], c), Limits()) for c in ([], held)]
    return pd.concat(tables).assign(scenario="confounded")


def plot(pairs: pd.DataFrame, path: Path) -> None:
    """Null p values against uniform ones, and stated against found power."""
    figure = Figure(figsize=(9.6, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    null = pairs[(pairs["scenario"] == "null") & pairs["p"].notna()]
    for test, group in null.groupby("test"):
        p = np.sort(group["p"].to_numpy(float))
        left.plot(
            -np.log10((np.arange(len(p)) + 0.5) / len(p)), -np.log10(p), label=f"{test} ({len(p)})", linewidth=1.4
        )
    left.plot([0, 4], [0, 4], color="black", linewidth=0.7, linestyle="--")
    left.set(xlabel="expected $-\\log_{10}p$", ylabel="null pairs' $-\\log_{10}p$", title="Nothing planted")
    left.legend(fontsize=7, frameon=False)
    theory = stated()["power"]
    for i, variable in enumerate(PLANTED):
        hits = of_effect(pairs, variable)["p"] < ALPHA
        interval = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci()
        right.plot([i, i], [interval.low, interval.high], color="#4c78a8", linewidth=2)
        right.plot(i, hits.mean(), "o", color="#4c78a8", label="found, 95 % interval" if i == 0 else None)
        right.plot(i, theory[variable], "_", color="black", markersize=22, label="stated" if i == 0 else None)
    right.set_xticks(range(len(PLANTED)), [f"{v}\n{t}" for v, t in zip(PLANTED, TESTS, strict=True)], fontsize=8)
    right.set(ylim=(0, 1), ylabel="power at p < 0.05", title="Planted effects")
    right.legend(fontsize=8, frameon=False, loc="lower left")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=140)


def main(arguments: list[str] | None = None) -> int:
    """Simulate and write; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True, help="gets association.md, .csv and .png")
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    start = time.process_time()
    seeds = np.random.SeedSequence(options.seed).spawn(options.simulations)
    runs = tqdm(enumerate(seeds), total=len(seeds), desc="simulations")
    pairs = pd.concat([one(np.random.default_rng(seed), run) for run, seed in runs], ignore_index=True)
    pairs = pairs.assign(planted=planted(pairs))
    write(pairs, options, (time.process_time() - start) / 60)
    return 0


def write(pairs: pd.DataFrame, options: argparse.Namespace, minutes: float) -> None:
    """Write the three files."""
    by_patient = pairs[~pairs["test"].isin(NESTED)]
    of_cohort = by_patient[(by_patient["run"] == 0) & (by_patient["scenario"] == "null") & by_patient["p"].notna()]
    tables = {
        "power": power(by_patient),
        "discoveries": discoveries(by_patient),
        "calibration": calibration(by_patient),
        "nested": compare(pairs, NESTED, ("null", "planted")),
        "confounded": compare(pairs, CONFOUNDED, ("confounded",)),
    }
    text = TEXT.format(
        **{name: table.to_markdown(index=False, disable_numparse=True) for name, table in tables.items()},
        simulations=options.simulations,
        patients=PATIENTS,
        glomeruli=GLOMERULI,
        seed=options.seed,
        pairs=len(of_cohort),
        minutes=minutes,
    )
    table = pd.concat([table.assign(table=name) for name, table in tables.items()]).set_index("table")
    for name, content in (("association.md", text), ("association.csv", table.to_csv())):
        write_text(options.output_dir / name, content)
    plot(by_patient, options.output_dir / "association.png")


if __name__ == "__main__":
    sys.exit(main())
