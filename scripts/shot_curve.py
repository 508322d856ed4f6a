"""N-shot curves for global sclerosis across two hospitals, by encoder: table, plot and Markdown.

    python scripts/shot_curve.py --data DATA/crops --output_dir docs/results --work_dir runs/shots \
        --pretrained runs/pretrain/encoder.safetensors

The crops are those of the preset `crops`; the hospital is what their slides' names begin with. Each direction is tested
twice: on all slides of the other hospital, and on its validation slides alone, which models/model.pt and an encoder
that is pre-trained on the training split have never seen.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd
from monai.bundle import ConfigParser

from bundle.atomic import atomic_path, write_text
from bundle.data.presets import preset_items
from bundle.errors import BundleError
from bundle.findings.embedding import embed_crops
from bundle.findings.embedding_crops import DatalistCrops
from bundle.findings.encoders import Encoder
from bundle.findings.recognition_labels import read_lesions
from bundle.findings.shots import Transfer, transfer_curves
from bundle.findings.shots_report import plot_shots, shots_markdown

ROOT: Final = Path(__file__).resolve().parents[1]
CONFIG: Final = ROOT / "configs" / "findings.yaml"
HOSPITAL: Final = Transfer("patient", r"^([A-Z]+)_")
SIDE_PX: Final = 128
WIDTH_UM: Final = 200.0
"""What a crop of the preset stands for: the glomerulus's box, resized, so that its scale is lost."""
INPUT_PX: Final = 64
"""Side at which the encoders see it; of 48, 64, 96 and 128 the best on these crops."""
ALL: Final = "all slides"
UNSEEN: Final = "slides that no encoder has seen"
BEST: Final = "linear_probe"
"""The classifier of the tables; the CSV has all of them on unseen slides."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the curves that the command line asks for; give the exit status."""
    options = _parser().parse_args(arguments)
    try:
        curves = pd.concat(_curves(options), ignore_index=True)
        _write(curves, options.output_dir)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with crops.csv, images/ and masks/")
    add("--output_dir", type=Path, required=True, help="folder for shots.csv, shots.md and shots.png")
    add("--work_dir", type=Path, required=True, help="folder for the embeddings, which are used again")
    add("--pretrained", type=Path, help="encoder.safetensors of configs/pretrain.yaml")
    add("--draws", type=int, default=100, help="of the shots (default: 100)")
    add("--quiet", action="store_true", help="no progress bars")
    return parser


def _curves(options: argparse.Namespace) -> Iterator[pd.DataFrame]:
    items = [
        {**item.as_dict(), "split": split}
        for split, found in preset_items("crops", options.data, WIDTH_UM).items()
        for item in found
    ]
    crops = DatalistCrops(items, SIDE_PX, WIDTH_UM / SIDE_PX)
    classifiers = _configured("classifiers")
    for name, encoder in _encoders(options.pretrained):
        path = options.work_dir / f"{name.translate(str.maketrans(' /', '__'))}.parquet"
        embeddings = embed_crops(crops, encoder, path, progress=not options.quiet)
        lesions = read_lesions(None, embeddings.table)
        unseen = (embeddings.table["split"] == "validation").to_numpy()
        for test, rows, chosen in ((UNSEEN, unseen, classifiers), (ALL, None, {BEST: classifiers[BEST]})):
            curves = transfer_curves(
                embeddings,
                lesions,
                {test: HOSPITAL},
                chosen,
                draws=options.draws,
                progress=not options.quiet,
                test_rows=rows,
            )
            yield curves.assign(encoder=name)


def _encoders(pretrained: Path | None) -> Iterator[tuple[str, Encoder]]:
    yield "colour and texture", _configured("encoder", encoder="@encoders#colour")
    yield "model.pt", _configured("encoder")
    if pretrained is not None:
        yield "model.pt, then pretrain.yaml", _configured("encoder", checkpoint=str(pretrained))


def _configured(id: str, **overrides: Any) -> Any:
    """What configs/findings.yaml makes of its entry `id`."""
    config = ConfigParser(ConfigParser.load_config_file(CONFIG))
    sizes = {f"encoders#{name}#input_px": INPUT_PX for name in ("own", "colour")}
    config.update({"bundle_root": str(ROOT), **sizes, **overrides})
    return config.get_parsed_content(id)


def _write(curves: pd.DataFrame, folder: Path) -> None:
    with atomic_path(folder / "shots.csv") as temporary:
        curves.round(4).to_csv(temporary, index=False)
    best = curves[curves["classifier"] == BEST]
    unseen = best[best["transfer"] == UNSEEN]
    plot_shots(unseen, folder / "shots.png", lines="encoder")
    write_text(folder / "shots.md", shots_markdown(best, lines="encoder"))
    print(shots_markdown(unseen, lines="encoder"))


if __name__ == "__main__":
    sys.exit(main())
