"""The percentage's interval and the way numbers are written."""

import pytest
from statsmodels.stats.proportion import proportion_confint

from bundle.report.figures import percentage
from bundle.report.page import fixed


@pytest.mark.parametrize(("count", "total"), [(0, 7), (7, 7), (1, 1), (12, 50), (3, 1000)])
def test_the_interval_is_clopper_and_pearson_s(count: int, total: int) -> None:
    found = percentage(count, total)
    low, high = proportion_confint(count, total, alpha=0.05, method="beta")
    assert found is not None
    assert found.value == pytest.approx(100 * count / total)
    assert (found.low, found.high) == pytest.approx((100 * low, 100 * high), abs=1e-6)


def test_nothing_has_no_percentage() -> None:
    assert percentage(0, 0) is None


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(6.25, 1, "6.3"), (0.5, 0, "1"), (12345.6, 0, "12,346"), (0.0, 1, "0.0"), (None, 1, "\N{EN DASH}")],
)
def test_numbers_are_written_as_a_browser_writes_them(value: float | None, digits: int, text: str) -> None:
    assert fixed(value, digits) == text
