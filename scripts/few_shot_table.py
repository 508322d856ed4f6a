"""How good few-shot segmentation is by its prompts: a table of Dice in the layout of Souza et al. 2025, Table 6.

    python scripts/few_shot_table.py --pool pool.json --datalist test.json --seggpt_dir models/seggpt_small \
        --output_dir runs/few_shot

For each number of prompts some sets are drawn at random from the training split of --pool, and each segments the split
of --datalist; so do "wrong" sets, the same prompts with every class called by another's name, and sets chosen by
scripts/choose_prompts.py's method. An image's Dice is its mean over the sets; intervals are over patients. Sets that
were evaluated before are not evaluated again.
"""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from monai.bundle import ConfigWorkflow

from bundle.atomic import write_text
from bundle.classes import CLASS_NAMES
from bundle.data.datalist import read_datalist
from bundle.errors import BundleError
from bundle.evaluation.statistics import bootstrap_interval, patients_of
from bundle.prompts import PromptEntry, choose_prompts, prompt_candidates, write_prompt_set
from bundle.prompts.cutting import cut_tiles
from bundle.prompts.features import ColourTexture, tile_features

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ("train.yaml", "evaluate.yaml", "networks/seggpt.yaml", "networks/seggpt_small.yaml")
LEVELS = {"slides": "whole slide", "crops": "per crop"}
COLUMNS = ("glomerulus", *CLASS_NAMES)


@dataclass(frozen=True)
class PromptDraw:
    """A prompt set to evaluate: `kind` is "random", "wrong class" or "chosen"."""

    kind: str
    count: int
    number: int
    entries: tuple[PromptEntry, ...]

    @property
    def name(self) -> str:
        """Folder of what it gives."""
        return f"{self.kind.replace(' ', '_')}_{self.count}_{self.number}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate all sets and write the table; give the exit status."""
    options = _options(arguments)
    try:
        draws = list(_draws(options))
        for draw in draws:
            _evaluate(draw, options)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    table = _table(draws, options.output_dir)
    write_text(options.output_dir / "few_shot.md", table)
    print(table)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pool", type=Path, required=True, help="datalist whose training split the prompts come from")
    add("--datalist", type=Path, required=True, help="datalist that is segmented")
    add("--split", default="validation", help="of --datalist (default: validation)")
    add("--seggpt_dir", type=Path, default=ROOT / "models/seggpt_small")
    add("--output_dir", type=Path, required=True)
    add("--counts", type=int, nargs="+", default=[1, 2, 3, 6, 12], help="prompts (default: 1 2 3 6 12)")
    add("--draws", type=int, default=3, help="sets of each number (default: 3)")
    add("--mpp", type=float, default=7.0, help="model resolution, µm per pixel (default: 7)")
    add("--tile_px", type=int, default=64, help="side of a prompt at model resolution (default: 64)")
    return parser.parse_args(arguments)


def _draws(options: argparse.Namespace) -> Iterator[PromptDraw]:
    pool = prompt_candidates(read_datalist(options.pool, "training"))
    features = tile_features(cut_tiles(pool, options.tile_px, options.mpp), ColourTexture())
    for count in options.counts:
        for number in range(options.draws):
            entries = [pool[i] for i in choose_prompts(pool, count, method="random", seed=number)]
            yield PromptDraw("random", count, number, tuple(entries))
            if count in (6, 12):
                yield PromptDraw("wrong class", count, number, tuple(map(_misnamed, entries)))
        if count in (6, 12):
            yield PromptDraw("chosen", count, 0, tuple(pool[i] for i in choose_prompts(pool, count, features)))


def _misnamed(entry: PromptEntry) -> PromptEntry:
    """The same glomerulus, every class of its annotation called by the next one's name."""
    following = dict(zip(CLASS_NAMES, (*CLASS_NAMES[1:], CLASS_NAMES[0]), strict=True))
    values = entry.item.mask_values and {k: following.get(v, v) for k, v in entry.item.mask_values.items()}
    names = {**dict(zip(CLASS_NAMES, CLASS_NAMES, strict=True)), **(entry.item.class_map or {})}
    class_map = {name: following.get(known, known) for name, known in names.items()}
    item = replace(entry.item, mask_values=values, class_map=None if values else class_map)
    return replace(entry, item=item, class_name=following[entry.class_name])


def _evaluate(draw: PromptDraw, options: argparse.Namespace) -> None:
    folder = options.output_dir / draw.name
    if (folder / "crops" / "per_image.csv").exists():
        return
    write_prompt_set(draw.entries, folder / "prompts.yaml", {"kind": draw.kind, "seed": draw.number})
    workflow = ConfigWorkflow(
        [str(ROOT / "configs" / name) for name in CONFIGS],
        logging_file=False,
        workflow_type="train",
        bundle_root=str(ROOT),
        datalist=str(options.datalist),
        split=options.split,
        seggpt_dir=str(options.seggpt_dir),
        prompt_set=str(folder / "prompts.yaml"),
        output_dir=str(folder),
        model_mpp=options.mpp,
        prompt_px=options.tile_px,
        progress=False,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    logging.getLogger(__name__).info("evaluated %s", draw.name)


def _table(draws: Sequence[PromptDraw], output_dir: Path) -> str:
    lines = [
        "Dice, mean over images of the mean over prompt sets [95 % interval, bootstrap over patients] (images).",
        "",
        f"| level | prompts | {' | '.join(name.replace('_', ' ') for name in COLUMNS)} |",
        f"|---|---|{'---|' * len(COLUMNS)}",
    ]
    groups = dict.fromkeys((draw.kind, draw.count) for draw in draws)
    for level, title in LEVELS.items():
        for kind, count in groups:
            files = [output_dir / d.name / level / "per_image.csv" for d in draws if (d.kind, d.count) == (kind, count)]
            # An image has the same place in each set's table.
            tables = pd.concat([pd.read_csv(file) for file in files])
            cells = " | ".join(_cell(tables, f"dice_{name}") for name in COLUMNS)
            lines.append(f"| {title} | {count} {kind}, {len(files)} sets | {cells} |")
    return "\n".join(lines) + "\n"


def _cell(tables: pd.DataFrame, column: str) -> str:
    images = tables.groupby(level=0).agg({column: "mean", "patient": "first", "slide": "first"}).dropna(subset=[column])
    if images.empty:
        return "n/a"
    interval = bootstrap_interval(images[column].to_numpy(), patients_of(images))
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}] ({len(images)})"


if __name__ == "__main__":
    sys.exit(main())
