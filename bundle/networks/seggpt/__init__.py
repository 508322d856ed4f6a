"""SegGPT (Wang et al. 2023, arXiv 2304.03284) on transformers' modules: segments what a few prompts show."""

from bundle.networks.seggpt.adapter import SegGPT
from bundle.networks.seggpt.weights import read_seggpt

__all__ = ["SegGPT", "read_seggpt"]
