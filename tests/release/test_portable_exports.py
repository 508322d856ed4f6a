"""scripts/export.py: each export of the bundle's weights says what torch says, read by its program or one like it."""

import hashlib
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from monai.networks.nets import BasicUNet

from bundle.backends.runners import OpenVinoRunner
from bundle.geometry import Size
from bundle.phantom import Phantom, PhantomSpec
from tests.cohort import ROOT, finish, start

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

pytestmark = pytest.mark.slow
LARGEST = 1e-4
FEATURES = [24, 24, 48, 96, 192, 24]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports")
    line = [sys.executable, str(ROOT / "scripts" / "export.py"), "--output_dir", str(folder)]
    status, _, errors = finish(start(line, cwd=folder))
    assert status == 0, errors
    return folder


@pytest.fixture(scope="module")
def tiles() -> torch.Tensor:
    """Two tiles of 256 px at 4 um of a phantom with glomeruli."""
    spec = PhantomSpec(size=Size(800, 600), mpp=4.0, class_fractions=(1, 1, 1), glomeruli_per_mm2=8)
    phantom = Phantom(spec)
    image = np.stack([phantom.read(x, 100, 256, 256) for x in (100, 356)])
    return torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def logits(tiles: torch.Tensor) -> torch.Tensor:
    network = BasicUNet(spatial_dims=2, in_channels=3, out_channels=4, features=FEATURES).eval()
    network.load_state_dict(torch.load(ROOT / "models" / "model.pt", weights_only=True))
    with torch.inference_mode():
        answer = network(tiles)
    assert answer.max() - answer.min() > 10  # a network that has something to say
    return answer


def difference(found: np.ndarray | torch.Tensor, expected: torch.Tensor) -> float:
    found = torch.as_tensor(found)
    assert found.shape == expected.shape
    return float((found - expected).abs().max())


def session(path: Path) -> "onnxruntime.InferenceSession":
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_torchscript(exports, tiles, logits):
    module = torch.jit.load(exports / "model.ts")
    with torch.inference_mode():
        assert difference(module(tiles), logits) <= LARGEST
        assert module(torch.rand(1, 3, 64, 96)).shape == (1, 4, 64, 96)


@pytest.mark.parametrize("batch", [1, 2])
def test_onnx_runtime_with_any_batch(exports, tiles, logits, batch):
    (found,) = session(exports / "model.onnx").run(["logits"], {"image": tiles[:batch].numpy()})
    assert difference(found, logits[:batch]) <= LARGEST


def test_openvino(exports, tiles, logits):
    OpenVinoRunner((exports / "model.onnx").read_bytes(), (3, 256, 256), "float32", 1)  # keeps its telemetry out
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(str(exports / "openvino" / "model.xml"), "CPU", settings)
    assert difference(model(tiles.numpy())[0], logits) <= LARGEST
    assert {path.name for path in (exports / "openvino").iterdir()} == {"model.xml", "model.bin"}


def test_the_model_of_fastpathology_gives_probabilities_channel_first(exports, tiles, logits):
    read = session(exports / "fastpathology" / "models" / "glomeruli.onnx")
    (found,) = read.run(["probabilities"], {"image": tiles.numpy()})
    assert difference(found, logits.softmax(1)) <= LARGEST
    # FAST takes a second dimension of at most 4 for the channels, and must know the size of a patch.
    assert read.get_inputs()[0].shape[1:] == [3, 256, 256]
    assert read.get_outputs()[0].shape[1:] == [4, 256, 256]


def test_the_pipeline_of_fastpathology_finds_its_model_and_names_what_the_network_sees(exports):
    path = exports / "fastpathology" / "pipelines" / "glomeruli.fpl"
    lines = path.read_text().splitlines()
    attributes = dict(line.removeprefix("Attribute ").split(" ", 1) for line in lines if line.startswith("Attribute "))
    model = attributes["model"].strip('"').replace("$CURRENT_PATH$", str(path.parent))
    assert Path(model).is_file()
    assert attributes["patch-size"] == "256 256"
    assert 0.25 * 40 / float(attributes["patch-magnification"]) == 4.0  # um per pixel
    assert attributes["patch-overlap"] == "0.25"
    assert attributes["classes"] == '"background;normal;segmental_sclerosis;global_sclerosis"'
    assert float(attributes["scale-factor"]) == pytest.approx(1 / 255)


def test_opencv_which_qupath_has_reads_the_onnx(exports, tiles, logits, tmp_path):
    model = onnx.load(exports / "model.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    network = cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
    network.setInput(tiles[:1].numpy())
    assert difference(network.forward(), logits[:1]) <= LARGEST


def test_the_model_of_qupath_answers_its_own_test_tile(exports, tiles, logits):
    folder = exports / "qupath"
    description = yaml.safe_load((folder / "rdf.yaml").read_text())
    weights = description["weights"]["torchscript"]
    assert hashlib.sha256((folder / weights["source"]).read_bytes()).hexdigest() == weights["sha256"]
    (scaling,) = description["inputs"][0]["preprocessing"]
    tile, answer = (np.load(folder / description[key][0]) for key in ("test_inputs", "test_outputs"))
    assert list(tile.shape) == description["inputs"][0]["shape"]
    assert list(answer.shape) == description["outputs"][0]["shape"]
    module = torch.jit.load(folder / weights["source"])
    with torch.inference_mode():
        assert (
            difference(module(torch.from_numpy(tile) * scaling["kwargs"]["gain"]), torch.from_numpy(answer)) <= LARGEST
        )
        assert difference(module(tiles), logits.softmax(1)) <= LARGEST


def test_wrong_weights_are_one_error(tmp_path):
    line = [sys.executable, str(ROOT / "scripts" / "export.py"), "--output_dir", str(tmp_path), "--checkpoint", "no.pt"]
    status, _, errors = finish(start(line, cwd=tmp_path))
    assert status == 1
    assert errors.splitlines()[-1].startswith("error: no.pt: no such weight file")
