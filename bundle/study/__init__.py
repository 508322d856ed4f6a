"""The study of Souza et al. 2025, run again: networks trained, fine-tuned and evaluated, its tables beside ours."""

from bundle.study.study import Study

__all__ = ["Study"]
