"""Prompts of few-shot segmentation: example tiles with masks, read from a file or chosen from a labelled pool."""

from bundle.prompts.candidates import prompt_candidates
from bundle.prompts.choice import choose_prompts, class_quota, covering_radii, k_centre_greedy
from bundle.prompts.entries import PromptEntry, read_entries, write_prompt_set
from bundle.prompts.prompt_set import PromptSet, PromptSource
from bundle.prompts.reading import load_prompts, read_prompt_set

__all__ = [
    "PromptEntry",
    "PromptSet",
    "PromptSource",
    "choose_prompts",
    "class_quota",
    "covering_radii",
    "k_centre_greedy",
    "load_prompts",
    "prompt_candidates",
    "read_entries",
    "read_prompt_set",
    "write_prompt_set",
]
