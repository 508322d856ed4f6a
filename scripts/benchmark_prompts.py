"""Time a tile of SegGPT by the number of prompts, with and without cached prompts, on random weights.

    OMP_NUM_THREADS=1 python scripts/benchmark_prompts.py

Prints Markdown: milliseconds of CPU time a tile (of this process, so that other programs do not count), each the median
of single tiles; and the peak memory after 50 and after 200 tiles.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from bundle.networks import SegGPT
from bundle.prompts import PromptSet

WAYS = ("joint", "cached, encoded for every tile", "cached")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(arguments)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = _model(options)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    side = options.side_px
    print(
        f"{millions:.1f} M parameters, side {side} px, patches of {options.patch_px} px, one thread, a tile at a time\n"
    )
    # First, for peak memory only rises, and the joint forward takes most.
    memory = _memory_table(model, options)
    print(
        "| prompts | " + " | ".join(f"{way}, ms a tile" for way in WAYS) + " | joint / cached | every tile / cached |"
    )
    print("|---:" * 6 + "|")
    for count in options.prompts:
        joint, anew, cached = (_milliseconds(model, way, count, options) for way in WAYS)
        times = " | ".join(f"{ms:.0f}" for ms in (joint, anew, cached))
        print(f"| {count} | {times} | {joint / cached:.1f} | {anew / cached:.1f} |", flush=True)
    print(f"\n{memory}")
    print(f"\n{_difference(model, options)}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=[1, 6, 12])
    parser.add_argument("--hidden_size", type=int, default=192)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument("--side_px", type=int, default=128)
    parser.add_argument("--patch_px", type=int, default=8)
    parser.add_argument("--tiles", type=int, default=5, help="timed tiles, of which the median is taken")
    parser.add_argument("--memory_tiles", type=int, nargs=2, default=[50, 200])
    return parser.parse_args(arguments)


def _model(options: argparse.Namespace) -> Any:
    from transformers import SegGptConfig, SegGptForImageSegmentation

    layers = options.layers
    config = SegGptConfig(
        hidden_size=options.hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=options.heads,
        image_size=[2 * options.side_px, options.side_px],
        patch_size=options.patch_px,
        pretrain_image_size=options.side_px,
        merge_index=2,
        # The last layers of quarters, as published; not of the first, which here ends before the merging layer.
        intermediate_hidden_state_indices=[layers * (quarter + 1) // 4 - 1 for quarter in range(4)][-3:],
    )
    return SegGptForImageSegmentation(config).eval()


def _network(model: Any, attention: Any, count: int, options: argparse.Namespace) -> SegGPT:
    generator = np.random.default_rng(0)
    side = options.side_px
    images = generator.integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    labels = np.repeat(np.repeat(generator.integers(0, 4, (count, 4, 4), dtype=np.uint8), side // 4, 1), side // 4, 2)
    return SegGPT(model, PromptSet(images, labels), prompt_attention=attention).eval()


def _run(network: SegGPT, tiles: int, side: int, before: Callable[[], None] | None = None) -> list[float]:
    """CPU milliseconds of each of some tiles."""
    times: list[float] = []
    with torch.inference_mode():
        for _ in range(tiles):
            tile = torch.rand(1, 3, side, side)
            if before is not None:
                before()
            start = time.process_time()
            network(tile)
            times.append(1000 * (time.process_time() - start))
    return times


def _milliseconds(model: Any, way: str, count: int, options: argparse.Namespace) -> float:
    network = _network(model, way.split(",")[0], count, options)
    anew = network.forget_prompts if way == WAYS[1] else None
    # The first tile, which encodes the prompts and warms the caches up, is left out.
    return statistics.median(_run(network, options.tiles + 1, options.side_px, anew)[1:])


def _memory_table(model: Any, options: argparse.Namespace) -> str:
    count = max(options.prompts)
    network = _network(model, "cached", count, options)
    rows, done = [f"| cached tiles, {count} prompts | peak memory, MB |", "|---:|---:|"], 0
    for tiles in options.memory_tiles:
        _run(network, tiles - done, options.side_px)
        done = tiles
        rows.append(f"| {tiles} | {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} |")
    return "\n".join(rows)


def _difference(model: Any, options: argparse.Namespace) -> str:
    """How far apart the two ways are on the same random weights."""
    count, side = max(options.prompts), options.side_px
    tile = torch.rand(1, 3, side, side)
    with torch.inference_mode():
        joint, cached = (_network(model, way, count, options)(tile) for way in ("joint", "cached"))
    part = float((cached - joint).std() / joint.std())
    same = float((cached.argmax(1) == joint.argmax(1)).float().mean())
    return f"Same weights, {count} prompts: logits differ by {part:.3f} of their deviation, {same:.1%} of pixels agree."


if __name__ == "__main__":
    main()
