"""The simulation's theory against brute force, and its script."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from bundle.findings import association_simulation as simulation
from tests.cohort import ROOT


def test_a_cohort_has_the_sizes_it_says():
    cohort = simulation.simulate(np.random.default_rng(0))
    assert cohort.glomeruli.groupby("patient").size().tolist() == [20] * 60
    assert cohort.clinical["diabetes"].sum() == 30
    assert cohort.clinical["diagnosis"].value_counts().tolist() == [20, 20, 20]


def test_the_correlation_of_levels_is_what_many_patients_show():
    random = np.random.default_rng(3)
    x = random.normal(size=200_000)
    latent = simulation.CORRELATION * x + np.sqrt(1 - simulation.CORRELATION**2) * random.normal(size=len(x))
    levels = np.digitize(latent, stats.norm.ppf([0.2, 0.4, 0.6, 0.8]))
    assert simulation.rho_of_levels() == pytest.approx(stats.spearmanr(x, levels).statistic, abs=0.006)


def test_effects_and_events_are_planted_as_large_as_stated():
    random = np.random.default_rng(4)
    cohorts = [simulation.simulate(random) for _ in range(150)]
    events = np.mean([cohort.clinical["failure event"].mean() for cohort in cohorts])
    assert events == pytest.approx(simulation.expected_events(), abs=0.02)
    rho = []
    for cohort in cohorts:
        mean = cohort.glomeruli.groupby("patient")["area_um2"].mean()
        rho.append(stats.spearmanr(mean, cohort.clinical["egfr"].loc[mean.index]).statistic)
    assert np.mean(rho) == pytest.approx(simulation.stated().loc["egfr", "truth"], abs=0.03)


def test_the_script_writes_report_table_and_plot(tmp_path):
    pytest.importorskip("statsmodels")
    line = [sys.executable, "scripts/simulate_association.py", "--output_dir", str(tmp_path), "--simulations", "2"]
    subprocess.run(line, cwd=ROOT, check=True, capture_output=True, timeout=300)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["association.csv", "association.md", "association.png"]
    text = (tmp_path / "association.md").read_text()
    assert "2 cohorts of 60 patients with 20 glomeruli each" in text
    for name in ("Spearman", "Mann-Whitney", "Kruskal-Wallis", "Cox", "mixed model"):
        assert f"| {name}" in text
