"""Self-supervised pretraining of an encoder on crops without labels, SimCLR (Chen et al. 2020) with many views.

Each crop is seen in several random views: large ones, and small ones of parts of it at another scale (multi-crop, Caron
et al. 2020). Views of one crop are to have like vectors, views of different crops are not.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.losses import ContrastiveLoss
from monai.transforms import Compose
from numpy.typing import NDArray
from safetensors.torch import save
from torch import nn
from torch.utils.data import Dataset

from bundle.atomic import atomic_path
from bundle.errors import ConfigError
from bundle.findings.embedding_crops import ROW, Crops
from bundle.findings.encoders import layer_maps, named_layers

_PROBE_PX: Final = 64
"""Side of the image that tells how many features the layers give."""


class ViewDataset(Dataset):
    """Views of crops; which crop and which views depends on seed, epoch and index alone.

    Args:
        crops: of glomeruli.
        length: crops an epoch, each once before any comes twice.
        large: transform of {"image": uint8 (3, S, S)} to a large view, under the same key.
        small: likewise, to a small view.
        large_views: number of large views, from 2.
        small_views: number of small views.
        cache: whether decoded crops are kept in memory, 3 bytes a pixel.
        seed: of all draws.

    Raises:
        ConfigError: there are fewer than 2 large views.
    """

    def __init__(
        self,
        crops: Crops,
        length: int,
        large: Compose,
        small: Compose,
        large_views: int = 2,
        small_views: int = 2,
        cache: bool = True,
        seed: int = 0,
    ) -> None:
        if large_views < 2:
            raise ConfigError(f"large_views: {large_views}; two views at least are compared")
        self.crops = crops
        self.rows = crops.table[ROW].to_numpy()
        self.length = length
        self.views = {"large": (large, large_views), "small": (small, small_views)}
        self.cache: dict[int, NDArray[np.uint8]] | None = {} if cache else None
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose views the next pass draws."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Crops an epoch."""
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """ "large": float32 (large_views, 3, side, side); "small": likewise, of another side.

        Raises:
            BundleError: the crop cannot be read.
        """
        turn, place = divmod(index, len(self.rows))
        row = int(np.random.default_rng((self.seed, self.epoch, turn)).permutation(self.rows)[place])
        random = np.random.default_rng((self.seed, self.epoch, index, 0))
        image = self._image(row)
        return {name: _seen(image, *views, random) for name, views in self.views.items()}

    def _image(self, row: int) -> NDArray[np.uint8]:
        if self.cache is None:
            return self.crops.read(row)[0].transpose(2, 0, 1)
        if row not in self.cache:
            self.cache[row] = self.crops.read(row)[0].transpose(2, 0, 1)
        return self.cache[row]


def _seen(image: NDArray[np.uint8], transform: Compose, count: int, random: np.random.Generator) -> torch.Tensor:
    """`count` views of an image, stacked."""
    views = [torch.empty(0, 3, 1, 1)]
    for _ in range(count):
        transform.set_random_state(seed=int(random.integers(2**31)))
        views.append(torch.as_tensor(transform({"image": image})["image"], dtype=torch.float32)[None])
    return torch.cat(views[1:] or views)


class ContrastiveNetwork(nn.Module):
    """An encoder's layers, averaged over the view, and a projection that is thrown away after training.

    Args:
        network: whose layers are trained; shares its weights.
        layers: names of the layers, as `NetworkEncoder` takes them.
        projection: size of the vectors that are compared.

    Raises:
        ConfigError: the network has no such layer, or it gives no map.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str], projection: int = 64) -> None:
        super().__init__()
        self.network = network
        self.layers = named_layers(network, layers)
        with torch.no_grad():
            width = self._pooled(torch.zeros(1, 3, _PROBE_PX, _PROBE_PX)).shape[1]
        # Means of instance-normalised maps differ little between images: unscaled, all vectors would be one.
        self.projection = nn.Sequential(
            nn.BatchNorm1d(width, affine=False),
            nn.Linear(width, 4 * projection),
            nn.ReLU(),
            nn.Linear(4 * projection, projection),
        )

    def forward(self, large: torch.Tensor, small: torch.Tensor) -> torch.Tensor:
        """Vectors (B, L + K, projection) of large views (B, L, 3, side, side) and small ones (B, K, 3, side, side)."""
        views = [view for views in (large, small) for view in views.unbind(1)]
        return torch.stack([self.projection(self._pooled(view)) for view in views], 1)

    def _pooled(self, view: torch.Tensor) -> torch.Tensor:
        return torch.cat([features.mean((2, 3)) for features in layer_maps(self.network, self.layers, view)], 1)


class ViewLoss(nn.Module):
    """Mean NT-Xent (MONAI's ContrastiveLoss) over all pairs of views that have a large one among them.

    Args:
        large_views: how many of the views are large; they come first.
        temperature: of NT-Xent.
    """

    def __init__(self, large_views: int = 2, temperature: float = 0.2) -> None:
        super().__init__()
        self.large_views = large_views
        self.pair = ContrastiveLoss(temperature)

    def forward(self, vectors: torch.Tensor, target: Any = None) -> torch.Tensor:
        """Scalar loss of the views' vectors (B, views, D); there is no target."""
        views = vectors.float().unbind(1)
        pairs = [(i, j) for i in range(self.large_views) for j in range(i + 1, len(views))]
        return torch.stack([self.pair(views[i], views[j]) for i, j in pairs]).mean()


class PrepareViews:
    """A batch of `ViewDataset` for MONAI's trainer: views on the device, and zeros for the target that there is not."""

    def __call__(
        self, batch: Mapping[str, torch.Tensor], device: torch.device | str, non_blocking: bool = False, **_: Any
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor], dict[str, Any]]:
        """Large views, zeros (B,), small views, no keywords."""
        large, small = (batch[name].to(device, non_blocking=non_blocking) for name in ("large", "small"))
        return large, torch.zeros(len(large)), (small,), {}


class SaveEncoder:
    """Writes the network's weights after each epoch, for `NetworkEncoder`.

    Args:
        network: without the projection.
        path: .safetensors
    """

    def __init__(self, network: nn.Module, path: Path | str) -> None:
        self.network = network
        self.path = Path(path)

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write; `OutputError` when it cannot be."""
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        with atomic_path(self.path) as temporary:
            temporary.write_bytes(save(state))
