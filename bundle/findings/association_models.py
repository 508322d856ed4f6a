"""Regression models of the association: Cox for survival, mixed models for glomeruli nested in patients.

Both come from statsmodels; lifelines' Cox regression of version 0.30 gives deprecation warnings of pandas 3.
"""

import math
import warnings
from typing import Any, Final

import numpy as np
from scipy import stats

from bundle.findings.association_intervals import coefficient_interval, explained_interval
from bundle.findings.extras import extra
from bundle.findings.tests_of_pairs import MIN_DF, Floats, NotTestableError, PairTest

MAX_LOG_HAZARD: Final = 5.0
"""Per standard deviation; beyond this the likelihood rises without end, as events and others are told apart."""

METHODS: Final = ["bfgs", "powell"]
"""Optimisers of mixed models, in turn: BFGS is fast, and may stop at the maximum without knowing it."""


def standardised(values: Floats) -> Floats:
    """Less their mean, over their standard deviation, along the first axis."""
    return (values - values.mean(axis=0)) / values.std(axis=0)


def normal_scores(values: Floats) -> Floats:
    """Blom's normal scores of the ranks: one model for skewed areas and bounded ratios."""
    return np.asarray(stats.norm.ppf((stats.rankdata(values) - 0.375) / (len(values) + 0.25)))


def cox(feature: Floats, time: Floats, event: Floats, covariates: Floats) -> PairTest:
    """Cox' proportional hazards with Efron's ties: the hazard ratio of one standard deviation more, p by Wald.

    Args:
        feature: shape (n,).
        time: until the event or the end of follow-up, shape (n,).
        event: 1 where it was seen, else 0, shape (n,).
        covariates: shape (n, k); k may be 0.

    Raises:
        NotTestableError: the likelihood has no maximum.
        ConfigError: statsmodels is not installed.
    """
    regression = extra("statsmodels.duration.hazard_regression", "Cox regressions")
    design = standardised(np.column_stack([feature, covariates]))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # a fit that fails is known by its numbers, below
        try:
            fit = regression.PHReg(time, design, status=event, ties="efron").fit()
        except np.linalg.LinAlgError as error:
            raise NotTestableError("Cox regression does not converge") from error
        slope, deviation = float(fit.params[0]), float(fit.bse[0])
    if not (np.isfinite(fit.params).all() and np.isfinite(fit.bse).all() and abs(slope) < MAX_LOG_HAZARD):
        raise NotTestableError("Cox regression does not converge (the feature tells events from others)")
    low, high = (math.exp(bound) for bound in coefficient_interval(slope, deviation))
    p = float(2 * stats.norm.sf(abs(slope) / deviation))
    name = "Cox, adjusted" if covariates.shape[1] else "Cox"
    return PairTest(name, "hazard ratio per SD", math.exp(slope), low, high, p, int(np.sign(slope)))


def mixed_slope(values: Floats, patient: Floats, variable: Floats, covariates: Floats, *, binary: bool) -> PairTest:
    """Slope of glomeruli's normal scores on a variable of their patients, with a random intercept of each patient.

    REML; p by Student's t with as many degrees of freedom as patients less coefficients, which is exact for a variable
    of patients where all have as many glomeruli (Pinheiro & Bates 2000, 2.4.2).

    Args:
        values: one a glomerulus, shape (m,).
        patient: code of each one's patient, 0 to n - 1, shape (m,).
        variable: of each patient, shape (n,).
        covariates: of each patient, shape (n, k).
        binary: leave the variable 0 and 1: the effect is the difference of the groups, in SD of the feature. Else it
            is SD of the feature per SD of the variable's normal scores.

    Raises:
        NotTestableError: the model does not converge, or the patients are too few.
        ConfigError: statsmodels is not installed.
    """
    column = variable if binary else standardised(normal_scores(variable))
    fit, df = _fit_mixed(values, patient, column[:, None], covariates)
    slope, deviation = float(fit.fe_params[1]), float(fit.bse_fe[1])
    low, high = coefficient_interval(slope, deviation, df)
    p = float(2 * stats.t.sf(abs(slope) / deviation, df))
    measure = "difference in SD" if binary else "SD per SD"
    return PairTest(_mixed_name(covariates), measure, slope, low, high, p, int(np.sign(slope)))


def mixed_groups(values: Floats, patient: Floats, groups: Floats, covariates: Floats) -> PairTest:
    """`mixed_slope` for a variable of several groups: Wald's F test, with the share of variance between patients.

    Args:
        values: see `mixed_slope`.
        patient: see there.
        groups: indicators of all groups but one, of each patient, shape (n, groups - 1).
        covariates: see there.

    Raises:
        NotTestableError: see there.
        ConfigError: see there.
    """
    fit, df2 = _fit_mixed(values, patient, groups, covariates)
    df1 = groups.shape[1]
    slopes = np.asarray(fit.fe_params)[1 : df1 + 1]
    covariance = np.asarray(fit.cov_params())[1 : df1 + 1, 1 : df1 + 1]
    f = float(slopes @ np.linalg.solve(covariance, slopes)) / df1
    explained = df1 * f / (df1 * f + df2)
    low, high = explained_interval(f, df1, df2, explained)
    return PairTest(
        _mixed_name(covariates), "partial eta squared", explained, low, high, float(stats.f.sf(f, df1, df2)), 0
    )


def _fit_mixed(values: Floats, patient: Floats, columns: Floats, covariates: Floats) -> tuple[Any, int]:
    """Results of a mixed model whose first coefficients after the intercept are of `columns`, and its df."""
    mixed = extra("statsmodels.regression.mixed_linear_model", "mixed models")
    held = standardised(covariates) if covariates.shape[1] else covariates
    design = np.column_stack([np.ones(len(columns)), columns, held])
    df = len(design) - design.shape[1]
    if df < MIN_DF:
        raise NotTestableError(f"{len(design)} patients are too few for {design.shape[1] - 1} coefficients")
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise NotTestableError("the variable is determined by the covariates")
    rows = patient.astype(int)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # says that patients do not differ, which is no fault; the rest is seen below
        try:
            model = mixed.MixedLM(standardised(normal_scores(values)), design[rows], groups=rows)
            fit = model.fit(reml=True, method=METHODS)
        except (np.linalg.LinAlgError, ValueError) as error:
            raise NotTestableError("the mixed model does not converge") from error
        errors = np.asarray(fit.bse_fe)
    if not fit.converged or not np.isfinite(errors).all() or errors.min() <= 0:
        raise NotTestableError("the mixed model does not converge")
    return fit, df


def _mixed_name(covariates: Floats) -> str:
    return "mixed model, adjusted" if covariates.shape[1] else "mixed model"
