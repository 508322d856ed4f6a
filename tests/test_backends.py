"""Every backend says what torch says, exports once, and never runs weights that are no more."""

import copy
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.networks.nets import BasicUNet, SwinUNETR

from bundle.backends import Accelerated, BackendError
from bundle.backends.cache import user_cache_dir
from bundle.backends.runners import TENSORRT_PROVIDER, OnnxRunner, OpenVinoRunner
from bundle.errors import ConfigError
from bundle.networks import UNet3Plus
from bundle.stream.prediction import class_probabilities, decide

NETWORKS = {
    "basic_unet": lambda: BasicUNet(spatial_dims=2, in_channels=3, out_channels=4, features=[4] * 6),
    "unet3plus": lambda: UNet3Plus(features=[4, 8], skip_channels=4),
    "swin_unetr": lambda: SwinUNETR(spatial_dims=2, in_channels=3, out_channels=4, feature_size=12, depths=(1,) * 4),
}
SIDE = {"basic_unet": 48, "unet3plus": 48, "swin_unetr": 64}
BACKENDS = ["openvino", "onnxruntime"]


class Small(torch.nn.Module):
    """Two convolutions around an instance norm: quick to export."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.first, self.norm, self.last = (
            torch.nn.Conv2d(3, 4, 3),
            torch.nn.InstanceNorm2d(4),
            torch.nn.Conv2d(4, 4, 1),
        )
        self.gain = gain

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.first(torch.nn.functional.pad(tiles, (1, 1, 1, 1))))) * self.gain


class DataDependent(torch.nn.Module):
    """Looks at the numbers to choose its way: nothing that can be exported."""

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        return tiles * 2 if tiles.sum() > 0 else tiles


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def small() -> Small:
    return Small().eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds `small`, whose weights depend on the seed alone: one export serves many tests."""
    folder = tmp_path_factory.mktemp("exports")
    torch.manual_seed(0)
    run(Accelerated(Small(), "openvino", cache_dir=folder), tiles(1, 16))
    return folder


@pytest.fixture
def small_cache(exported: Path, tmp_path: Path) -> Path:
    """The same in a folder of the test's own."""
    return shutil.copytree(exported, tmp_path / "cache")


def tiles(count: int, side: int) -> torch.Tensor:
    return torch.rand(count, 3, side, side)


def run(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network.eval()(images)


def classes(logits: torch.Tensor) -> torch.Tensor:
    return torch.stack([decide(probabilities, 0.5).classes for probabilities in class_probabilities(logits)])


def no_export(*_: object, **__: object) -> bytes:
    raise AssertionError("exported again")


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n == "swin_unetr" else []) for n in NETWORKS]
)
def test_backends_give_the_logits_and_classes_of_torch_for_any_batch(name, tmp_path):
    network = NETWORKS[name]().eval()
    for backend in BACKENDS:
        accelerated = Accelerated(network, backend, cache_dir=tmp_path)
        for count in (3, 1):
            images = tiles(count, SIDE[name])
            expected, found = run(network, images), run(accelerated, images)
            assert found.dtype == torch.float32
            assert found.shape == expected.shape
            assert (found - expected).abs().max() <= 1e-3
            assert (classes(found) == classes(expected)).float().mean() >= 0.999
    assert len(list(tmp_path.iterdir())) == 1  # both read one file


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_s_tiles_keep_their_order(backend, small, small_cache):
    images = tiles(9, 16) * torch.linspace(0.1, 1, 9)[:, None, None, None]
    found = run(Accelerated(small, backend, cache_dir=small_cache), images)
    torch.testing.assert_close(found, run(small, images), atol=1e-4, rtol=0)


def test_bfloat16_is_near_torch_where_the_processor_has_it(small, small_cache):
    import openvino

    accelerated = Accelerated(small, "openvino", precision="bfloat16", cache_dir=small_cache)
    images = tiles(2, 16)
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        difference = (run(accelerated, images) - run(small, images)).abs().max()
        assert 1e-6 < difference < 0.1
    else:
        with pytest.raises(BackendError, match="no bfloat16"):
            run(accelerated, images)


