"""The configs as text: every reference leads somewhere, every target exists, nothing clever hides in an expression."""

import copy
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pydoc import locate
from typing import Any

import pytest
import yaml
from monai.bundle import ComponentLocator, ConfigParser

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

PROGRAMS = {
    "train": ["train.yaml"],
    "train in processes": ["train.yaml", "multi_gpu_train.yaml"],
    "train the default model": ["train.yaml", "default_model.yaml"],
    "evaluate": ["train.yaml", "evaluate.yaml"],
    "finetune": ["train.yaml", "finetune.yaml"],
    "in-context training": ["train.yaml", "train_seggpt.yaml"],
    "inference": ["inference.yaml"],
    "inference_region": ["inference_region.yaml"],
    "inference trt": ["inference.yaml", "inference_trt.yaml"],
    "inference cascade": ["inference.yaml", "cascade.yaml"],
    "inference glance": ["inference.yaml", "glance.yaml"],
    "inference dicom": ["inference.yaml", "dicom.yaml"],
    "evaluate glance": ["train.yaml", "evaluate.yaml", "glance.yaml"],
    "evaluate cascade": ["train.yaml", "evaluate.yaml", "cascade.yaml"],
    "robustness": ["train.yaml", "evaluate.yaml", "robustness.yaml"],
    "calibrate": ["train.yaml", "evaluate.yaml", "calibrate.yaml"],
    **{
        f"{program} seggpt": [*files, "networks/seggpt.yaml"]
        for program, files in {
            "train": ["train.yaml"],
            "evaluate": ["train.yaml", "evaluate.yaml"],
            "inference": ["inference.yaml"],
        }.items()
    },
    "evaluate small seggpt": ["train.yaml", "evaluate.yaml", "networks/seggpt.yaml", "networks/seggpt_small.yaml"],
    "inference small seggpt": ["inference.yaml", "networks/seggpt.yaml", "networks/seggpt_small.yaml"],
    "cohort": ["cohort.yaml"],
    "findings": ["findings.yaml"],
    "pretrain": ["pretrain.yaml"],
    "study": ["study.yaml"],
    "study of phantoms": ["study.yaml", "study_phantom.yaml"],
    "entities": ["entities.yaml"],
    "association": ["association.yaml"],
    "case": ["case.yaml"],
    **{
        f"{program} {network}": [*files, f"networks/{network}.yaml"]
        for network in ("basic_unet", "swin_unetr", "unet3plus")
        for program, files in {"train": ["train.yaml"], "inference": ["inference.yaml"]}.items()
    },
    **{
        f"{program} {protocol}": [*files, f"protocols/{protocol}.yaml"]
        for protocol in ("study", "physical")
        for program, files in {"train": ["train.yaml"], "inference": ["inference.yaml"]}.items()
    },
    **{f"train {loss}": ["train.yaml", f"losses/{loss}.yaml"] for loss in ("dice_ce", "lovasz", "tversky")},
    "train bce_lovasz": ["train.yaml", "networks/unet3plus.yaml", "losses/bce_lovasz.yaml"],
    "inference bce_lovasz": ["inference.yaml", "networks/unet3plus.yaml", "losses/bce_lovasz.yaml"],
}
"""What a user runs, and the files that it is made of; later files override earlier ones."""

REFERENCE = re.compile(r"@([A-Za-z_]\w*(?:(?:#|::)\w+)*)")
ID = REFERENCE.pattern

EXPRESSIONS = [
    rf"{ID} \+ '/[\w./]+'",  # a path below another
    rf"{ID} / {ID}",  # a ratio of resolutions
    rf"{ID} \* \({ID} // \({ID} \* {ID}\)\)",  # iterations of a training
    rf"not {ID}",
    rf"{ID}\.(?:run|parameters|report|close)\(\)",
    rf"{ID}\.(?:size|rank|is_first|device)",  # of a process group
    rf"{ID}\.to\({ID}\)",
    r"@averaging\.network",
    r"torch\.device\('cuda' if torch\.cuda\.is_available\(\) else 'cpu'\)",
    rf"torch\.device\({ID}\)\.type == 'cuda'",
    r"from_engine\(\['loss'\], first=True\)",
    r"lambda output: None",  # MONAI's way to tell TensorBoardStatsHandler that there is no loss to plot
    rf"monai\.utils\.set_determinism\({ID}\)",
    r"monai\.data\.set_track_meta\(False\)",
]
IMPORTS = {"$import monai", "$import torch", "$from monai.handlers import from_engine"}

program = pytest.mark.parametrize("name", PROGRAMS)


@cache
def _merged(name: str) -> dict[str, Any]:
    parser = ConfigParser(ConfigParser.load_config_files([str(CONFIGS / file) for file in PROGRAMS[name]]))
    return parser.get()


def config(name: str) -> dict[str, Any]:
    """The files of a program merged by MONAI, nothing evaluated."""
    return copy.deepcopy(_merged(name))


def walk(node: Any, id: str = "") -> Iterator[tuple[str, Any]]:
    """Every (id, value) below `node`."""
    yield id, node
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in children:
        yield from walk(value, f"{id}#{key}" if id else str(key))


def texts(name: str) -> dict[str, str]:
    return {id: value for id, value in walk(config(name)) if isinstance(value, str)}


def components(name: str) -> dict[str, dict[str, Any]]:
    return {id: value for id, value in walk(config(name)) if isinstance(value, dict) and "_target_" in value}


@cache
def locator() -> ComponentLocator:
    return ComponentLocator()


def resolve(target: str) -> Any:
    """The object that MONAI takes a `_target_` for."""
    found = target if "." in target else locator().get_component_module_name(target)
    assert isinstance(found, str), f"{target} is {found}: name its module"
    return locate(found if "." in target else f"{found}.{target}")


