"""Whole-slide inference in rows: split, infer, blend in a band, let finished rows go."""

from bundle.stream.augmented import DihedralMean, TemperatureScaled
from bundle.stream.glance import Glance
from bundle.stream.inferer import SlideInferer
from bundle.stream.merger import BandMerger
from bundle.stream.prediction import ClassMap
from bundle.stream.splitter import TileSplitter

__all__ = ["BandMerger", "ClassMap", "DihedralMean", "Glance", "SlideInferer", "TemperatureScaled", "TileSplitter"]
