"""What the documents' commands are given, made of small phantoms: `python -m tests.release.given_files SLIDES CROPS`.

Things are made in the current folder, under the names that documents give them; names that are not known are passed
over. scripts/run_docs.py calls it with all words of the commands that it is about to run.
"""

import json
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from monai.bundle import ConfigParser
from PIL import Image

from bundle.classes import CLASS_NAMES
from bundle.findings.store import CropStore
from bundle.geometry import Size
from bundle.phantom import Phantom, PhantomSpec, Stain, write_phantom
from tests.cohort import command, finish, start
from tests.dicom.dicom_slides import write_dicom_slide
from tests.release.given_data_sets import write_data_sets

PATIENTS = tuple(f"{hospital}_{number}" for number in range(6) for hospital in ("NORTH", "SOUTH"))
SPLITS = {"training": PATIENTS[:8], "validation": PATIENTS[8:10], "test": PATIENTS[10:]}
HERE = Path()


def main(names: list[str]) -> None:
    """Make what is named."""
    for known, make in MAKERS.items():
        if any(name == given or name.startswith(f"{given}/") for given in known for name in names):
            make()


def phantom(seed: int, stain: Stain = "PAS") -> Phantom:
    """1.6 x 1.2 mm with about a dozen glomeruli of all classes."""
    return Phantom(PhantomSpec(Size(800, 600), 2.0, stain, seed, glomeruli_per_mm2=12, class_fractions=(1, 1, 1)))


@cache
def slides() -> None:
    """A slide a patient, 01_PAS.tif ..., with annotations beside; FEW_SLIDES has the first two."""
    for seed in range(len(PATIENTS)):
        stain: Stain = "HE" if seed % 2 else "PAS"
        write_phantom(phantom(seed, stain), HERE / "SLIDES" / f"{seed + 1:02d}_{stain}.tif")
    (HERE / "FEW_SLIDES").mkdir()
    for path in sorted((HERE / "SLIDES").glob("*.tif"))[:2]:
        shutil.copy(path, HERE / "FEW_SLIDES")


@cache
def datalists() -> None:
    """datalist.json, and the same by the names of other documents."""
    slides()
    images = dict(zip(PATIENTS, sorted((HERE / "SLIDES").glob("*.tif")), strict=True))
    rows = {
        split: [
            {"image": str(image), "label": str(image.with_suffix(".geojson")), "patient": p, "stain": image.stem[3:]}
            for p, image in images.items()
            if p in patients
        ]
        for split, patients in SPLITS.items()
    }
    for name in ("datalist.json", "DATALIST.json", "kidney.json"):
        (HERE / name).write_text(json.dumps(rows))


@cache
def crop_stores() -> None:
    """CROPS of all slides; OTHERS is the same."""
    datalists()
    run(HERE / "configs/entities.yaml", datalist="datalist.json", output_dir="CROPS", crop_px=64, crop_mpp=4.0)
    shutil.copytree(HERE / "CROPS", HERE / "OTHERS")


def lesions() -> None:
    """LABELS.csv: a lesion that goes with the class, known of all glomeruli."""
    crop_stores()
    table = CropStore.open(HERE / "CROPS").table
    lesion = (table["class"] == CLASS_NAMES[-1]).astype(int)
    pd.DataFrame({"entity_id": table["entity_id"], "scar": lesion}).to_csv(HERE / "LABELS.csv", index=False)


def clinical() -> None:
    """clinical.csv and clinical.yaml, of chance alone."""
    random = np.random.default_rng(0)
    rows = {"patient": PATIENTS, "egfr": random.normal(60, 20, 12).round(), "diabetes": ["no", "yes"] * 6}
    pd.DataFrame(rows).to_csv(HERE / "clinical.csv", index=False)
    declared = "egfr: {kind: continuous}\ndiabetes: {kind: binary, levels: ['no', 'yes']}\n"
    (HERE / "clinical.yaml").write_text(declared)


