"""From the class names that people write in annotation files to the classes of the bundle."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from bundle.classes import BACKGROUND_INDEX, GLOBAL, GLOMERULUS_CLASSES, IGNORE_INDEX, NORMAL, SEGMENTAL
from bundle.errors import ConfigError, UnknownClassError

IGNORE: Final = "ignore"
BACKGROUND: Final = "background"
_SHOWN: Final = 120
"""Characters of an unknown name in a message."""
UNCLASSIFIED: Final = ""
"""Name of an object that the file gives no class."""

INDEX_OF: Final[Mapping[str, int]] = {
    **{c.name: c.index for c in GLOMERULUS_CLASSES},
    IGNORE: IGNORE_INDEX,
    BACKGROUND: BACKGROUND_INDEX,
}
"""Mask value of every name that a class map may map to."""

DEFAULT_CLASS_MAP: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        # gm and gl are other lesions (mesangial, lupus): glomeruli, not sclerotic.
        ("normal", "glomerulus", "glomeruli", "glom", "gn", "non_sclerotic", "nonsclerotic", "gm", "gl"),
        NORMAL.name,
    ),
    **dict.fromkeys(
        ("segmental_sclerosis", "segmentally_sclerotic", "segmental", "partially_sclerotic", "sgs", "fsgs", "ss"),
        SEGMENTAL.name,
    ),
    **dict.fromkeys(
        ("global_sclerosis", "globally_sclerotic", "global", "sclerotic", "gs", "ggs", "obsolescent"), GLOBAL.name
    ),
    **dict.fromkeys((UNCLASSIFIED, "unclassified", "none", "unknown", "ignore"), IGNORE),
    # QuPath's stock class for an area that was looked at.
    **dict.fromkeys(("background", "region"), BACKGROUND),
}
"""Class names that are understood without a class map; letter case, blanks, `_`, `-` and `*` make no difference."""


def label_of(candidates: Iterable[str], class_map: Mapping[str, str] | None, path: Path) -> tuple[str, int]:
    """The first of the `candidates` that a class is known for, and its mask value (0 to 3, or 255: ignore).

    Args:
        candidates: names that the file gives one object, the most telling first; empty ones count as no name.
        class_map: names in files to names in `INDEX_OF`, ahead of `DEFAULT_CLASS_MAP`.
        path: the annotation file, for the message.

    Raises:
        UnknownClassError: none of the names is known.
        ConfigError: `class_map` maps to a class that does not exist.
    """
    table = merged_class_map(class_map)
    names = [name for name in candidates if name.strip()] or [UNCLASSIFIED]
    for name in names:
        target = table.get(_key(name))
        if target is not None:
            return name, INDEX_OF[target]
    name = names[0] if len(names[0]) <= _SHOWN else f"{names[0][:_SHOWN]}..."
    known = ", ".join(sorted(name for name in table if name))
    raise UnknownClassError(
        f"{path}: unknown class {name!r}; known are {known}; "
        f"map it with `class_map: {{{name!r}: normal}}` (or {', '.join(list(INDEX_OF)[1:])})"
    )


def merged_class_map(class_map: Mapping[str, str] | None) -> dict[str, str]:
    """`DEFAULT_CLASS_MAP` overridden by `class_map`, with keys in one spelling; `ConfigError` on an unknown target."""
    own = {_key(name): target for name, target in (class_map or {}).items()}
    for name, target in own.items():
        if target not in INDEX_OF:
            raise ConfigError(f"class_map: {name!r} is mapped to {target!r}; choose one of {', '.join(INDEX_OF)}")
    return {**DEFAULT_CLASS_MAP, **own}


def _key(name: str) -> str:
    return re.sub(r"[\s_\-]+", "_", name.strip().lower().rstrip("*"))
