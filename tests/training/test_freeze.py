"""Fine-tuning leaves the named layers exactly as they were, and moves the others."""

import pytest
import torch
from ignite.engine import Engine
from monai.networks.nets import BasicUNet, SwinUNETR

from bundle.errors import ConfigError
from bundle.networks import UNet3Plus
from bundle.training import FreezeLayers
from tests.configs.test_configs import config

NETWORKS = {
    "basic_unet": lambda: BasicUNet(2, 3, 4, features=(8, 8, 8, 8, 8, 8)),
    "swin_unetr": lambda: SwinUNETR(3, 4, feature_size=12, spatial_dims=2),
    "unet3plus": lambda: UNet3Plus(features=(4, 8, 8), skip_channels=4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_lower_layers_stay_and_the_others_learn(name):
    torch.manual_seed(0)
    network = NETWORKS[name]()
    lower = config(f"train {name}")["lower_layers"]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.1)

    def step(engine: Engine, tile: torch.Tensor) -> None:
        network.train()
        optimizer.zero_grad()
        network(tile).square().sum().backward()
        optimizer.step()

    trainer = Engine(step)
    FreezeLayers(network, lower).attach(trainer)
    trainer.run([torch.rand(2, 3, 64, 64)] * 2)
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    counters = {key for key in changed if key.endswith("num_batches_tracked")}
    frozen = {key for key in before if any(key.startswith(f"{layer}.") for layer in lower)}
    assert frozen
    assert not (changed - counters) & frozen
    learnt = {key for key, parameter in network.named_parameters() if key not in frozen}
    assert learnt
    assert learnt <= changed


def test_a_layer_that_the_network_lacks_is_a_clear_error():
    with pytest.raises(ConfigError, match=r"BasicUNet has no layer 'encoder'; it has conv_0, down_1"):
        FreezeLayers(NETWORKS["basic_unet"](), ["encoder"])
