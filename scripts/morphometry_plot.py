"""Compare the size and shape of glomeruli by class, within slides: a plot, a table.

    python scripts/morphometry_plot.py --store CROPS --output_dir docs/results --name morphometry
    python scripts/morphometry_plot.py --annotations FOLDER --output_dir OUT             # outlines of unknown scale

--store is what configs/entities.yaml wrote. --annotations is a folder of annotation files without slides; without --mpp
their lengths are in px. A slide counts once: the difference of two classes is the median over slides of the ratio of
their medians, tested by Wilcoxon's signed-rank test. Writes NAME.png, NAME.csv (by class) and NAME_ratio.csv.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import wilcoxon

from bundle.atomic import atomic_path, write_text
from bundle.classes import CLASS_NAMES, GLOBAL, GLOMERULUS_CLASSES, NORMAL
from bundle.data.annotations import ANNOTATION_SUFFIXES
from bundle.errors import AnnotationError, BundleError
from bundle.findings.entities import Entities
from bundle.findings.entities_run import EntityExtraction
from bundle.findings.entities_source import EntitySource
from bundle.findings.slide_table import SlideTable
from bundle.findings.store import CropStore

SHOWN = ("equivalent_diameter_um", "area_um2", "circularity", "solidity", "eccentricity", "feret_min_um")
IMAGE = ("od_mean", "pale_fraction", "nuclei_per_mm2", "glcm_homogeneity")
"""Also shown where there are pixels."""
COLORS = {c.name: tuple(value / 255 for value in c.rgb) for c in GLOMERULUS_CLASSES}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write plot and tables; give the exit status."""
    options = _options(arguments)
    try:
        folder = options.store or _measured(options)
        table = CropStore.open(folder).table
        _report(table, _in_pixels(options), options)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--store", type=Path, help="a crop store")
    source.add_argument("--annotations", type=Path, help="a folder of annotations, a file a slide")
    parser.add_argument("--mpp", type=float, help="µm per px of --annotations, where it is known")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--name", default="morphometry", help="of the files (default: morphometry)")
    return parser.parse_args(arguments)


def _in_pixels(options: argparse.Namespace) -> bool:
    return options.store is None and options.mpp is None


def _measured(options: argparse.Namespace) -> Path:
    """A store of geometry of a folder of annotations; it is measured at 1 µm/px, that is in px, without --mpp."""
    files = sorted(path for path in options.annotations.glob("*") if path.suffix.lower() in ANNOTATION_SUFFIXES)
    if not files:
        raise AnnotationError(f"{options.annotations}: holds no annotation ({', '.join(ANNOTATION_SUFFIXES)})")
    rows = [{"image": f"{f.stem}.svs", "label": str(f.resolve()), "patient": f.stem, "stain": "unknown"} for f in files]
    folder: Path = options.output_dir / f"{options.name}_store"
    datalist = folder.with_name(f"{options.name}_datalist.json")
    write_text(datalist, json.dumps({"test": rows}))
    source = EntitySource(datalist, mpp=options.mpp or 1.0, geometry_only=True)
    EntityExtraction(source, Entities(), SlideTable(), folder).run()
    return folder


def _report(table: pd.DataFrame, in_pixels: bool, options: argparse.Namespace) -> None:
    measures = [name for name in (*SHOWN, *IMAGE) if table[name].notna().any()]
    by_class, ratios = _by_class(table, measures), _ratios(table, measures)
    if in_pixels:
        by_class, ratios = (
            frame.replace({"measure": {m: _unit(m, True) for m in measures}}) for frame in (by_class, ratios)
        )
    _plot(table, measures, in_pixels, options.output_dir / f"{options.name}.png")
    for frame, suffix in ((by_class, ""), (ratios, "_ratio")):
        with atomic_path(options.output_dir / f"{options.name}{suffix}.csv") as temporary:
            frame.to_csv(temporary, index=False, float_format="%.4g")
    print(by_class.to_string(index=False), ratios.to_string(index=False), sep="\n\n")


def _unit(measure: str, in_pixels: bool) -> str:
    return measure.replace("_um", "_px") if in_pixels else measure


def _by_class(table: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """Count, median and quartiles of each measure and class."""
    rows = []
    for measure in measures:
        for name in CLASS_NAMES:
            part = table[table["class"] == name]
            values = part[measure].dropna()
            low, middle, high = np.percentile(values, [25, 50, 75]) if len(values) else [float("nan")] * 3
            counts = {"glomeruli": len(values), "slides": part["slide"].nunique()}
            rows.append({"measure": measure, "class": name, **counts, "median": middle, "q1": low, "q3": high})
    return pd.DataFrame(rows)


def _ratios(table: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """Global sclerosis against normal within slides that have both; p is NaN with fewer than 6 slides."""
    medians = table.groupby(["slide", "class"])[measures].median().unstack("class")
    rows = []
    for measure in measures:
        pairs = medians[measure].reindex(columns=[NORMAL.name, GLOBAL.name]).dropna()
        ratio = pairs[GLOBAL.name] / pairs[NORMAL.name]
        # Fewer pairs cannot reach p < 0.05.
        p = wilcoxon(pairs[GLOBAL.name], pairs[NORMAL.name]).pvalue if len(pairs) >= 6 else float("nan")
        rows.append({"measure": measure, "slides": len(pairs), "median_ratio": ratio.median(), "p": float(p)})
    return pd.DataFrame(rows).assign(smaller=_smaller(medians, measures))


def _smaller(medians: pd.DataFrame, measures: Sequence[str]) -> list[int]:
    """In how many slides the globally sclerotic median is the smaller one."""
    columns = [NORMAL.name, GLOBAL.name]
    pairs = [medians[measure].reindex(columns=columns).dropna() for measure in measures]
    return [int((pair[GLOBAL.name] < pair[NORMAL.name]).sum()) for pair in pairs]


def _plot(table: pd.DataFrame, measures: Sequence[str], in_pixels: bool, path: Path) -> None:
    columns = 3 if len(measures) <= len(SHOWN) else 5
    figure = Figure(figsize=(3.4 * columns, 3.1 * -(-len(measures) // columns)), layout="constrained")
    axes = figure.subplots(-(-len(measures) // columns), columns, squeeze=False)
    for panel, measure in zip(axes.flat, measures, strict=False):
        _panel(panel, table, measure)
        panel.set_ylabel(_unit(measure, in_pixels).replace("_", " "))
    for panel in axes.flat[len(measures) :]:
        panel.set_axis_off()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _panel(axes: Axes, table: pd.DataFrame, measure: str) -> None:
    random = np.random.default_rng(0)  # spreads the points sideways
    names = [name for name in CLASS_NAMES if (table["class"] == name).any()]
    values = [table.loc[table["class"] == name, measure].dropna().to_numpy() for name in names]
    axes.boxplot(values, widths=0.5, showfliers=False, medianprops={"color": "black"}, manage_ticks=False)
    for place, (name, each) in enumerate(zip(names, values, strict=True), start=1):
        sideways = place + random.uniform(-0.18, 0.18, len(each))
        axes.scatter(sideways, each, s=5, color=COLORS[name], alpha=0.5, linewidth=0, zorder=0)
    labels = [f"{name.replace('_', chr(10))}\n({len(each)})" for name, each in zip(names, values, strict=True)]
    axes.set_xticks(range(1, len(names) + 1), labels)
    axes.grid(axis="y", alpha=0.3)


if __name__ == "__main__":
    sys.exit(main())
