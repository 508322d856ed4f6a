"""From a prompt-set file to a `PromptSet`: its tiles, checked, and where each comes from."""

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from bundle.errors import BundleError, PromptError
from bundle.hashing import file_sha256
from bundle.prompts.cutting import PromptTile, cut_tiles
from bundle.prompts.entries import PromptEntry, name_of_entry, read_entries
from bundle.prompts.prompt_set import PromptSet, PromptSource

logger = logging.getLogger(__name__)

SMALL_PART: Final = 0.5
"""A prompt of which less than this part of a side lies on its image is worth a warning: the rest is padding."""


def read_prompt_set(path: Path | str, tile_px: int, mpp: float, *, balanced: bool = False) -> PromptSet:
    """The tiles of a prompt-set file, in its order.

    A tile has its glomerulus's centroid (or its region's middle) in its middle, to half a level-0 pixel. It is not
    moved at the image's edge: what lies off the image is white and its label 255.

    Args:
        path: see `bundle.prompts.entries`.
        tile_px: side of a tile at model resolution, pixels.
        mpp: model resolution, um per pixel.
        balanced: refuse a set that does not have all three classes equally often.

    Raises:
        PromptError: the file is malformed; or, with the entry's name, an image, annotation or glomerulus is not there
            or of another class; a glomerulus is off the slide; a tile shows no glomerulus of its class; an image has
            changed; two prompts are the same; or the set is not balanced.
    """
    entries = read_entries(path)
    prompts = load_prompts(entries, tile_px, mpp, [name_of_entry(path, i) for i in range(len(entries))])
    counts = prompts.class_counts
    if balanced and len(set(counts.values())) > 1:
        shown = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise PromptError(f"{path}: classes are not balanced ({shown}); give each class as many prompts")
    return prompts


def load_prompts(
    entries: Sequence[PromptEntry], tile_px: int, mpp: float, names: Sequence[str] | None = None
) -> PromptSet:
    """The tiles of `entries`; arguments and errors as `read_prompt_set`. Errors call entry i `names[i]`."""
    names = names or [f"prompts[{i}]" for i in range(len(entries))]
    sha256 = cache(file_sha256)
    tiles: list[PromptTile] = []
    sources: list[PromptSource] = []
    try:
        for entry, tile in zip(entries, cut_tiles(entries, tile_px, mpp), strict=True):
            sources.append(_source(entry, tile, sha256(entry.item.image)))
            tiles.append(tile)
    except BundleError as error:
        raise PromptError(f"{names[len(tiles)]}: {error}") from error
    _check_different(sources, names)
    _warn_of_padding([name for name, tile in zip(names, tiles, strict=True) if tile.shown < SMALL_PART], tile_px * mpp)
    images, labels = (np.stack([getattr(tile, key) for tile in tiles]) for key in ("image", "label"))
    return PromptSet(images, labels, tuple(sources))


def _source(entry: PromptEntry, tile: PromptTile, sha256: str | None) -> PromptSource:
    item = entry.item
    if entry.sha256 is not None and entry.sha256 != sha256:
        raise PromptError(f"{item.image}: has changed since its sha256 was noted; choose anew, or delete `sha256`")
    return PromptSource(
        image=item.image,
        label=Path(item.label or ""),
        glomerulus_id=tile.glomerulus_id,
        glomerulus_number=tile.number,
        class_name=entry.class_name,
        stain=item.stain,
        patient=item.patient,
        region=tile.region,
        mpp=tile.mpp,
        sha256=sha256,
    )


def _check_different(sources: Sequence[PromptSource], names: Sequence[str]) -> None:
    seen: dict[tuple[object, ...], str] = {}
    for source, name in zip(sources, names, strict=True):
        # A copy of the image under another name is the same prompt.
        key = (source.sha256 or source.image, source.region, source.class_name)
        if key in seen:
            raise PromptError(f"{name}: is the same prompt as {seen[key].rpartition(' ')[2]}; delete one of them")
        seen[key] = name


def _warn_of_padding(names: Sequence[str], tile_um: float) -> None:
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        logger.warning(
            "%s%s: the image covers less than half of a side of the tile (%g um); the rest is white and ignored. "
            "Choose smaller tiles or larger images",
            names[0],
            more,
            tile_um,
        )
