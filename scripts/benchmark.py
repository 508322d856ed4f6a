"""Time whole-slide segmentation: this bundle, MONAI's own pipeline and TIAToolbox, on the same slide and weights.

    python scripts/benchmark.py --output_dir benchmark                    # phantom slide of 20,000 x 12,000 px
    python scripts/benchmark.py --output_dir benchmark --slide SLIDE.svs --systems ours monai tiatoolbox

All get the same weights, size and overlap of tiles, and tissue; each lays the last tile of a row in its own way. Runs
alternate, every one a process of its own. Our first run on a machine also exports the network for its backend: leave
that one out. TIAToolbox gets an environment of its own, made in --output_dir once. Writes OUTPUT_DIR/benchmark.md,
benchmark.json and benchmark.png.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from monai.bundle import ConfigParser
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent / "benchmarks"))
from job import Job

from bundle.errors import BundleError
from bundle.geometry import Size
from bundle.phantom import Phantom, PhantomSpec, write_phantom
from bundle.slide import open_slide
from bundle.tissue import TissueFinder
from bundle.weights import load_weights

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = {
    "ours": "ours.py",
    "monai": "monai_pipeline.py",
    "tiatoolbox": "tiatoolbox_pipeline.py",
    "limit": "limits.py",
}
TIATOOLBOX = "2.1.3"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all, write the tables; give the exit status."""
    options = _options(arguments)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    try:
        slides = options.slide or [_phantom(options, size) for size in options.size]
        runs = [run for slide in slides for run in _benchmark(slide, options)]
    except (BundleError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    (options.output_dir / "benchmark.json").write_text(json.dumps(runs, indent=1), encoding="utf-8")
    table = _markdown(runs)
    (options.output_dir / "benchmark.md").write_text(table, encoding="utf-8")
    _plot(runs, options.output_dir / "benchmark.png")
    print(table)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output_dir", type=Path, required=True)
    add("--slide", type=Path, nargs="*", help="tiled pyramids; otherwise phantoms of --size are made")
    add("--size", type=_size, nargs="*", default=[Size(20000, 12000)], metavar="WIDTHxHEIGHT", help="level-0 px")
    add("--systems", nargs="*", choices=list(PROGRAMS), default=["limit", "ours", "monai"])
    add("--repeats", type=int, default=2)
    add("--tile_level0_px", type=int, default=1024)
    add("--overlap_level0_px", type=int, default=256)
    add("--tile_px", type=int, default=320)
    add("--batch_size", type=int, default=8)
    add("--threads", type=int, default=os.cpu_count() or 1)
    add(
        "--overrides", type=json.loads, default={}, help="JSON: overrides of configs/inference.yaml, for ours and limit"
    )
    return parser.parse_args(arguments)


def _size(text: str) -> Size:
    width, _, height = text.partition("x")
    return Size(int(width), int(height))


def _phantom(options: argparse.Namespace, size: Size) -> Path:
    path: Path = options.output_dir / f"phantom_{size.width}x{size.height}.tif"
    if not path.exists():
        print(f"writing {path}", file=sys.stderr)
        write_phantom(Phantom(PhantomSpec(size=size, mpp=0.25, seed=4)), path)
    return path


def _benchmark(slide: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    job = _job(slide, options)
    with open_slide(slide) as opened:
        megapixels = opened.size.width * opened.size.height / 1e6
    runs = []
    for repeat in range(options.repeats):
        for system in options.systems:
            run = {"slide": slide.name, "megapixels": megapixels, "repeat": repeat, **_run(system, job, options)}
            runs.append(run)
            print(json.dumps(run), file=sys.stderr, flush=True)
    return runs


def _job(slide: Path, options: argparse.Namespace) -> Job:
    folder = options.output_dir / slide.stem
    folder.mkdir(parents=True, exist_ok=True)
    with open_slide(slide) as opened:
        mpp = opened.require_mpp()
        Image.fromarray(TissueFinder()(opened).mask.astype(np.uint8) * 255).save(folder / "tissue.png")
    checkpoint = ROOT / "models/model.pt"
    parser = ConfigParser()
    parser.read_config(str(ROOT / "configs/inference.yaml"))
    network = parser.get_parsed_content("network_def")
    load_weights(network, checkpoint)
    side = options.tile_px
    torch.jit.trace(network.eval(), torch.rand(1, 3, side, side)).save(str(folder / "network.ts"))
    return Job(
        slide=str(slide.resolve()),
        tissue=str((folder / "tissue.png").resolve()),
        network=str((folder / "network.ts").resolve()),
        checkpoint=str(checkpoint),
        output_dir=str(folder.resolve()),
        mpp=mpp,
        tile_level0_px=options.tile_level0_px,
        overlap_level0_px=options.overlap_level0_px,
        tile_px=options.tile_px,
        batch_size=options.batch_size,
        threads=options.threads,
        overrides=options.overrides,
    )


def _run(system: str, job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """One run in a process of its own: its wall and CPU seconds, its peak memory, and what it says of itself."""
    folder = Path(job.output_dir) / system
    folder.mkdir(parents=True, exist_ok=True)
    replace(job, output_dir=str(folder)).write(folder / "job.json")
    python = _tiatoolbox(options.output_dir) if system == "tiatoolbox" else sys.executable
    command = [python, str(ROOT / "scripts/benchmarks" / PROGRAMS[system]), str(folder / "job.json")]
    start = time.perf_counter()
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=_environment(options))
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        print((folder / "log.txt").read_text(encoding="utf-8")[-2000:], file=sys.stderr)
        raise subprocess.CalledProcessError(process.returncode, command)
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return {
        "system": system,
        "wall_s": round(time.perf_counter() - start, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_rss_gb": round(usage.ru_maxrss * 1024 / 1e9, 3),
        **result,
        "agreement": _agreement(folder, Path(job.output_dir) / "ours"),
    }


def _environment(options: argparse.Namespace) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(options.threads), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def _tiatoolbox(folder: Path) -> str:
    """The interpreter of TIAToolbox's environment, which is made at first."""
    python = (folder / "tiatoolbox_env/bin/python").absolute()
    if not python.exists():
        print("making TIAToolbox's environment", file=sys.stderr)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        requirements = str(ROOT / "scripts/benchmarks/tiatoolbox_requirements.txt")
        subprocess.run([sys.executable, "-m", "venv", str(folder / "tiatoolbox_env")], check=True)
        subprocess.run([*pip, f"torch=={torch.__version__}"], check=True)
        # Without its dependencies: it asks for a torch below ours, and for notebooks and web servers.
        subprocess.run([*pip, "--no-deps", f"tiatoolbox=={TIATOOLBOX}", "torchvision==0.28.0"], check=True)
        subprocess.run([*pip, "--requirement", requirements, f"torch=={torch.__version__}"], check=True)
    return str(python)


def _agreement(folder: Path, ours: Path) -> float | None:
    """Dice of the glomerulus pixels of this system and of ours, at model resolution."""
    if folder == ours or not (folder / "classes.npy").exists() or not (ours / "classes.npy").exists():
        return None
    one, other = (np.load(f / "classes.npy", mmap_mode="r") > 0 for f in (folder, ours))
    height, width = (min(a, b) for a, b in zip(one.shape, other.shape, strict=True))
    one, other = one[:height, :width], other[:height, :width]
    return round(float(2 * (one & other).sum() / max(1, one.sum() + other.sum())), 4)


def _markdown(runs: list[dict[str, Any]]) -> str:
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}; "
        "medians of the runs, lowest and highest in brackets. `run` leaves out Python's imports.",
        "",
        "| slide | system | tiles | run, s | command, s | CPU, s | peak memory, GB | tiles/s | Dice with ours | "
        "stages, s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    groups = dict.fromkeys((run["slide"], run["system"]) for run in runs)
    for slide, system in groups:
        own = [run for run in runs if (run["slide"], run["system"]) == (slide, system)]
        seconds = [run["seconds"].get("run", run["wall_s"]) for run in own]
        stages = ", ".join(f"{k} {v:.1f}" for k, v in own[-1]["seconds"].items() if k != "run")
        lines.append(
            f"| {slide} | {system} | {own[0]['tiles']} | {_spread(seconds)} | {_spread([r['wall_s'] for r in own])} | "
            f"{_spread([r['cpu_s'] for r in own])} | {max(r['peak_rss_gb'] for r in own):.2f} | "
            f"{own[0]['tiles'] / statistics.median(seconds):.1f} | {own[-1]['agreement'] or ''} | {stages} |"
        )
    return "\n".join(lines) + "\n"


def _plot(runs: list[dict[str, Any]], path: Path) -> None:
    """Time and memory against slide area."""
    figure, (time_axis, memory_axis) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for system in dict.fromkeys(run["system"] for run in runs if run["system"] != "limit"):
        own = [run for run in runs if run["system"] == system]
        areas = sorted({run["megapixels"] for run in own})
        seconds = [statistics.median(r["seconds"]["run"] for r in own if r["megapixels"] == area) for area in areas]
        memory = [max(r["peak_rss_gb"] for r in own if r["megapixels"] == area) for area in areas]
        time_axis.plot(areas, seconds, "o-", label=system)
        memory_axis.plot(areas, memory, "o-", label=system)
    for axis, title in ((time_axis, "run, s"), (memory_axis, "peak memory, GB")):
        axis.set(xscale="log", xlabel="slide, megapixels", ylabel=title, ylim=(0, None))
        axis.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} [{min(values):.1f}, {max(values):.1f}]"


if __name__ == "__main__":
    sys.exit(main())
