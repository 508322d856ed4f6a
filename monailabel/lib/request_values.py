"""Numbers that clients send: nothing else of a request reaches the bundle's configs, in which texts can be code."""

import math
from collections.abc import Mapping
from typing import Any


class RequestError(Exception):
    """A request holds what is no number, or one out of range; the message says which."""


def number(request: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    """A finite number of a request, in `low` to `high`.

    Raises:
        RequestError: it is something else.
    """
    value = request.get(name)
    if value is None or value == "":
        return default
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not low <= found <= high:
        raise RequestError(f"{name}: {value!r} must be a number from {low:g} to {high:g}")
    return found


def whole_numbers(request: Mapping[str, Any], name: str, count: int) -> list[int]:
    """`count` whole numbers of a request; zeros where it has none.

    Raises:
        RequestError: it is something else.
    """
    value = request.get(name)
    if value is None:
        return [0] * count
    if not isinstance(value, list | tuple) or len(value) != count or not all(_is_whole(v) for v in value):
        raise RequestError(f"{name}: {value!r} must be {count} whole numbers")
    return [int(v) for v in value]


def _is_whole(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value == int(value)
    )
