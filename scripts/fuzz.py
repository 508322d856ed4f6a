"""Feed thousands of mutated files to the readers: `python -m scripts.fuzz --failures DIR`.

Every input must give a typed error or a valid result: no crash, no hang, bounded memory. Exit status 1 on a violation.
"""

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from tests.fuzz.targets import KINDS, Case
from tests.fuzz.trials import Outcome, run_cases


def main(arguments: list[str] | None = None) -> int:
    """Fuzz as the command line asks; give the exit status."""
    options = _parser().parse_args(arguments)
    cases = [
        Case(kind, i)
        for kind in options.kinds
        for i in range(options.start, options.start + (options.count or KINDS[kind].count))
    ]
    started_s = time.monotonic()
    trials = run_cases(cases, options.failures, workers=options.workers, timeout_s=options.timeout)
    outcomes = list(tqdm(trials, total=len(cases), unit="file", disable=options.quiet))
    print(report(outcomes))
    print(f"\n{len(outcomes)} inputs in {time.monotonic() - started_s:.0f} s")
    return int(any(outcome.is_violation for outcome in outcomes))


def report(outcomes: Sequence[Outcome]) -> str:
    """Tables in Markdown: outcomes by kind, the slowest and largest inputs, each distinct violation with an input."""
    kinds = list(dict.fromkeys(outcome.case.kind for outcome in outcomes))
    counts = Counter((outcome.result, outcome.case.kind) for outcome in outcomes)
    results = sorted({outcome.result for outcome in outcomes})
    lines = [_row("outcome", *kinds), _row("---", *["---:"] * len(kinds))]
    lines += [_row(result, *(counts[result, kind] for kind in kinds)) for result in results]
    lines += ["", _row("kind", "slowest", "CPU s", "largest", "MB"), _row(*["---"] * 5)]
    for kind in kinds:
        own = [outcome for outcome in outcomes if outcome.case.kind == kind]
        slow, large = max(own, key=lambda o: o.cpu_s), max(own, key=lambda o: o.memory_mb)
        lines.append(_row(kind, slow.case.index, f"{slow.cpu_s:.2f}", large.case.index, f"{large.memory_mb:.0f}"))
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.is_violation:
            groups.setdefault(f"{outcome.case.kind} {outcome.result} {_pattern(outcome.detail)}", []).append(outcome)
    if groups:
        lines += ["", _row("violation", "times", "first inputs"), _row(*["---"] * 3)]
    for what, found in sorted(groups.items(), key=lambda group: -len(group[1])):
        first = ", ".join(str(outcome.case.index) for outcome in found[:4])
        lines.append(_row(f"{what.split()[0]} {found[0].result}: {found[0].detail[:160]!r}", len(found), first))
    return "\n".join(lines)


def _pattern(detail: str) -> str:
    """Violations of one cause share this: the type and the place, not the numbers in the message."""
    place = re.search(r"\[[^\]]*\]$", detail)
    return f"{detail.split(':')[0]} {place[0]}" if place else re.sub(r"[\d/]+\S*", "", detail)[:60]


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Feed mutated files to the readers.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of files")
    add("--count", type=int, help="inputs of each kind; by default 2000 slides and texts, hundreds of the others")
    add("--start", type=int, default=0, help="number of the first input: to run one again")
    add("--failures", type=Path, help="folder that keeps the inputs with a violation")
    add("--workers", type=int, default=1, help="child processes")
    add("--timeout", type=float, default=60.0, help="seconds of one input")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


if __name__ == "__main__":
    sys.exit(main())