def test_torch_on_a_cpu_gives_the_network_s_own_logits_and_gradients(small):
    images = tiles(2, 16)
    accelerated = Accelerated(small, "torch").eval()
    assert torch.equal(accelerated(images), small(images))
    accelerated(images).sum().backward()
    assert small.last.weight.grad is not None


def test_in_training_mode_it_is_the_network(small, tmp_path):
    accelerated = Accelerated(small, "openvino", cache_dir=tmp_path).train()
    accelerated(tiles(2, 16)).sum().backward()
    assert small.last.weight.grad is not None
    assert not list(tmp_path.iterdir())


def test_a_second_instance_exports_nothing(small, small_cache, monkeypatch):
    monkeypatch.setattr("bundle.backends.accelerated.to_onnx", no_export)
    images = tiles(2, 16)
    found = run(Accelerated(small, "onnxruntime", cache_dir=small_cache), images)
    torch.testing.assert_close(found, run(small, images), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_a_second_process_finds_the_export(small, small_cache):
    code = (
        "import torch, sys, tests.test_backends as t; torch.manual_seed(0); network = t.Small()\n"
        "t.run(t.Accelerated(network, 'openvino', cache_dir=sys.argv[1]), torch.ones(1, 3, 16, 16))\n"
        "assert 'onnxscript' not in sys.modules"  # what the exporter is written in
    )
    before = sorted(small_cache.iterdir())
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    subprocess.run([sys.executable, "-c", code, str(small_cache)], check=True, env=environment)
    assert sorted(small_cache.iterdir()) == before


def test_weights_that_change_are_exported_anew_and_only_the_bundle_speaks(small, small_cache, caplog):
    caplog.set_level(logging.INFO)
    accelerated = Accelerated(small, "openvino", cache_dir=small_cache)
    images = tiles(2, 16)
    old = run(accelerated, images)
    torch.manual_seed(7)
    small.load_state_dict(Small().state_dict())
    new = run(accelerated, images)
    assert (new - old).abs().max() > 0.1
    torch.testing.assert_close(new, run(small, images), atol=1e-4, rtol=0)
    assert len(list(small_cache.iterdir())) == 2
    assert {record.name.partition(".")[0] for record in caplog.records} == {"bundle"}


def test_a_setting_that_is_no_weight_is_not_taken_from_the_cache(small, small_cache, tmp_path):
    small.gain = 3.0
    found = run(Accelerated(small, "onnxruntime", cache_dir=tmp_path), tiles(1, 16))
    small.gain = 1.0
    before = run(Accelerated(small, "onnxruntime", cache_dir=small_cache), tiles(1, 16))
    assert found.std() > 2 * before.std()


def test_export_leaves_the_network_alone(tmp_path):
    class Counting(Small):
        calls = 0

        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return super().forward(tiles)

    small = Counting()
    weights = copy.deepcopy(small.state_dict())
    accelerated = Accelerated(small, "onnxruntime", cache_dir=tmp_path)
    run(accelerated, tiles(2, 16))
    assert small.calls == 1  # the tile of the comparison, in torch
    assert type(small.norm) is torch.nn.InstanceNorm2d
    assert all(torch.equal(value, weights[key]) for key, value in small.state_dict().items())


@pytest.mark.parametrize("damage", [b"", b"not a network", None])
def test_a_damaged_file_is_made_anew(damage, small, small_cache, caplog):
    images = tiles(1, 16)
    (path,) = small_cache.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage is None else damage)
    found = run(Accelerated(small, "openvino", cache_dir=small_cache), images)
    torch.testing.assert_close(found, run(small, images), atol=1e-4, rtol=0)
    assert f"{path}: damaged" in caplog.text
    (again,) = small_cache.iterdir()
    assert len(again.read_bytes()) == len(content)


def test_without_a_cache_folder_it_runs_with_a_warning(small, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    images = tiles(1, 16)
    found = run(Accelerated(small, "openvino", cache_dir=tmp_path / "file" / "cache"), images)
    torch.testing.assert_close(found, run(small, images), atol=1e-4, rtol=0)
    assert "not kept" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="XDG")
