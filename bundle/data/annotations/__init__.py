"""Annotations of glomeruli: every format in, one model, GeoJSON out."""

from bundle.data.annotations.classmap import DEFAULT_CLASS_MAP
from bundle.data.annotations.geojson import write_geojson
from bundle.data.annotations.masks import mask_outline, mask_size
from bundle.data.annotations.model import Annotation, Glomerulus
from bundle.data.annotations.reading import ANNOTATION_SUFFIXES, read_annotation

__all__ = [
    "ANNOTATION_SUFFIXES",
    "DEFAULT_CLASS_MAP",
    "Annotation",
    "Glomerulus",
    "mask_outline",
    "mask_size",
    "read_annotation",
    "write_geojson",
]
