"""Prompts for SegGPT from the labels that users have submitted so far."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from bundle.data.datalist import item_of_row
from bundle.errors import PromptError
from bundle.prompts import choose_prompts, prompt_candidates, write_prompt_set
from bundle.prompts.cutting import cut_tiles
from bundle.prompts.features import ColourTexture, tile_features

from .seggpt_files import check_seggpt_files


def prompts_from_labels(
    rows: Sequence[Mapping[str, Any]],
    count: int,
    config_files: Sequence[str],
    overrides: Mapping[str, Any],
    path: str,
) -> dict[str, Any]:
    """Choose up to `count` labelled glomeruli as prompts and write them as a prompt set.

    Args:
        rows: labelled slides, with the keys of a datalist and absolute paths.
        count: prompts, fewer where fewer glomeruli are labelled.
        config_files: of the SegGPT workflow, which say the prompts' size and resolution.
        overrides: of them.
        path: .yaml to write.

    Returns:
        "prompt_set": the file; "prompts": how many.

    Raises:
        WeightsError: SegGPT's weights are missing: prompts would be of no use.
        PromptError: no label holds a whole glomerulus of a known class.
        BundleError: a slide or label cannot be read.
    """
    check_seggpt_files(overrides)
    items = [item_of_row(row, Path(), "submitted labels").as_dict() for row in rows]
    pool = prompt_candidates(items)
    if not pool:
        raise PromptError(
            f"SegGPT needs examples: none of the {len(items)} submitted labels holds a whole glomerulus of a known "
            f"class; outline some, submit the label and ask again"
        )
    config = ConfigParser(ConfigParser.load_config_files(list(config_files)))
    config.update(dict(overrides))
    side, mpp = (config.get_parsed_content(name) for name in ("prompt_px", "model_mpp"))
    features = tile_features(cut_tiles(pool, side, mpp), ColourTexture())
    chosen = choose_prompts(pool, min(count, len(pool)), features)
    write_prompt_set([pool[i] for i in chosen], path, {"chosen_from": f"{len(pool)} glomeruli of submitted labels"})
    return {"prompt_set": path, "prompts": len(chosen)}
