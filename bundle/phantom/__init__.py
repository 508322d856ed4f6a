"""Phantom slides: computer-generated kidney with exact ground truth, of any size, for tests, benchmarks and demos."""

from bundle.phantom.paint import ORACLE_GLASS_RGB, ORACLE_RGB
from bundle.phantom.phantom import Phantom
from bundle.phantom.spec import STAINS, PhantomSpec, Stain
from bundle.phantom.writer import write_phantom

__all__ = ["ORACLE_GLASS_RGB", "ORACLE_RGB", "STAINS", "Phantom", "PhantomSpec", "Stain", "write_phantom"]
