"""Choose the prompts that say most: a quota of each class first, then all stains, then as different as can be.

Within a class the prompts are chosen by k-centre greedy in a feature space: the next one is the candidate farthest from
those chosen (Gonzalez 1985; Sener and Savarese, "Active learning for convolutional neural networks: a core-set
approach", ICLR 2018, algorithm 1). It bounds what few-shot segmentation can be surprised by, the distance of any
candidate from its nearest prompt, to twice the least possible one. k-medoids would lower the mean distance instead, and
so spend the few prompts on what is common and leave the rare lesion out. The first prompt of a class is the candidate
nearest to the class's mean, not a random one, since the farthest ones alone would all be outliers.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from bundle.classes import CLASS_NAMES
from bundle.errors import PromptError
from bundle.prompts.entries import PromptEntry

METHODS: Final = ("informative", "random")


def choose_prompts(
    pool: Sequence[PromptEntry],
    count: int,
    features: NDArray[np.floating] | None = None,
    *,
    method: str = "informative",
    quota: Mapping[str, int] | None = None,
    seed: int = 0,
) -> list[int]:
    """Which of `pool` to take as prompts; classes take turns, so that the first prompts are balanced too.

    Args:
        pool: candidates, see `bundle.prompts.candidates`.
        count: how many.
        features: shape (pool, D), see `bundle.prompts.features`; each column is scaled to variance 1 first. Not needed
            for "random".
        method: "informative", which has no chance in it; or "random": evenly within each class, whatever the stain.
        quota: prompts of each class, `count` in all; by default all classes of the pool alike, as far as it has them.
        seed: of "random".

    Returns:
        Indices into `pool`.

    Raises:
        PromptError: the pool has too few candidates, `quota` does not add up, or there are no features.
    """
    quota = class_quota(Counter(entry.class_name for entry in pool), count, quota)
    members = {name: [i for i, entry in enumerate(pool) if entry.class_name == name] for name in quota}
    if method == "random":
        random = np.random.default_rng(seed)
        chosen = {name: random.permutation(members[name])[: quota[name]].tolist() for name in quota}
    elif method == "informative":
        if features is None or len(features) != len(pool):
            raise PromptError(f"prompts: features are needed for each of the {len(pool)} candidates")
        chosen = _informative(pool, members, quota, _standardized(features))
    else:
        raise PromptError(f"prompts: no method {method!r}; choose one of {', '.join(METHODS)}")
    turns = range(max(quota.values()))
    return [chosen[name][turn] for turn in turns for name in quota if turn < len(chosen[name])]


def class_quota(available: Mapping[str, int], count: int, wanted: Mapping[str, int] | None = None) -> dict[str, int]:
    """Prompts of each class, in the order of `bundle.classes`, classes without a prompt left out.

    Args:
        available: candidates of each class.
        count: prompts in all.
        wanted: prompts of each class; by default classes take turns as long as they have candidates.

    Raises:
        PromptError: there are not as many candidates, or `wanted` does not add up to `count`.
    """
    if count < 1:
        raise PromptError(f"prompts: {count} prompts cannot be chosen; ask for 1 or more")
    quota = dict(wanted) if wanted is not None else _turns(available, [n for n in CLASS_NAMES if n in available], count)
    unknown = sorted(set(quota) - set(CLASS_NAMES))
    if unknown:
        raise PromptError(f"quota: unknown class {unknown[0]!r}; choose of {', '.join(CLASS_NAMES)}")
    if any(type(n) is not int or n < 0 for n in quota.values()) or (
        wanted is not None and sum(quota.values()) != count
    ):
        raise PromptError(f"quota: {quota} is no share of {count} prompts; give whole numbers that add up to it")
    short = [name for name, n in quota.items() if n > available.get(name, 0)]
    if short:
        held = available.get(short[0], 0)
        raise PromptError(f"quota: {quota[short[0]]} {short[0]} prompts are asked for, the pool holds {held}")
    if sum(quota.values()) < count:
        raise PromptError(f"prompts: {count} are asked for, the pool holds {sum(available.values())} candidates")
    return {name: quota[name] for name in CLASS_NAMES if quota.get(name)}


def k_centre_greedy(features: NDArray[np.floating], groups: Sequence[str], quota: Mapping[str, int]) -> list[int]:
    """The centres of k-centre greedy, in the order of choice; see the module's docstring.

    Args:
        features: shape (candidates, D).
        groups: of each candidate: its stain.
        quota: centres of each group.

    Returns:
        Indices; of candidates that are equally far the first.
    """
    left = dict(quota)
    distance = -np.linalg.norm(features - features.mean(0), axis=1)
    chosen: list[int] = []
    for _ in range(sum(quota.values())):
        is_open = np.array([left.get(group, 0) > 0 for group in groups])
        is_open[chosen] = False
        index = int(np.where(is_open, distance, -np.inf).argmax())
        to_index = np.linalg.norm(features - features[index], axis=1)
        distance = np.minimum(distance, to_index) if chosen else to_index
        chosen.append(index)
        left[groups[index]] -= 1
    return chosen


def covering_radii(
    pool: Sequence[PromptEntry], features: NDArray[np.floating], chosen: Sequence[int]
) -> dict[str, float]:
    """For each class with a prompt, how far the candidate is that is farthest from its nearest prompt of the class.

    In standard deviations of the features; what `k_centre_greedy` keeps small, to compare choices with.
    """
    scaled = _standardized(features)
    radii = {}
    for name in CLASS_NAMES:
        centres = scaled[[i for i in chosen if pool[i].class_name == name]]
        if len(centres):
            members = scaled[[i for i, entry in enumerate(pool) if entry.class_name == name]]
            radii[name] = float(cdist(members, centres).min(1).max())
    return radii


def _informative(
    pool: Sequence[PromptEntry],
    members: Mapping[str, Sequence[int]],
    quota: Mapping[str, int],
    features: NDArray[np.floating],
) -> dict[str, list[int]]:
    stains = {name: [pool[i].item.stain for i in members[name]] for name in quota}
    used: Counter[str] = Counter()
    chosen = {}
    # Classes with few stains first: the others then take the stains that those cannot.
    for name in sorted(quota, key=lambda name: len(set(stains[name]))):
        share = _stain_quota(Counter(stains[name]), quota[name], used)
        used.update(share)
        centres = k_centre_greedy(features[members[name]], stains[name], share)
        chosen[name] = [members[name][i] for i in centres]
    return chosen


def _stain_quota(available: Mapping[str, int], count: int, used: Mapping[str, int]) -> dict[str, int]:
    """Prompts of each stain for one class: alike within it, and those first that the set has `used` least."""
    return _turns(available, sorted(available, key=lambda stain: (used[stain], stain)), count)


def _turns(available: Mapping[str, int], order: Sequence[str], count: int) -> dict[str, int]:
    """Deal `count` in turns, one each, to those who still have candidates; fewer in all where there are too few."""
    dealt: dict[str, int] = defaultdict(int)
    left = min(count, sum(available[name] for name in order))
    while left:
        for name in order:
            if left and dealt[name] < available[name]:
                dealt[name] += 1
                left -= 1
    return {name: dealt[name] for name in order}


def _standardized(features: NDArray[np.floating]) -> NDArray[np.floating]:
    spread = features.std(0)
    return (features - features.mean(0)) / np.where(spread > 0, spread, 1)
