"""N-shot curves: how shots are drawn, what the curve's numbers are, between which groups."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from bundle.errors import ConfigError, FindingsError
from bundle.findings.embedding import Embeddings
from bundle.findings.recognition_classifiers import LinearProbe, Prototypes
from bundle.findings.recognition_labels import Lesion
from bundle.findings.shots import Sample, Transfer, draw_shots, shot_curve, transfer_curves
from bundle.findings.shots_report import plot_shots, shots_markdown


def sample(count, seed, patients=20):
    """Vectors (count, 4) whose classes lie 1.5 deviations apart in the first: the best AUC is known."""
    random = np.random.default_rng(seed)
    present = np.arange(count) % 2 == 1
    values = random.normal(size=(count, 4))
    values[:, 0] += 1.5 * present
    return Sample(values, present, (np.arange(count) // 2 % patients).astype(str))


def cohort():
    """Two hospitals of four patients."""
    found = sample(160, 0)
    patients = [f"{'NS'[i % 2]}_{i % 8}" for i in np.arange(160) // 2]
    table = pd.DataFrame({"entity_id": np.arange(160).astype(str), "patient": patients, "stain": "PAS"})
    return Embeddings(table, found.values, {}), Lesion("lesion", np.ones(160, bool), found.present)


def test_shots_come_from_as_many_patients_as_possible():
    given = sample(400, 0, patients=10)
    chosen = draw_shots(given, 15, np.random.default_rng(0))
    assert given.present[chosen].sum() == 15
    assert len(set(chosen)) == 30
    for answer in (True, False):
        _, counts = np.unique(given.patients[chosen][given.present[chosen] == answer], return_counts=True)
        assert sorted(counts) == [1] * 5 + [2] * 5


def test_more_shots_than_glomeruli_are_an_error():
    with pytest.raises(FindingsError, match="ask for fewer shots"):
        draw_shots(sample(10, 0), 6, np.random.default_rng(0))


def test_the_curve_rises_to_the_best_auc_and_its_intervals_narrow():
    curve = shot_curve(sample(600, 0), sample(600, 1), LinearProbe(1.0), (1, 8, 64, 512), 20)
    assert curve["shots"].tolist() == [1, 8, 64]  # the sample has 300 of each
    assert curve["auc"].is_monotonic_increasing
    assert curve["auc"].iloc[-1] == pytest.approx(norm.cdf(1.5 / 2**0.5), abs=0.04)
    widths = curve["draws_high"] - curve["draws_low"]
    assert widths.is_monotonic_decreasing
    assert (curve["high"] - curve["low"] > widths).iloc[-1]


def test_equal_seeds_draw_equal_curves():
    curves = [shot_curve(sample(40, 0), sample(40, 1), Prototypes(), (2,), 10, seed) for seed in (3, 3, 4)]
    pd.testing.assert_frame_equal(curves[0], curves[1])
    assert curves[0]["auc"].iloc[0] != curves[2]["auc"].iloc[0]


def test_hospitals_are_told_by_a_pattern_and_tested_in_both_directions():
    embeddings, lesion = cohort()
    transfers = {"hospital": Transfer("patient", "^([A-Z]+)_"), "stain": Transfer("stain")}
    curves = transfer_curves(embeddings, [lesion], transfers, {"p": Prototypes()}, (1, 4), 5, progress=False)
    assert curves[["transfer", "train", "test_group", "shots"]].to_numpy().tolist() == [
        ["hospital", "N", "S", 1],
        ["hospital", "N", "S", 4],
        ["hospital", "S", "N", 1],
        ["hospital", "S", "N", 4],
    ]
    assert (curves[["test", "test_present", "test_patients"]] == [80, 40, 4]).all(axis=None)


def test_no_labelled_glomerulus_of_the_tested_hospital_is_learned_from():
    embeddings, lesion = cohort()
    hospital = embeddings.table["patient"].str[0].to_numpy()
    hidden = embeddings.values.copy()
    hidden[hospital == "S", 0] *= -1  # what is learned in one hospital is wrong in the other
    wrong = Embeddings(embeddings.table, hidden, {})
    transfers = {"hospital": Transfer("patient", "^([A-Z]+)_")}
    curves = transfer_curves(wrong, [lesion], transfers, {"p": Prototypes()}, (16,), 5, progress=False)
    assert (curves["auc"] < 0.4).all()


def test_only_the_rows_to_be_tested_are():
    embeddings, lesion = cohort()
    rows = embeddings.table["patient"].isin(["N_0", "S_1"]).to_numpy()
    transfers = {"hospital": Transfer("patient", "^([A-Z]+)_")}
    curves = transfer_curves(
        embeddings, [lesion], transfers, {"p": Prototypes()}, (1,), 5, progress=False, test_rows=rows
    )
    assert curves["test"].tolist() == [20, 20]
    assert curves["test_patients"].tolist() == [1, 1]


def test_a_column_that_is_not_there_is_passed_over_with_a_word(caplog):
    embeddings, lesion = cohort()
    curves = transfer_curves(
        embeddings, [lesion], {"h": Transfer("hospital")}, {"p": Prototypes()}, (1,), 5, progress=False
    )
    assert curves.empty
    assert "no column 'hospital'" in caplog.text


def test_a_pattern_without_a_bracket_is_an_error():
    with pytest.raises(ConfigError, match="has no group in brackets"):
        Transfer("patient", "^N_").groups(cohort()[0].table)


def test_curves_are_shown_as_a_table_and_a_picture(tmp_path):
    embeddings, lesion = cohort()
    transfers = {"hospital": Transfer("patient", "^([A-Z]+)_")}
    curves = transfer_curves(
        embeddings, [lesion], transfers, {"a": Prototypes(), "b": LinearProbe()}, (1, 4), 5, progress=False
    )
    text = shots_markdown(curves)
    row = curves[(curves["train"] == "S") & (curves["classifier"] == "b") & (curves["shots"] == 4)].iloc[0]
    assert "trained on S, tested on N** (80 glomeruli of 4 patients, 40 with the lesion)" in text
    assert f"{row['auc']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in text
    plot_shots(curves, tmp_path / "shots.png")
    assert (tmp_path / "shots.png").read_bytes().startswith(b"\x89PNG")