def test_every_config_file_belongs_to_a_tested_program():
    files = {str(file.relative_to(CONFIGS)) for file in CONFIGS.rglob("*.yaml")}
    assert files == {file for files in PROGRAMS.values() for file in files}


@program
def test_every_reference_leads_to_an_id(name):
    known = {id for id, _ in walk(config(name))}
    references = [(id, ref) for id, text in texts(name).items() for ref in REFERENCE.findall(text)]
    assert len(references) > 10
    assert [(id, ref) for id, ref in references if ref.replace("::", "#") not in known] == []


@program
def test_every_at_sign_is_a_reference(name):
    for id, text in texts(name).items():
        assert text.count("@") == len(REFERENCE.findall(text)), id


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_nothing_is_addressed_by_its_place_in_a_list(file):
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    keys = [str(key) for _, node in walk(content) if isinstance(node, dict) for key in node]
    values = [value for _, value in walk(content) if isinstance(value, str)]
    assert [text for text in keys + values if re.search(r"(#|::)\d", text)] == []


def test_evaluation_overrides_only_what_training_has():
    known = {id for id, _ in walk(config("train"))}
    override = yaml.safe_load((CONFIGS / "evaluate.yaml").read_text(encoding="utf-8"))
    assert [key for key in override if "#" in key and key not in known] == []


@program
def test_every_target_exists_and_takes_the_arguments_it_gets(name):
    for id, component in components(name).items():
        target = component["_target_"]
        thing = resolve(target)
        assert callable(thing), f"{id}: {target}"
        given = {key: None for key in component if not key.startswith("_")}
        parameters = inspect.signature(thing)
        if component.get("_mode_") == "callable":
            parameters.bind_partial(**given)
        else:
            parameters.bind(**given)


@program
def test_targets_are_of_the_bundle_torch_or_monai(name):
    targets = {component["_target_"] for component in components(name).values()}
    foreign = {t for t in targets if "." in t and not t.startswith(("bundle.", "torch."))}
    assert foreign == set()
    assert all(resolve(t).__module__.startswith("monai.") for t in targets if "." not in t)


@program
def test_expressions_hide_no_logic(name):
    for id, text in texts(name).items():
        if text.startswith("$") and not id.startswith("imports"):
            assert any(re.fullmatch(pattern, text[1:]) for pattern in EXPRESSIONS), f"{id}: {text}"


@program
def test_imports_are_few(name):
    assert set(config(name).get("imports", [])) <= IMPORTS


@program
def test_run_begins_with_the_check_of_the_command_line(name):
    assert config(name)["run"][0] == {"_target_": "bundle.command_line.begin_run"}


@pytest.mark.parametrize("other", ["inference", "inference_region"])
@pytest.mark.parametrize("id", ["network_def", "network", "model_mpp", "tile_preprocessing", "device"])
def test_training_and_inference_agree(id, other):
    assert config("train")[id] == config(other)[id]


@pytest.mark.parametrize("part", ["train", "inference"])
def test_the_default_files_change_nothing(part):
    assert config(f"{part} physical") == config(part)
    assert config(f"{part} basic_unet") == {"lower_layers": config("train")["lower_layers"], **config(part)}


def test_the_default_loss_s_file_changes_nothing():
    assert config("train dice_ce") == config("train")


def test_the_study_s_loss_is_that_of_its_protocol():
    chosen = config("train bce_lovasz")
    assert chosen["loss"] == config("train study")["loss"]
    assert chosen["network_def"] == config("inference bce_lovasz")["network_def"]
    assert chosen["network_def"] == {**config("train unet3plus")["network_def"], "out_channels": 1}


@pytest.mark.parametrize("part", ["train", "inference"])
def test_the_study_s_protocol_is_the_study_s(part):
    study = config(f"{part} study")
    assert study["tiles"] == {
        "_target_": "bundle.grid.PixelTiles",
        "tile_level0_px": 1024,
        "overlap_level0_px": 256,
        "tile_px": 320,
    }
    assert study["network_def"] == {**config(part)["network_def"], "out_channels": 1}


def test_validation_segments_slides_as_inference_does():
    validate, inference = config("train")["validate"], config("inference")
    assert config("train")["tiles"] == inference["tiles"]
    assert validate["inferer"]["merger"] == inference["inferer"]["merger"]
    splitter = {k: v for k, v in inference["inferer"]["splitter"].items() if k != "workers"}
    assert validate["inferer"]["splitter"] == splitter


def test_evaluation_drops_the_objects_that_inference_drops():
    assert config("evaluate")["finder"] == config("inference")["finder"]
    for postprocessing in (config("evaluate")["validate"]["postprocessing"], config("inference")["postprocessing"]):
        assert postprocessing["transforms"][0]["finder"] == "@finder"


def test_the_best_model_is_chosen_by_a_metric_that_exists():
    train = config("train")
    assert train["best_model"]["metric"] in train["validate"]["key_metric"]
    assert train["validate"]["evaluator"]["key_val_metric"] == "@validate#key_metric"


def test_the_best_model_knows_the_epoch_s_loss_when_the_epoch_is_validated():
    handlers = {h["_target_"]: h for h in config("train")["train"]["handlers"]}
    assert handlers["bundle.handlers.EpochLoss"]["best_model"] == "@best_model"
    assert list(handlers).index("bundle.handlers.EpochLoss") < list(handlers).index("ValidationHandler")


def test_the_state_is_saved_after_the_epoch_is_validated():
    targets = [h["_target_"] for h in config("train")["train"]["handlers"]]
    assert targets.index("ValidationHandler") < targets.index("bundle.handlers.TrainingState") == len(targets) - 1
