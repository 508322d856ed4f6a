"""The progress bar of a cohort: slides done, slides an hour, time left, failures."""

from typing import Any

from tqdm import tqdm


class CohortBar(tqdm):
    """tqdm's bar with slides an hour, since slides take minutes."""

    def __init__(self, total: int, kept: int, disable: bool) -> None:
        bar_format = "{desc}: {n_fmt}/{total_fmt} |{bar}| {per_hour} slides/h, {remaining} left{postfix}"
        # smoothing 0: the mean of the whole run, since slides differ in size.
        super().__init__(
            total=total + kept, initial=kept, desc="slides", disable=disable, bar_format=bar_format, smoothing=0
        )
        self.failures = 0

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the format can name."""
        known = super().format_dict
        done = known["n"] - known["initial"]
        per_hour = f"{3600 * done / known['elapsed']:.1f}" if done and known["elapsed"] else "?"
        return known | {"per_hour": per_hour}

    def add(self, is_failure: bool) -> None:
        """Count a slide that has ended."""
        self.failures += is_failure
        if self.failures:
            self.set_postfix_str(f"{self.failures} failed", refresh=False)
        self.update()
