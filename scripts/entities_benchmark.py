"""How fast, and in how little memory, glomeruli become a table: many slides through configs/entities.yaml.

    python scripts/entities_benchmark.py --output_dir benchmark/entities                     # 100,000 glomeruli

One phantom slide, about 200 glomeruli, stands under as many names as it takes. The command runs as a user types it, in
a process of its own, while its resident memory is sampled. Writes OUTPUT_DIR/entities_benchmark.csv (seconds, CPU
seconds, rows sealed, resident memory) and entities_benchmark.md.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from bundle.atomic import atomic_path, write_text
from bundle.errors import BundleError
from bundle.findings.store import SLIDES, CropStore
from bundle.geometry import Size
from bundle.phantom import Phantom, PhantomSpec, write_phantom

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = (sys.executable, "-m", "monai.bundle", "run", "--config_file", str(ROOT / "configs/entities.yaml"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, write the figures; give the exit status."""
    options = _options(arguments)
    try:
        datalist = _datalist(options)
        samples = pd.DataFrame(_samples(options, datalist), columns=["seconds", "cpu_seconds", "rows", "rss_mb"])
        store = CropStore.open(options.output_dir / "store")
        text = _markdown(samples, store, options)
    except (BundleError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    with atomic_path(options.output_dir / "entities_benchmark.csv") as temporary:
        samples.to_csv(temporary, index=False)
    write_text(options.output_dir / "entities_benchmark.md", text)
    print(text)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output_dir", type=Path, required=True, help="not there yet, or of the same run")
    add("--glomeruli", type=int, default=100_000, help="at least so many (default: 100,000)")
    add("--slide_px", type=int, default=4096, help="side of the phantom slide at 1 µm per pixel (default: 4096)")
    add("--crop_px", type=int, default=64, help="(default: 64)")
    add("--crop_mpp", type=float, default=4.0, help="µm per pixel of crops (default: 4)")
    add("--every_s", type=float, default=1.0, help="between two samples of memory (default: 1)")
    return parser.parse_args(arguments)


def _datalist(options: argparse.Namespace) -> Path:
    slide: Path = options.output_dir / "phantom.tif"
    options.output_dir.mkdir(parents=True, exist_ok=True)
    size = Size(options.slide_px, options.slide_px)
    phantom = Phantom(PhantomSpec(size=size, mpp=1.0, stain="HE", glomeruli_per_mm2=20.0))
    if not slide.exists():
        write_phantom(phantom, slide)
    item = {"image": slide.name, "label": slide.with_suffix(".geojson").name, "patient": "phantom", "stain": "HE"}
    count = -(-options.glomeruli // len(phantom.annotation.glomeruli))
    datalist: Path = options.output_dir / "datalist.json"
    datalist.write_text(json.dumps({"test": [{**item, "slide": f"slide_{i:05d}"} for i in range(count)]}))
    return datalist


def _samples(options: argparse.Namespace, datalist: Path) -> Iterator[tuple[float, float, int, float]]:
    """Seconds since the start, CPU seconds, rows in the store, resident memory (MB), until the command ends."""
    settings = {"datalist": datalist, "output_dir": options.output_dir / "store", "progress": False}
    settings |= {"crop_px": options.crop_px, "crop_mpp": options.crop_mpp, "shard_crops": 1024}
    command = [*PROGRAM, *(text for name, value in settings.items() for text in (f"--{name}", str(value)))]
    start = time.perf_counter()
    with open(options.output_dir / "log.txt", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=_environment(), stdout=log, stderr=log)
        watched, seals = psutil.Process(process.pid), options.output_dir / "store" / SLIDES
        while process.poll() is None:
            rows = max((json.loads(path.read_text())["stop"] for path in _latest(seals)), default=0)
            cpu, memory = watched.cpu_times(), watched.memory_info()
            yield time.perf_counter() - start, cpu.user + cpu.system, rows, memory.rss / 1e6
            time.sleep(options.every_s)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def _latest(seals: Path) -> list[Path]:
    return sorted(seals.glob("[!.]*.json"))[-1:] if seals.is_dir() else []


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def _markdown(samples: pd.DataFrame, store: CropStore, options: argparse.Namespace) -> str:
    working = samples[samples["rows"] > 0]
    total = len(store)
    marks = [working.iloc[int(np.searchsorted(working["rows"], share * total))] for share in (0.1, 0.5, 0.9)]
    memory = ", ".join(f"{mark.rss_mb:.0f} MB at {mark.rows:,.0f} rows" for mark in marks)
    cpu, seconds = samples["cpu_seconds"].iloc[-1], samples["seconds"].iloc[-1]
    return (
        f"{total:,} glomeruli of {len(store.slides):,} slides, crops of {options.crop_px} px at {options.crop_mpp:g} "
        f"µm/px: {total / cpu:.0f} rows a second of CPU time, start and tables with it ({cpu:.0f} s of CPU, "
        f"{seconds:.0f} s by the clock). Resident memory: {memory}; peak {samples['rss_mb'].max():.0f} MB.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
