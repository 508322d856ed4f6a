"""Each test of a pair against another implementation, or against what is known without computing."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bundle.findings.association_intervals import Z, auc_interval, correlation_interval, explained_interval
from bundle.findings.association_models import cox, mixed_groups, mixed_slope, normal_scores, standardised
from bundle.findings.tests_of_pairs import (
    NotTestableError,
    indicators,
    no_covariates,
    rank_correlation,
    several_groups,
    two_groups,
)

N = 40


@pytest.fixture
def random():
    return np.random.default_rng(1)


def test_without_covariates_the_rank_correlation_is_spearman_s(random):
    x = random.integers(0, 12, N).astype(float)  # with ties
    y = x + random.normal(size=N) * 6
    found, expected = rank_correlation(x, y, no_covariates(N)), stats.spearmanr(x, y)
    assert (found.effect, found.p) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-10)
    assert (found.test, found.direction) == ("Spearman", 1)
    assert found.low < found.effect < found.high


def test_the_partial_correlation_s_p_is_that_of_a_regression_of_ranks(random):
    sm = pytest.importorskip("statsmodels.api")
    held = random.normal(size=(N, 2))
    x, y = held[:, 0] + random.normal(size=N), held[:, 0] - held[:, 1] + random.normal(size=N)
    ranked = stats.rankdata(held, axis=0)
    regression = sm.OLS(stats.rankdata(y), sm.add_constant(np.column_stack([stats.rankdata(x), ranked]))).fit()
    found = rank_correlation(x, y, ranked)
    assert found.p == pytest.approx(regression.pvalues[1], rel=1e-8)
    assert found.effect == pytest.approx(regression.tvalues[1] / math.hypot(regression.tvalues[1], math.sqrt(N - 4)))


def test_a_rising_feature_correlates_perfectly_whatever_its_scale():
    found = rank_correlation(np.arange(20.0), np.exp(np.arange(20.0)), no_covariates(20))
    assert (found.effect, found.low, found.high, found.p) == (1, 1, 1, 0)


def test_a_feature_that_the_covariates_determine_is_not_testable(random):
    held = np.arange(float(N))[:, None]
    with pytest.raises(NotTestableError, match="the feature is determined by the covariates"):
        rank_correlation(held[:, 0] ** 3, random.normal(size=N), held)


def test_covariates_need_patients(random):
    with pytest.raises(NotTestableError, match="10 patients are too few for 6 covariates"):
        rank_correlation(random.normal(size=10), random.normal(size=10), random.normal(size=(10, 6)))


def test_two_groups_are_compared_by_mann_and_whitney(random):
    group = np.repeat([0.0, 1.0], [25, 15])
    x = random.normal(size=N) + group
    found = two_groups(x, group, no_covariates(N))
    assert found.p == pytest.approx(stats.mannwhitneyu(x[group == 1], x[group == 0]).pvalue)
    pairs = np.sign(x[group == 1][:, None] - x[group == 0][None])
    assert found.effect == pytest.approx(pairs.mean())
    turned = two_groups(-x, group, no_covariates(N))
    assert (turned.effect, turned.low, turned.high) == pytest.approx((-found.effect, -found.high, -found.low))


def test_groups_that_do_not_overlap_have_an_interval_all_the_same():
    found = two_groups(np.arange(20.0), np.repeat([0.0, 1.0], 10), no_covariates(20))
    assert found.effect == found.high == 1
    assert 0.5 < found.low < 0.99


def test_with_covariates_two_groups_are_a_partial_rank_correlation(random):
    group = np.repeat([0.0, 1.0], 20)
    x, held = random.normal(size=N), random.normal(size=(N, 1))
    assert two_groups(x, group, held) == rank_correlation(x, group, held)


def test_several_groups_are_compared_by_kruskal_and_wallis(random):
    group = np.arange(N) % 3.0
    x = random.normal(size=N) + group
    expected = stats.kruskal(*(x[group == code] for code in range(3)))
    found = several_groups(x, group, no_covariates(N))
    assert (found.p, found.effect) == pytest.approx((expected.pvalue, expected.statistic / (N - 1)))
    assert 0 < found.low < found.effect < found.high < 1
    assert found.direction == 0


def test_with_covariates_several_groups_are_an_analysis_of_covariance_of_ranks(random):
    sm = pytest.importorskip("statsmodels.api")
    group, held = np.arange(N) % 3.0, random.normal(size=(N, 1))
    x = random.normal(size=N) + held[:, 0] + group
    ranks = stats.rankdata(x)
    whole = sm.OLS(ranks, sm.add_constant(np.column_stack([held, indicators(group)]))).fit()
    expected = whole.compare_f_test(sm.OLS(ranks, sm.add_constant(held)).fit())
    assert several_groups(x, group, held).p == pytest.approx(expected[1], rel=1e-8)


@pytest.mark.filterwarnings("ignore")  # lifelines is not of pandas 3 yet
def test_cox_is_that_of_lifelines_with_and_without_covariates(random):
    lifelines = pytest.importorskip("lifelines")
    x, age = random.normal(size=N), random.normal(size=N)
    time = np.ceil(5 * random.exponential(np.exp(-0.8 * x - 0.5 * age)))  # with ties
    event = (random.random(N) < 0.7).astype(float)
    for held in (no_covariates(N), age[:, None]):
        found = cox(x, time, event, held)
        frame = pd.DataFrame(np.column_stack([standardised(x), held])).assign(t=time, e=event)
        expected = lifelines.CoxPHFitter().fit(frame, "t", "e").summary.iloc[0]
        names = ("exp(coef)", "exp(coef) lower 95%", "exp(coef) upper 95%", "p")
        assert (found.effect, found.low, found.high, found.p) == pytest.approx([expected[n] for n in names], rel=1e-3)


def test_a_feature_that_orders_all_events_has_no_hazard_ratio():
    pytest.importorskip("statsmodels")
    x = np.arange(20.0)
    with pytest.raises(NotTestableError, match="does not converge"):
        cox(x, 20 - x, np.ones(20), no_covariates(20))


def test_with_equal_numbers_of_glomeruli_the_mixed_model_is_a_regression_of_the_patients_means(random):
    sm = pytest.importorskip("statsmodels.api")
    variable, patient = random.normal(size=15), np.repeat(np.arange(15), 6)
    values = (0.5 * variable + random.normal(size=15))[patient] + random.normal(size=90)
    found = mixed_slope(values, patient, variable, no_covariates(15), binary=False)
    means = standardised(normal_scores(values)).reshape(15, 6).mean(axis=1)
    expected = sm.OLS(means, sm.add_constant(standardised(normal_scores(variable)))).fit()
    assert found.effect == pytest.approx(expected.params[1], rel=1e-4)
    assert found.p == pytest.approx(expected.pvalues[1], rel=1e-2)
    assert (found.low, found.high) == pytest.approx(expected.conf_int()[1], rel=1e-2)


def test_with_equal_numbers_of_glomeruli_the_mixed_model_of_groups_is_an_analysis_of_variance_of_means(random):
    pytest.importorskip("statsmodels")
    group, patient = np.arange(15) % 3.0, np.repeat(np.arange(15), 6)
    values = (0.7 * group + random.normal(size=15))[patient] + random.normal(size=90)
    means = standardised(normal_scores(values)).reshape(15, 6).mean(axis=1)
    expected = stats.f_oneway(*(means[group == code] for code in range(3)))
    found = mixed_groups(values, patient, indicators(group), no_covariates(15))
    assert found.p == pytest.approx(expected.pvalue, rel=1e-2)


def test_a_mixed_model_s_variable_must_not_be_its_covariate():
    pytest.importorskip("statsmodels")
    variable, patient = np.repeat([0.0, 1.0], 6), np.repeat(np.arange(12), 4)
    with pytest.raises(NotTestableError, match="determined by the covariates"):
        mixed_slope(np.sin(np.arange(48.0)), patient, variable, variable[:, None], binary=True)


def test_the_interval_of_an_auc_is_the_score_test_turned_round():
    for bound in auc_interval(0.8, 12, 17):
        mean = (12 + 17) / 2 - 1
        variance = bound * (1 - bound) * (1 + mean * ((1 - bound) / (2 - bound) + bound / (1 + bound))) / (12 * 17)
        assert abs(0.8 - bound) == pytest.approx(Z * math.sqrt(variance), rel=1e-6)


def test_the_interval_of_explained_variance_is_the_f_test_turned_round():
    low, high = explained_interval(6.0, 2, 50, 12 / 62)
    for bound, probability in ((low, 0.975), (high, 0.025)):
        noncentrality = bound * 53 / (1 - bound)
        assert stats.ncf.cdf(6.0, 2, 50, noncentrality) == pytest.approx(probability, abs=1e-4)
    assert explained_interval(0.5, 2, 50, 1 / 51)[0] == 0


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_the_interval_of_a_correlation_covers_it_in_95_percent(random, rho):
    truth, hits = 6 / math.pi * math.asin(rho / 2), 0
    for _ in range(1000):
        x = random.normal(size=30)
        y = rho * x + math.sqrt(1 - rho**2) * random.normal(size=30)
        low, high = correlation_interval(stats.spearmanr(x, y).statistic, 30)
        hits += low <= truth <= high
    assert 0.93 < hits / 1000 < 0.975
