"""Choose prompts for few-shot segmentation from a datalist: a prompt-set file and a picture of the prompts beside it.

    python scripts/choose_prompts.py --datalist datalist.json --count 12 --checkpoint models/model.pt --out prompts.yaml

Every class of the split gets as many prompts as it can have; within a class all stains, and glomeruli that differ as
much as possible (k-centre greedy) by the features of the checkpoint's encoder, or of colour and texture without one.
"""

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from monai.bundle import ConfigParser
from numpy.typing import NDArray
from tabulate import tabulate
from tqdm import tqdm

from bundle.classes import CLASS_NAMES
from bundle.data.datalist import read_datalist
from bundle.data.datalist_files import SPLITS
from bundle.errors import BundleError, PromptError
from bundle.hashing import file_sha256
from bundle.prompts import (
    PromptEntry,
    PromptSet,
    choose_prompts,
    covering_radii,
    load_prompts,
    prompt_candidates,
    write_prompt_set,
)
from bundle.prompts.choice import METHODS
from bundle.prompts.contact_sheet import shown_glomerulus, write_contact_sheet
from bundle.prompts.cutting import cut_tiles
from bundle.prompts.features import ColourTexture, EncoderFeatures, TileFeatures, tile_features
from bundle.weights import load_weights

ROOT: Final = Path(__file__).resolve().parents[1]
DEFAULT_COUNT: Final = 12
RANDOM_DRAWS: Final = 100
"""Random choices that an informative one is compared with."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Choose and write the prompts that the command line asks for; give the exit status."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.out.suffix.lower() not in (".yaml", ".yml"):
        raise PromptError(f"{options.out}: a prompt set is a .yaml file; rename --out")
    count = options.count or (sum(options.quota.values()) if options.quota else DEFAULT_COUNT)
    pool = _pool(options)
    features = _features(pool, options) if options.method == "informative" else None
    chosen = choose_prompts(pool, count, features, method=options.method, quota=options.quota, seed=options.seed)
    prompts = load_prompts([pool[i] for i in chosen], options.tile_px, options.mpp)
    hashed = [replace(pool[i], sha256=source.sha256) for i, source in zip(chosen, prompts.sources, strict=True)]
    write_prompt_set(hashed, options.out, _provenance(options))
    sheet = options.out.with_suffix(".png")
    write_contact_sheet(prompts, sheet)
    print(_report(pool, prompts))
    if features is not None:
        print(f"\n{_comparison(pool, features, chosen, options)}")
    print(f"written: {options.out} and {sheet}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--datalist", type=Path, required=True, help="datalist whose annotated glomeruli are the pool")
    add("--split", choices=SPLITS, default="training", help="its split (default: training)")
    add("--count", type=int, help=f"prompts in all (default: {DEFAULT_COUNT}, or what --quota adds up to)")
    add("--quota", type=json.loads, help='JSON: {"normal": 4, "global_sclerosis": 8} instead of all classes alike')
    add("--method", choices=METHODS, default=METHODS[0], help="random is for comparison (default: informative)")
    add("--seed", type=int, default=0, help="of the random method (default: 0)")
    add("--checkpoint", type=Path, help="weights of the network whose features are used, e.g. models/model.pt")
    add(
        "--config_file",
        type=Path,
        nargs="+",
        default=[ROOT / "configs" / "train.yaml"],
        help="configs of that network, as it was trained (default: configs/train.yaml)",
    )
    add("--layer", help="layer whose features are used (default: the last of the config's lower_layers)")
    add("--mpp", type=float, default=4.0, help="model resolution, µm per pixel (default: 4)")
    add("--tile_px", type=int, default=128, help="side of a tile at model resolution, pixels (default: 128)")
    add("--min_area_um2", type=float, default=2000.0, help="smaller objects are no candidates (default: 2000)")
    add("--out", type=Path, required=True, help="prompt-set file to write, .yaml; the picture goes beside it as .png")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


def _pool(options: argparse.Namespace) -> list[PromptEntry]:
    items = tqdm(read_datalist(options.datalist, options.split), "pool", unit="image", disable=options.quiet)
    pool = prompt_candidates(items, options.min_area_um2)
    if not pool:
        raise PromptError(
            f"{options.datalist}: the split {options.split!r} has no whole annotated glomerulus of a known class from "
            f"{options.min_area_um2:g} um2 on; check its labels, or lower --min_area_um2"
        )
    return pool


def _features(pool: Sequence[PromptEntry], options: argparse.Namespace) -> NDArray[np.float64]:
    extractor: TileFeatures = _encoder(options) if options.checkpoint else ColourTexture()
    tiles = cut_tiles(pool, options.tile_px, options.mpp)
    bar = tqdm(tiles, "features", total=len(pool), unit="tile", disable=options.quiet)
    return tile_features(bar, extractor)


def _encoder(options: argparse.Namespace) -> EncoderFeatures:
    config = ConfigParser()
    config.read_config([str(file) for file in options.config_file])
    network = config.get_parsed_content("network_def")
    load_weights(network, options.checkpoint)
    layer = options.layer or config["lower_layers"][-1]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return EncoderFeatures(network, layer, config.get_parsed_content("tile_preprocessing"), device)


def _provenance(options: argparse.Namespace) -> dict[str, Any]:
    facts = {
        "datalist": options.datalist.name,
        "datalist_sha256": file_sha256(options.datalist),
        "split": options.split,
        "method": options.method,
        "mpp": options.mpp,
        "tile_px": options.tile_px,
    }
    if options.method == "random":
        return {**facts, "seed": options.seed}
    if options.checkpoint is None:
        return {**facts, "features": "colour and texture"}
    return {**facts, "features": options.checkpoint.name, "features_sha256": file_sha256(options.checkpoint)}


def _report(pool: Sequence[PromptEntry], prompts: PromptSet) -> str:
    rows = [
        [i, s.class_name, s.stain, s.patient, s.image.name, shown_glomerulus(s), s.glomerulus_id]
        for i, s in enumerate(prompts.sources, start=1)
    ]
    headers = ["prompt", "class", "stain", "patient", "image", "glomerulus", "id"]
    held = Counter((entry.class_name, entry.item.stain) for entry in pool)
    taken = Counter((source.class_name, source.stain) for source in prompts.sources)
    stains = sorted({stain for _, stain in held})
    counts = [[name, *(f"{taken[name, s]} of {held[name, s]}" for s in stains)] for name in CLASS_NAMES]
    return f"{tabulate(rows, headers)}\n\n{tabulate(counts, ['chosen of the pool', *stains])}"


def _comparison(
    pool: Sequence[PromptEntry], features: NDArray[np.float64], chosen: Sequence[int], options: argparse.Namespace
) -> str:
    """The covering radius of the choice beside that of random ones with the same classes."""
    quota = dict(Counter(pool[i].class_name for i in chosen))
    radii = covering_radii(pool, features, chosen)
    draws = [
        covering_radii(pool, features, choose_prompts(pool, len(chosen), method="random", quota=quota, seed=seed))
        for seed in range(RANDOM_DRAWS)
    ]
    rows = [[name, radius, np.mean([d[name] for d in draws])] for name, radius in radii.items()]
    headers = ["farthest candidate from its nearest prompt", options.method, f"random, mean of {RANDOM_DRAWS}"]
    return tabulate(rows, headers, floatfmt=".2f")


if __name__ == "__main__":
    sys.exit(main())
