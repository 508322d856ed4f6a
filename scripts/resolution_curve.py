"""Train the default model's recipe at several resolutions for the same number of pixels: Dice against cost.

    python scripts/resolution_curve.py --datalist runs/default_model/datalist.json \\
        --paste_datalist runs/default_model/crops.json --evaluation regions.json \\
        --work_dir runs/resolution --output_dir docs/results/resolution

A training's cost is its pixels: at twice the resolution a step of as much tissue costs four times as much, and a
quarter of the steps is made. Trainings and evaluations that are complete in the work folder are not made again.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd
import torch
from matplotlib.figure import Figure
from monai.bundle import ConfigParser

from bundle.atomic import atomic_path, write_text
from bundle.errors import BundleError, ConfigError

ROOT: Final = Path(__file__).resolve().parents[1]
TILE_UM: Final = 512
"""Side of a training tile in configs/train.yaml."""
BATCH: Final = 8
EPOCHS: Final = 10
WARMUP: Final = 0.1
"""Of the steps."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the curve that the command line asks for; give the exit status."""
    options = _parser().parse_args(arguments)
    try:
        rows = [_measured(options, mpp) for mpp in options.mpp]
        _write(pd.DataFrame(rows), options.output_dir)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--datalist", type=Path, required=True, help="what to train on")
    add("--paste_datalist", type=Path, required=True, help="glomeruli to paste")
    add("--evaluation", type=Path, required=True, help="datalist of the slides to evaluate on")
    add("--split", default="validation", help="of the evaluation's datalist (default: validation)")
    add("--mpp", type=float, nargs="+", default=[8.0, 4.0, 2.0, 1.0, 0.5], help="um per pixel (default: 8 4 2 1 0.5)")
    add("--megapixels", type=float, default=160.0, help="that each training sees (default: 160)")
    add("--work_dir", type=Path, required=True, help="folder for the trainings")
    add("--output_dir", type=Path, required=True, help="folder for resolution.csv, .md and .png")
    return parser


def _measured(options: argparse.Namespace, mpp: float) -> dict[str, float]:
    """A row of the table."""
    folder = options.work_dir.resolve() / f"mpp_{mpp:g}"
    steps = max(EPOCHS, round(options.megapixels * 1e6 / BATCH / (TILE_UM / mpp) ** 2))
    checkpoint, scores, minutes = (
        folder / "model.pt",
        folder / "evaluation" / "slides" / "per_image.csv",
        folder / "cpu_min",
    )
    if not minutes.exists():
        spent = _run(folder, "default_model.yaml", mpp, options.datalist, _training(options, steps))
        minutes.write_text(f"{spent / 60:.2f}")
    if not scores.exists():
        # Barely trained networks are sure of nothing: the default model's least probability would drop all they find.
        unfiltered = "--least_probability=0"
        extra = [f"--checkpoint={checkpoint}", f"--split={options.split}", "--backend=torch", unfiltered]
        _run(folder / "evaluation", "evaluate.yaml", mpp, options.evaluation, extra)
    return {
        "um_per_px": mpp,
        "steps": steps,
        "training_cpu_min": float(minutes.read_text()),
        "network_cpu_s_per_mm2": _cost(mpp),
        **_scores(pd.read_csv(scores)),
    }


def _training(options: argparse.Namespace, steps: int) -> list[str]:
    return [
        f"--paste_datalist={options.paste_datalist.resolve()}",
        f"--epochs={EPOCHS}",
        f"--val_interval={EPOCHS}",
        f"--tiles_per_epoch={steps // EPOCHS * BATCH}",
        f"--warmup_steps={round(steps * WARMUP)}",
        "--num_workers=0",
    ]


def _run(output_dir: Path, config: str, mpp: float, datalist: Path, extra: list[str]) -> float:
    """Run train.yaml with `config` over it; CPU-seconds that it took."""
    before = _cpu_seconds()
    command = [sys.executable, "-m", "monai.bundle", "run", f"--config_file=['configs/train.yaml','configs/{config}']"]
    common = [f"--model_mpp={mpp}", f"--datalist={datalist.resolve()}", f"--output_dir={output_dir}"]
    print(f"{config} at {mpp:g} um per pixel", flush=True)
    if subprocess.run([*command, *common, *extra], cwd=ROOT, check=False).returncode:
        raise ConfigError(f"{output_dir}: the run at {mpp:g} um per pixel failed; its message is above")
    return _cpu_seconds() - before


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _cost(mpp: float) -> float:
    """CPU-seconds of the default network for a square millimetre, one thread: the least of five tiles."""
    config = ConfigParser.load_config_file(ROOT / "configs" / "train.yaml")
    network = ConfigParser(config).get_parsed_content("network_def").eval()
    side = round(TILE_UM / mpp / 16) * 16
    tile, threads = torch.rand(1, 3, side, side), torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = []
    with torch.inference_mode():
        for _ in range(5):
            start = time.process_time()
            network(tile)
            seconds.append(time.process_time() - start)
    torch.set_num_threads(threads)
    return min(seconds) / (side * mpp / 1000) ** 2


def _scores(images: pd.DataFrame) -> dict[str, float]:
    """Mean Dice over slides, all and by stain, and F1 of the glomeruli of all slides together."""
    by_stain = images.groupby("stain")["dice_glomerulus"].mean()
    return {
        "dice_glomerulus": images["dice_glomerulus"].mean(),
        **{f"dice_{stain}": dice for stain, dice in by_stain.items()},
        "dice_global_sclerosis": images["dice_global_sclerosis"].mean(),
        **{f"f1_{kind}": _pooled_f1(images, kind) for kind in ("glomerulus", "global_sclerosis")},
    }


def _pooled_f1(images: pd.DataFrame, kind: str) -> float:
    true, *wrong = (images[f"{what}_{kind}"].sum() for what in ("true_positives", "false_positives", "false_negatives"))
    return float(2 * true / (2 * true + sum(wrong)))


def _write(table: pd.DataFrame, folder: Path) -> None:
    with atomic_path(folder / "resolution.csv") as temporary:
        table.round(4).to_csv(temporary, index=False)
    write_text(folder / "resolution.md", table.to_markdown(index=False, floatfmt=".3g") + "\n")
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for column, label in (("dice_glomerulus", "Dice, glomerulus"), ("f1_glomerulus", "F1, glomerulus")):
        axes.plot(table["network_cpu_s_per_mm2"], table[column], marker="o", label=label)
    for row in table.itertuples():
        axes.annotate(
            f"{row.um_per_px:g}", (row.network_cpu_s_per_mm2, row.dice_glomerulus), (0, 7), textcoords="offset points"
        )
    axes.set(xscale="log", ylim=(0, 1), xlabel="network, CPU-seconds per mm²", title="Each point: µm per pixel")
    axes.legend()
    with atomic_path(folder / "resolution.png") as temporary:
        figure.savefig(temporary, dpi=120)
    print(table.to_markdown(index=False, floatfmt=".3g"))


if __name__ == "__main__":
    sys.exit(main())
