"""What colour, focus and compression of the scan do to a model: perturbations, protocol, table and plot."""

from bundle.robustness.perturbations import Blur, HueShift, Intensity, Jpeg, PerturbedColours
from bundle.robustness.protocol import Robustness
from bundle.robustness.report import read_results, write_report

__all__ = [
    "Blur",
    "HueShift",
    "Intensity",
    "Jpeg",
    "PerturbedColours",
    "Robustness",
    "read_results",
    "write_report",
]