def test_the_cache_is_where_xdg_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache_dir() == tmp_path / "glomeruli-bundle" / "networks"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache_dir() == Path.home() / ".cache" / "glomeruli-bundle" / "networks"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "openvin"}, "must be one of auto, torch, openvino, onnxruntime, tensorrt, not openvin"),
        ({"backend": "openvino", "precision": "int8"}, "openvino has precision float32, bfloat16, not int8"),
        ({"backend": "openvino", "device": "cuda"}, "openvino runs on cpu, not on cuda"),
        ({"backend": "tensorrt", "device": "cpu"}, "tensorrt runs on cuda, not on cpu"),
    ],
)
def test_an_argument_without_meaning_is_refused_at_once(arguments, message, small):
    with pytest.raises(ConfigError, match=message):
        Accelerated(small, **arguments)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_asked_for_by_name_must_be_installed(backend, small, monkeypatch):
    without(monkeypatch, backend)
    with pytest.raises(BackendError, match=f"{backend} is not installed; pip install {backend}"):
        run(Accelerated(small, backend), tiles(1, 16))


def test_export_says_which_package_it_lacks(small, tmp_path, monkeypatch):
    without(monkeypatch, "onnxscript")
    with pytest.raises(BackendError, match="onnxscript is not installed"):
        run(Accelerated(small, "openvino", cache_dir=tmp_path), tiles(1, 16))


@pytest.mark.parametrize(
    ("missing", "taken"), [((), "openvino"), (("openvino",), "onnxruntime"), (("openvino", "onnxruntime"), "torch")]
)
def test_auto_takes_the_fastest_that_is_installed(missing, taken, small, small_cache, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    without(monkeypatch, *missing)
    images = tiles(2, 16)
    found = run(Accelerated(small, cache_dir=small_cache), images)
    torch.testing.assert_close(found, run(small, images), atol=1e-4, rtol=0)
    lines = [record.message for record in caplog.records if record.name.startswith("bundle.backends")]
    assert len(lines) == 1
    assert lines[0].startswith(f"the network runs in {taken}")


@pytest.mark.parametrize("declared", [True, False], ids=["that says so", "whose export fails"])
def test_a_network_that_cannot_be_exported_runs_in_torch_or_is_refused(declared, tmp_path, caplog):
    network = DataDependent()
    if declared:
        network.exportable = False
    images = tiles(2, 8)
    assert torch.equal(run(Accelerated(network, "auto", cache_dir=tmp_path), images), images * 2)
    assert len([record for record in caplog.records if record.name.startswith("bundle")]) == 1
    assert "runs in torch: DataDependent cannot be exported" in caplog.text
    with pytest.raises(BackendError, match=r"DataDependent cannot be exported.*choose backend: torch"):
        run(Accelerated(network, "onnxruntime", cache_dir=tmp_path), images)
    assert not list(tmp_path.iterdir())


def test_a_backend_that_says_something_else_is_not_used(small, small_cache, monkeypatch, caplog):
    monkeypatch.setattr(OpenVinoRunner, "__call__", lambda _, images: small(images) * 1.05)
    images = tiles(2, 16)
    with pytest.raises(BackendError, match="differ from torch's by"):
        run(Accelerated(small, "openvino", cache_dir=small_cache), images)
    assert torch.equal(run(Accelerated(small, cache_dir=small_cache), images), run(small, images))
    assert "the network runs in torch: openvino's logits differ" in caplog.text


def test_a_provider_that_the_build_lacks_is_an_error_that_says_what_to_install(small, small_cache):
    import onnxruntime

    if TENSORRT_PROVIDER in onnxruntime.get_available_providers():
        pytest.skip("this build has TensorRT")
    (path,) = small_cache.iterdir()
    with pytest.raises(BackendError, match="no TensorrtExecutionProvider; pip install onnxruntime-gpu"):
        OnnxRunner(path.read_bytes(), TENSORRT_PROVIDER, {}, None)


def test_threads_are_the_backend_s(small, small_cache):
    accelerated = Accelerated(small, "openvino", threads=1, cache_dir=small_cache)
    run(accelerated, tiles(1, 16))
    (runner,) = accelerated._runners.values()
    assert runner._queue[0].get_compiled_model().get_property("INFERENCE_NUM_THREADS") == 1
