"""Which unlabelled slide is worth labelling next, by what the network found on each. Pure functions of GeoJSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

CLASS_PROBABILITY: Final = "Probability"
GLOMERULUS_PROBABILITY: Final = "Glomerulus probability"
"""Measurements of the bundle's GeoJSON: of the glomerulus's class, and of being a glomerulus of any class."""

SCLEROTIC: Final = ("segmental_sclerosis", "global_sclerosis")


@dataclass(frozen=True)
class SlideScore:
    """What the network found on a slide.

    Attributes:
        image: the slide's id.
        glomeruli: how many.
        uncertainty: mean of 1 - probability of the class over the glomeruli (least confidence; Lewis and Gale 1994), 0
            to 1; 0 where there are none. The mean, not the sum: labelling takes time for each glomerulus (length
            normalization; Settles and Craven 2008).
        expected_sclerotic: expected number of segmentally or globally sclerotic glomeruli.
    """

    image: str
    glomeruli: int
    uncertainty: float
    expected_sclerotic: float


def score(image: str, collection: Mapping[str, Any]) -> SlideScore:
    """The score of a slide, of its glomeruli.geojson."""
    doubts, sclerotic = [], 0.0
    for feature in collection["features"]:
        properties = feature["properties"]
        of_class = float(properties["measurements"][CLASS_PROBABILITY])
        of_any = float(properties["measurements"][GLOMERULUS_PROBABILITY])
        doubts.append(1 - of_class)
        is_sclerotic = properties["classification"]["name"] in SCLEROTIC
        # What a normal glomerulus lacks of being normal, but not of being a glomerulus, is sclerosis.
        sclerotic += of_class if is_sclerotic else max(0.0, of_any - of_class)
    uncertainty = sum(doubts) / len(doubts) if doubts else 0.0
    return SlideScore(image, len(doubts), round(uncertainty, 4), round(sclerotic, 3))


def by_uncertainty(scores: Sequence[SlideScore]) -> list[SlideScore]:
    """Most uncertain first; of equal ones by name, so that everybody is sent the same."""
    return sorted(scores, key=lambda s: (-s.uncertainty, s.image))


def by_sclerosis(scores: Sequence[SlideScore]) -> list[SlideScore]:
    """Most expected sclerosis first."""
    return sorted(scores, key=lambda s: (-s.expected_sclerotic, s.image))


def by_both(scores: Sequence[SlideScore]) -> list[SlideScore]:
    """Lowest sum of the ranks in both orders first (Borda count): the two have no common unit."""
    places: dict[str, int] = {}
    for order in (by_uncertainty(scores), by_sclerosis(scores)):
        for place, slide in enumerate(order):
            places[slide.image] = places.get(slide.image, 0) + place
    return sorted(scores, key=lambda s: (places[s.image], s.image))


ORDERS: Final[Mapping[str, Callable[[Sequence[SlideScore]], list[SlideScore]]]] = {
    "uncertainty": by_uncertainty,
    "sclerosis": by_sclerosis,
    "uncertainty_and_sclerosis": by_both,
}
"""The strategies by name."""
