"""Kill the cohort runner, its worker or a Ray node at random moments, run again, and compare with an undisturbed run.

    python scripts/kill_test.py --folder /tmp/kills

prints a table, a row a kill, and exits 1 when anything was lost, left behind or done twice. It makes its own slides,
and takes some minutes. For developers; the test suite has two such kills.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch
from monai.bundle import ConfigParser

from bundle.geometry import Size
from bundle.phantom import Phantom, PhantomSpec, write_phantom

ROOT = Path(__file__).resolve().parents[1]
FEATURES = [8] * 6
"""Of a network that runs in no time; its weights are random, but always the same."""

VICTIMS = ("runner", "worker", "runner", "worker", "node", "runner", "worker", "runner", "node", "worker")
NODE = "raylet"
"""The process that is a Ray node."""


def main() -> None:
    """Read the command line, kill, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="new folder for slides and outputs")
    parser.add_argument("--slides", type=int, default=12, help="slides of the cohort")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    draw = random.Random(given.seed)
    prepare(given.folder, given.slides)
    undisturbed = given.folder / "undisturbed"
    run(given.folder, undisturbed).wait()
    expected = contents(undisturbed)
    print(f"{given.slides} slides, {len(expected)} files undisturbed\n")
    print("| kill | victim | when done | done after it | done again | outputs equal | left behind |\n|-|-|-|-|-|-|-|")
    is_good = True
    for number, victim in enumerate(VICTIMS):
        moment = (draw.randrange(given.slides), draw.uniform(0.0, 1.0))
        is_good &= kill_one(given.folder, number, victim, *moment, expected)
    sys.exit(0 if is_good else 1)


def prepare(folder: Path, count: int) -> None:
    """Write slides/ and model.pt."""
    (folder / "slides").mkdir(parents=True)
    for seed in range(count):
        spec = PhantomSpec(Size(1600, 1200), mpp=2.0, seed=seed, glomeruli_per_mm2=6)
        write_phantom(Phantom(spec), folder / "slides" / f"slide{seed:02}.tif")
    parser = ConfigParser(ConfigParser.load_config_files(str(ROOT / "configs" / "inference.yaml")))
    parser.update({"network_def#features": FEATURES})
    torch.manual_seed(0)
    torch.save(parser.get_parsed_content("network_def").state_dict(), folder / "model.pt")


def run(folder: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start the command."""
    overrides = {"checkpoint": str(folder / "model.pt"), "network_def": {"features": FEATURES}, "device": "cpu"}
    line = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/cohort.yaml"]
    line += ["--slides", str(folder / "slides"), "--output_dir", str(out), "--inference_overrides", str(overrides)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    with open(folder / "log.txt", "ab") as log:
        return subprocess.Popen([*line, *options], cwd=ROOT, env=environment, stdout=log, stderr=log)


def kill_one(folder: Path, number: int, victim: str, done: int, after_s: float, expected: dict[str, str]) -> bool:
    """One kill, `after_s` seconds after so many slides were done, and the rerun; says whether nothing was lost."""
    out = folder / f"kill{number}"
    process = run(folder, out, *(["--executor", "ray"] if victim == "node" else []))
    # By slides and not by seconds, since how fast they go depends on what else the machine does.
    while len(attempts(out)) < done and process.poll() is None:
        time.sleep(0.01)
    time.sleep(after_s)
    for target in targets(process.pid, victim):
        target.kill()
    if victim != "worker":
        process.kill()
    process.wait()
    before = attempts(out)
    run(folder, out).wait()
    again = [name for name, attempt in before.items() if attempts(out).get(name) != attempt]
    left = [path for path in out.rglob(".*.tmp*")] + list(out.glob(".cohort/work/*")) + list(out.glob("failed/*"))
    is_equal = contents(out) == expected
    cells = (
        number,
        victim,
        f"{done} + {after_s:.2f} s",
        len(before),
        len(again),
        "yes" if is_equal else "NO",
        len(left),
    )
    print("|", " | ".join(map(str, cells)), "|", flush=True)
    return is_equal and not again and not left


def targets(pid: int, victim: str) -> Sequence[psutil.Process]:
    """The processes to be killed before the runner; none where it has ended or has not come so far."""
    try:
        below = psutil.Process(pid).children(recursive=True)
        if victim == "worker":
            return [process for process in below if "bundle.cohort.worker" in process.cmdline()]
        return [process for process in below if victim == "node" and process.name() == NODE]
    except psutil.NoSuchProcess:
        return []


def attempts(out: Path) -> dict[str, str]:
    """The attempt by which each slide was done."""
    return {path.parent.name: json.loads(path.read_text())["attempt"] for path in out.glob("*/state.json")}


def contents(out: Path) -> dict[str, str]:
    """Hashes of all outputs by path; the moment of their making aside."""
    found = {}
    for path in sorted(out.glob("slide*/*")):
        content = path.read_bytes()
        if path.name == "state.json":
            continue
        if path.name == "summary.json":
            summary = json.loads(content)
            del summary["provenance"]["created"]
            content = json.dumps(summary).encode()
        found[str(path.relative_to(out))] = hashlib.sha256(content).hexdigest()
    return found


if __name__ == "__main__":
    main()
