"""Weights are read without running code, and fit or are refused."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from bundle.errors import WeightsError
from bundle.weights import load_weights, read_checkpoint


class Malicious:
    """Pickled, it makes the file `path` when it is loaded."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def trained():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


@pytest.fixture
def network():
    torch.manual_seed(2)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


def assert_same(network, other):
    assert network.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_a_plain_state_dict_is_loaded(trained, network, tmp_path):
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    load_weights(network, tmp_path / "model.pt")
    assert_same(network, trained)


def test_safetensors_are_loaded(trained, network, tmp_path):
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    load_weights(network, str(tmp_path / "model.safetensors"))
    assert_same(network, trained)


def test_the_network_of_a_training_state_is_loaded(trained, network, tmp_path):
    torch.save({"network": trained.state_dict(), "epoch": 3}, tmp_path / "training_state.pt")
    load_weights(network, tmp_path / "training_state.pt")
    assert_same(network, trained)


@pytest.mark.parametrize("save", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))])
def test_code_in_a_weight_file_is_refused_and_not_run(save, tmp_path):
    path, mark = tmp_path / "model.pt", tmp_path / "was_here"
    save({"weight": Malicious(mark)}, path)
    with pytest.raises(WeightsError, match=r"model\.pt: .*more than tensors and plain values"):
        read_checkpoint(path)
    assert not mark.exists()
    torch.load(path, weights_only=False) if save is torch.save else pickle.loads(path.read_bytes())
    assert mark.exists(), "the file was harmless, the test shows nothing"


def test_a_whole_pickled_network_is_refused(trained, tmp_path):
    torch.save(trained, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="save a plain state dict"):
        read_checkpoint(tmp_path / "model.pt")


def test_a_missing_file_says_where_weights_come_from(tmp_path):
    with pytest.raises(WeightsError, match=r"model\.pt: no such weight file; .*train\.yaml.*--checkpoint"):
        read_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("content", [b"", b"hello world", b"\n", b"PK\x03\x04" + bytes(100), bytes(range(256))])
@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_a_damaged_file_is_refused_in_one_line(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name) as caught:
        read_checkpoint(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


def test_a_truncated_file_is_refused(trained, tmp_path):
    path = tmp_path / "model.pt"
    torch.save(trained.state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WeightsError, match="damaged"):
        read_checkpoint(path)


def test_a_file_without_a_dictionary_is_refused(tmp_path):
    torch.save([torch.zeros(3)], tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="a list"):
        read_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("other", "count"),
    [
        (torch.nn.Conv2d(3, 4, 3), "9 of 9 tensors differ"),
        (torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)), "6 of 7 tensors differ"),
        (torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), "5 of 7 tensors differ"),
    ],
)
def test_weights_of_another_network_are_refused_and_nothing_is_loaded(other, count, network, tmp_path):
    torch.save(other.state_dict(), tmp_path / "model.pt")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(WeightsError, match=rf"model\.pt: weights of another network: {count}"):
        load_weights(network, tmp_path / "model.pt")
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
