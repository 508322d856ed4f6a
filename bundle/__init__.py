"""Segmentation of glomeruli in whole-slide images of kidney biopsies: the code that the configs name."""

__version__ = "0.6.0"
