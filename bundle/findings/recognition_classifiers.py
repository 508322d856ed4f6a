"""Classifiers on frozen embeddings: linear probe, nearest neighbours, prototypes. One lesion, present or absent, each.

A classifier is settings (`LinearProbe`) whose `fit` gives what was learned (`FittedLinear`): plain arrays, so that it
is saved without pickle. Scores are log-odds; `recognition_calibration` makes them probabilities.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from bundle.errors import FindingsError
from bundle.findings.extras import extra

Vectors = NDArray[np.floating]
"""(n, D)."""
Labels = NDArray[np.bool_]
"""(n,)."""

_FEWEST_DEVIATION: Final = 1e-6
"""A feature that hardly varies is left unscaled: noise is not to be blown up."""


class Fitted(Protocol):
    """What a classifier has learned."""

    kind: ClassVar[str]

    def scores(self, values: Vectors) -> NDArray[np.float64]:
        """Log-odds of the lesion, shape (n,)."""

    def arrays(self) -> dict[str, NDArray]:
        """All of it, by field name."""


class Classifier(Protocol):
    """Settings of a classifier."""

    def fit(self, values: Vectors, labels: Labels, pool: Vectors | None = None) -> Fitted:
        """Learn from labelled vectors of both classes.

        Args:
            values: (n, D).
            labels: (n,), whether the lesion is there.
            pool: (m, D), unlabelled vectors that say how features vary; `values` by default.

        Raises:
            FindingsError: a class is missing.
            ConfigError: it needs scikit-learn, which is not installed.
        """


@dataclass(frozen=True)
class _Arrays:
    """A fitted classifier's fields are its arrays."""

    def arrays(self) -> dict[str, NDArray]:
        """All of it, by field name."""
        return {name: np.asarray(value) for name, value in asdict(self).items()}

    @classmethod
    def of(cls, arrays: dict[str, NDArray]) -> Self:
        """Made again from `arrays`; TypeError where they are another kind's."""
        return cls(**arrays)


@dataclass(frozen=True)
class FittedLinear(_Arrays):
    """`weights` (D,) and `bias` () of log-odds, on unscaled embeddings."""

    weights: NDArray
    bias: NDArray
    kind: ClassVar[str] = "linear_probe"

    def scores(self, values: Vectors) -> NDArray[np.float64]:
        """See `Fitted`."""
        return values @ self.weights + self.bias


@dataclass(frozen=True)
class LinearProbe:
    """Logistic regression with an L2 penalty on standardised features, both classes of equal weight (scikit-learn).

    Attributes:
        c: inverse strength of the penalty.
    """

    c: float = 0.1

    def fit(self, values: Vectors, labels: Labels, pool: Vectors | None = None) -> FittedLinear:
        """See `Classifier`."""
        linear_model = extra("sklearn.linear_model", "lesions")
        check_both(labels)
        mean, deviation = _scale(values if pool is None else pool)
        model = linear_model.LogisticRegression(C=self.c, class_weight="balanced", max_iter=1000)
        model.fit((values - mean) / deviation, labels)
        weights = model.coef_[0] / deviation
        return FittedLinear(weights, np.asarray(model.intercept_[0] - mean @ weights))


@dataclass(frozen=True)
class FittedNeighbours(_Arrays):
    """Embeddings to compare with: `support` (n, D) of length 1 and `labels` (n,), and how a new one is scaled."""

    support: NDArray
    labels: NDArray
    mean: NDArray
    deviation: NDArray
    neighbours: NDArray
    temperature: NDArray
    kind: ClassVar[str] = "nearest_neighbours"

    def scores(self, values: Vectors) -> NDArray[np.float64]:
        """See `Fitted`."""
        count = min(int(self.neighbours), len(self.labels))
        neighbors = extra("sklearn.neighbors", "lesions")
        model = neighbors.NearestNeighbors(n_neighbors=count, metric="cosine").fit(self.support)
        distances, places = model.kneighbors(_unit((values - self.mean) / self.deviation))
        votes = np.exp(-distances / float(self.temperature))
        # Laplace's one vote for each side, of the weight of an average vote: log-odds stay finite.
        prior = votes.mean(1)
        present = (votes * self.labels[places]).sum(1)
        return np.log(present + prior) - np.log(votes.sum(1) - present + prior)


@dataclass(frozen=True)
class NearestNeighbours:
    """Votes of the nearest labelled embeddings by cosine, weighted by exp(cosine / temperature) (Wu et al. 2018).

    Attributes:
        neighbours: number of those that vote; all where fewer are labelled.
        temperature: of the weights.
    """

    neighbours: int = 5
    temperature: float = 0.07

    def fit(self, values: Vectors, labels: Labels, pool: Vectors | None = None) -> FittedNeighbours:
        """See `Classifier`."""
        check_both(labels)
        mean, deviation = _scale(values if pool is None else pool)
        support = _unit((values - mean) / deviation)
        numbers = np.asarray(self.neighbours), np.asarray(self.temperature)
        return FittedNeighbours(support, np.asarray(labels, bool), mean, deviation, *numbers)


@dataclass(frozen=True)
class FittedPrototypes(_Arrays):
    """`prototypes` (2, D), absent and present, of length 1, and how a new embedding is scaled."""

    prototypes: NDArray
    mean: NDArray
    deviation: NDArray
    temperature: NDArray
    kind: ClassVar[str] = "prototypes"

    def scores(self, values: Vectors) -> NDArray[np.float64]:
        """See `Fitted`."""
        cosines = _unit((values - self.mean) / self.deviation) @ self.prototypes.T
        return (cosines[:, 1] - cosines[:, 0]) / float(self.temperature)


@dataclass(frozen=True)
class Prototypes:
    """The class whose mean embedding is nearer by cosine (Snell et al. 2017).

    Attributes:
        temperature: by which the difference of the two cosines is divided.
    """

    temperature: float = 0.1

    def fit(self, values: Vectors, labels: Labels, pool: Vectors | None = None) -> FittedPrototypes:
        """See `Classifier`."""
        check_both(labels)
        mean, deviation = _scale(values if pool is None else pool)
        vectors = _unit((values - mean) / deviation)
        present = np.asarray(labels, bool)
        prototypes = _unit(np.stack([vectors[~present].mean(0), vectors[present].mean(0)]))
        return FittedPrototypes(prototypes, mean, deviation, np.asarray(self.temperature))


FITTED: Final[dict[str, Any]] = {kind.kind: kind for kind in (FittedLinear, FittedNeighbours, FittedPrototypes)}
"""By the name that files use."""


def check_both(labels: Labels) -> None:
    """Raise `FindingsError` where all labels are the same."""
    if len(np.unique(np.asarray(labels, bool))) < 2:
        raise FindingsError(f"all {len(labels)} labels of the training glomeruli are the same; label both classes")


def _scale(pool: Vectors) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (D,) of each feature."""
    mean, deviation = pool.mean(0, dtype=float), pool.std(0, dtype=float)
    return mean, np.where(deviation > _FEWEST_DEVIATION, deviation, 1.0)


def _unit(vectors: Vectors) -> NDArray[np.float64]:
    """Scaled to length 1; a zero vector stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)