def annotations() -> None:
    """FOLDER: annotations without their slides."""
    slides()
    (HERE / "FOLDER").mkdir()
    for path in (HERE / "SLIDES").glob("*.geojson"):
        shutil.copy(path, HERE / "FOLDER")


def weights() -> None:
    """runs/mine/model.pt is that of the bundle, runs/unet3plus/model.pt random."""
    config = ConfigParser(ConfigParser.load_config_files(["configs/train.yaml", "configs/networks/unet3plus.yaml"]))
    for name in ("mine", "unet3plus"):
        (HERE / "runs" / name).mkdir(parents=True)
    shutil.copy(HERE / "models" / "model.pt", HERE / "runs/mine/model.pt")
    torch.save(config.get_parsed_content("network_def").state_dict(), HERE / "runs/unet3plus/model.pt")


def seggpt() -> None:
    """models/seggpt: a SegGPT of the published one's side, narrow and random."""
    from safetensors.torch import save_file
    from transformers import SegGptConfig, SegGptForImageSegmentation

    sizes = {"image_size": [896, 448], "patch_size": 32, "pretrain_image_size": 224, "hidden_size": 24}
    sizes |= {"num_hidden_layers": 4, "num_attention_heads": 3, "merge_index": 1, "decoder_hidden_size": 8}
    model = SegGptForImageSegmentation(SegGptConfig(**sizes, intermediate_hidden_state_indices=[1, 3]))
    folder = HERE / "models" / "seggpt"
    folder.mkdir(parents=True)
    model.config.save_pretrained(folder)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors")


def evaluations() -> None:
    """runs/a/evaluation, and runs/b with the slides of another model's worse results."""
    datalists()
    overrides = {"datalist": "datalist.json", "split": "test", "output_dir": "runs/a/evaluation"}
    run(HERE / "configs/train.yaml", HERE / "configs/evaluate.yaml", **overrides)
    table = pd.read_csv(HERE / "runs/a/evaluation/slides/per_image.csv")
    measures = table.select_dtypes("number").columns
    folder = HERE / "runs/b/evaluation/slides"
    folder.mkdir(parents=True)
    table.assign(**{name: table[name] * 0.9 for name in measures}).to_csv(folder / "per_image.csv", index=False)


def pictures() -> None:
    """REGION.png and fields/images/."""
    Image.fromarray(phantom(0).read(0, 0, 400, 300)).save(HERE / "REGION.png")
    (HERE / "fields/images").mkdir(parents=True)
    for seed in range(3):
        Image.fromarray(phantom(seed).read(200, 150, 256, 256)).save(HERE / "fields/images" / f"{seed}.jpg")


def dicom_slide() -> None:
    """DICOM_FOLDER, a series of three levels."""
    made = phantom(1)
    size = made.spec.size
    write_dicom_slide(HERE / "DICOM_FOLDER", made.read(0, 0, size.width, size.height), made.spec.mpp)


def data_sets() -> None:
    """DATA/, the data sets that presets know."""
    write_data_sets(HERE / "DATA", phantom)


def run(*config_files: Path, **overrides: object) -> None:
    """A command of the bundle, which must succeed."""
    status, _, errors = finish(start(command(*config_files, **overrides), cwd=Path.cwd()))
    if status != 0:
        raise SystemExit(errors[-2000:])


MAKERS: dict[tuple[str, ...], Callable[[], None]] = {
    ("SLIDES", "SLIDE", "/shared/slides"): slides,
    ("datalist.json", "DATALIST.json", "kidney.json"): datalists,
    ("CROPS", "OTHERS"): crop_stores,
    ("LABELS.csv",): lesions,
    ("clinical.csv",): clinical,
    ("FOLDER",): annotations,
    ("runs/mine", "runs/unet3plus"): weights,
    ("models/seggpt",): seggpt,
    ("runs/a", "runs/b"): evaluations,
    ("REGION.png", "fields"): pictures,
    ("DICOM_FOLDER",): dicom_slide,
    ("DATA",): data_sets,
}
"""What makes the things of these names."""

if __name__ == "__main__":
    main(sys.argv[1:])
