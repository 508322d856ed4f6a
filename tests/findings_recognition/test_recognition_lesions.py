"""Lesion classifiers, their calibration, their files, and the labels that they learn from."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from bundle.errors import FindingsError
from bundle.findings.recognition_calibration import (
    Platt,
    auc_bootstrap_interval,
    calibration_error,
    fit_platt,
    out_of_fold,
)
from bundle.findings.recognition_classifiers import LinearProbe, NearestNeighbours, Prototypes
from bundle.findings.recognition_files import (
    LesionClassifier,
    read_classifier,
    read_classifiers,
    write_classifier,
)
from bundle.findings.recognition_labels import read_lesions

CLASSIFIERS = [LinearProbe(), NearestNeighbours(), Prototypes()]
each_classifier = pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda c: type(c).__name__)
ENCODER = {"encoder": "test"}


def two_classes(count, distance, seed=0):
    """Gaussian vectors (count, 6) with unit variance whose classes lie `distance` apart; and labels, half and half."""
    random = np.random.default_rng(seed)
    present = np.arange(count) % 2 == 1
    values = random.normal(size=(count, 6))
    values[:, 0] += distance * present
    return values * [1, 10, 1, 1, 1, 1] + 5, present


@each_classifier
def test_far_classes_are_told_apart(classifier):
    values, present = two_classes(60, 8)
    new, truth = two_classes(60, 8, seed=1)
    scores = classifier.fit(values, present).scores(new)
    assert ((scores > 0) == truth).mean() > 0.95


@each_classifier
def test_one_shot_of_each_class_is_enough_to_score(classifier):
    values, present = two_classes(60, 8)
    scores = classifier.fit(values[:2], present[:2], values).scores(values[2:])
    assert np.isfinite(scores).all()
    assert roc_auc_score(present[2:], scores) > 0.8


@each_classifier
def test_labels_of_one_class_are_an_error(classifier):
    with pytest.raises(FindingsError, match="label both classes"):
        classifier.fit(np.zeros((3, 2)), np.ones(3, bool))


def test_the_linear_probe_is_scikit_learn_s():
    values, present = two_classes(40, 1)
    scaler = StandardScaler().fit(values)
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000).fit(scaler.transform(values), present)
    expected = model.decision_function(scaler.transform(values))
    np.testing.assert_allclose(LinearProbe(0.1).fit(values, present).scores(values), expected, rtol=1e-5, atol=1e-8)


def test_prototypes_score_by_the_nearer_mean_direction():
    values = np.array([[1.0, 0], [3, 0], [0, 2], [0, 4]])
    fitted = Prototypes(temperature=1).fit(values, np.array([False, False, True, True]), np.array([[-1.0, -1], [1, 1]]))
    # The pool has mean 0 and deviation 1: vectors are as they stand, prototypes the two axes.
    np.testing.assert_allclose(fitted.scores(np.array([[3.0, 4]])), [4 / 5 - 3 / 5])


def test_neighbours_vote_with_their_likeness():
    values, present = np.array([[1.0, 0], [0, 1], [1, 1]]), np.array([True, False, False])
    fitted = NearestNeighbours(2, temperature=0.5).fit(values, present, np.array([[-1.0, -1], [1, 1]]))
    votes = np.exp(-np.array([0, 1 - 0.5**0.5]) / 0.5)  # of (1, 0), and of (1, 1) at 45 degrees
    expected = np.log(votes[0] + votes.mean()) - np.log(votes[1] + votes.mean())
    np.testing.assert_allclose(fitted.scores(np.array([[2.0, 0]])), [expected])


@each_classifier
def test_a_saved_classifier_gives_the_same_probabilities(classifier, tmp_path):
    values, present = two_classes(40, 2)
    made = LesionClassifier("crescent", classifier.fit(values, present), Platt(0.7, -0.2), ENCODER)
    write_classifier(made, tmp_path / "crescent.safetensors")
    found = read_classifier(tmp_path / "crescent.safetensors")
    assert found.lesion == "crescent"
    np.testing.assert_array_equal(found.probabilities(values), made.probabilities(values))


def test_a_classifier_of_another_encoder_is_refused(tmp_path):
    values, present = two_classes(40, 2)
    made = LesionClassifier("crescent", LinearProbe().fit(values, present), Platt(), ENCODER)
    write_classifier(made, tmp_path / "crescent.safetensors")
    assert len(read_classifiers(tmp_path, ENCODER)) == 1
    with pytest.raises(FindingsError, match="another encoder"):
        read_classifiers(tmp_path, {"encoder": "other"})


def test_a_file_that_is_no_classifier_is_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"\x80\x04nothing")
    with pytest.raises(FindingsError, match="no classifier"):
        read_classifier(tmp_path / "a.safetensors")
    with pytest.raises(FindingsError, match="holds no classifiers"):
        read_classifiers(tmp_path / "empty", ENCODER)


def test_calibration_finds_the_slope_and_offset_of_the_scores():
    random = np.random.default_rng(0)
    scores = random.normal(0, 3, 20000)
    present = random.random(20000) < expit(0.4 * scores - 1)
    found = fit_platt(scores, present)
    assert (found.slope, found.offset) == (pytest.approx(0.4, rel=0.05), pytest.approx(-1, rel=0.05))


def test_calibrated_probabilities_of_separable_scores_stay_off_0_and_1():
    found = fit_platt(np.array([-2.0, -1, 1, 2]), np.array([False, False, True, True]))
    # Platt's targets are 1/4 and 3/4 for two of each class; the outer scores go a little beyond.
    assert 0.6 < found(np.array([2.0]))[0] < 0.9


def test_the_calibration_error_is_the_mean_gap_of_the_bins():
    probabilities = np.r_[np.full(10, 0.95), np.full(30, 0.25)]
    present = np.r_[np.ones(10), np.zeros(30)]
    assert calibration_error(probabilities, present) == pytest.approx((10 * 0.05 + 30 * 0.25) / 40)


def test_no_patient_is_on_both_sides_of_a_fold():
    values, present = two_classes(40, 3)
    patients = np.repeat(np.arange(10), 4).astype(str)
    values[:, 1] = patients.astype(float)  # a feature that tells the patient
    seen = []

    class Spy:
        def fit(self, given, labels, pool=None):
            seen.append(set(given[:, 1]))
            return LinearProbe().fit(given, labels)

    found = out_of_fold(values, present, patients, Spy())
    assert np.isfinite(found.probabilities).all()
    assert len(seen) == 5
    assert all(len(inside) == 8 for inside in seen)


def test_lesions_of_a_single_patient_cannot_be_cross_validated():
    values, present = two_classes(10, 3)
    assert out_of_fold(values, present, ["a"] * 10, LinearProbe()) is None


def test_the_auc_s_interval_is_wider_the_fewer_patients_there_are():
    values, present = two_classes(1000, 1)
    scores = values[:, 0]
    many = auc_bootstrap_interval(scores, present, np.arange(1000).astype(str), 100)
    few = auc_bootstrap_interval(scores, present, np.repeat(np.arange(20), 50).astype(str), 100)
    truth = norm.cdf(1 / 2**0.5)
    assert many[0] < truth < many[1]
    assert many[1] - many[0] < 0.08
    assert few[0] < roc_auc_score(present, scores) < few[1]
    assert np.isnan(auc_bootstrap_interval(scores, present, ["a"] * 1000)).all()


TABLE = pd.DataFrame({"entity_id": ["a", "b", "c", "d"], "class": ["normal", "global_sclerosis", "", "normal"]})


def labels_file(folder, text):
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


def test_without_a_table_the_crops_classes_are_the_lesions():
    (lesion,) = read_lesions(None, TABLE)
    assert lesion.name == "global_sclerosis"
    assert lesion.known.tolist() == [True, True, False, True]
    assert lesion.present.tolist() == [False, True, False, False]


def test_a_column_is_a_lesion_and_an_empty_cell_is_not_known(tmp_path):
    path = labels_file(tmp_path, "entity_id,crescent,adhesion\nd,1,0\na,0,\nb,1,1\nx,1,1\n")
    crescent, adhesion = read_lesions(path, TABLE)
    assert (crescent.name, adhesion.name) == ("crescent", "adhesion")
    assert crescent.known.tolist() == [True, True, False, True]
    assert crescent.present.tolist() == [False, True, False, True]
    assert adhesion.known.tolist() == [False, True, False, True]


def test_grades_become_questions(tmp_path):
    path = labels_file(tmp_path, "entity_id,mesangium\na,0\nb,1\nc,2\nd,2\n")
    first, second = read_lesions(path, TABLE)
    assert (first.name, first.present.tolist()) == ("mesangium>=1", [False, True, True, True])
    assert (second.name, second.present.tolist()) == ("mesangium>=2", [False, False, True, True])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("glomerulus,crescent\na,1\n", "has no column 'entity_id'"),
        ("entity_id,crescent\na,1\na,0\n", "entity_id a has two rows"),
        ("entity_id,crescent\nz,1\n", "names none of the crops"),
        ("entity_id,crescent\na,yes\nb,0\n", "column 'crescent' holds yes"),
        ("entity_id,crescent\na,0.5\nb,0\n", "column 'crescent' holds 0.5"),
        ("entity_id,area\na,4000\nb,0\n", "column 'area' holds 4000"),
        ("entity_id,crescent\na,1\nb,1\n", "no lesion is both present and absent"),
        ("", "labels cannot be read"),
    ],
)
def test_a_table_that_cannot_be_meant_is_an_error_of_one_line(tmp_path, text, message):
    with pytest.raises(FindingsError, match=message):
        read_lesions(labels_file(tmp_path, text), TABLE)
