"""SegGPT with the contract of the other networks: tiles in, logits of the classes out."""

import logging
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.nn import functional

from bundle.errors import ConfigError
from bundle.networks.seggpt.cached import PromptMemory, encode_prompts, predict_query
from bundle.networks.seggpt.colours import (
    class_scores,
    default_temperature,
    denormalise,
    normalise,
    paint,
    palettes,
)
from bundle.networks.seggpt.prompt_cache import PromptCache, network_state

if TYPE_CHECKING:
    from transformers import SegGptForImageSegmentation

    from bundle.prompts import PromptSet

logger = logging.getLogger(__name__)

PROMPT_ATTENTION = ("joint", "cached", "pooled")
EMBEDDING_TYPES = ("semantic", "instance")


class SegGPT(nn.Module):
    """Segments tiles after the example of prompts: Wang et al., "SegGPT", ICCV 2023, arXiv 2304.03284.

    Prompts and tiles are resized to the model's square side, masks are painted with one colour a class, the model
    paints the tile's mask, and logits say how near its colours are to those of the classes.

    The state dict has the names of the published checkpoint; the prompts are not in it.

    Args:
        model: transformers' network, see `read_seggpt`.
        prompts: the examples; without them only `predict_masks` works.
        prompt_attention: "joint" is transformers' own forward with feature ensemble, in which prompt and tile attend to
            each other and every tile encodes every prompt anew. "cached" encodes prompts once, attending to themselves
            alone (see `bundle.networks.seggpt.cached`): it is not how the published weights were trained, and gives
            other masks from the same weights, so it is for weights that were trained with it. "pooled" is "cached" with
            one softmax over all prompts in place of the mean over prompts, likewise for weights trained with it.
        embedding_type: "semantic" where a colour means the same class in all prompts, as here; or "instance".
        repetitions: forward passes a tile, 1 to 6, each with the classes' colours in another order; their scores are
            averaged, so that no class gains by its colour.
        palette: the classes' colours, see `bundle.networks.seggpt.colours.PALETTES`.
        temperature: squared 8-bit levels of colour by which scores are divided; `None` takes the `default_temperature`
            of the palette.
        seed: of the orders of colours.

    Raises:
        ConfigError: an argument has no meaning.
    """

    exportable = False  # its prompts are not constants of a graph
    model: Any
    decoder: Any
    palettes: torch.Tensor
    prompt_images: torch.Tensor | None
    prompt_masks: torch.Tensor | None

    def __init__(
        self,
        model: "SegGptForImageSegmentation",
        prompts: "PromptSet | None" = None,
        *,
        prompt_attention: Literal["joint", "cached", "pooled"] = "joint",
        embedding_type: Literal["semantic", "instance"] = "semantic",
        repetitions: int = 1,
        palette: str = "seggpt",
        temperature: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check("prompt_attention", prompt_attention, PROMPT_ATTENTION)
        _check("embedding_type", embedding_type, EMBEDDING_TYPES)
        if temperature is not None and not temperature > 0:
            raise ConfigError(f"SegGPT: temperature must be above 0, not {temperature}")
        # Its parts, not itself: so the state dict has the names of the published one.
        self.model = model.model
        self.decoder = model.decoder
        self.side_px = int(model.config.image_size[1])  # type: ignore[index]
        self.prompt_attention = prompt_attention
        self.embedding_type = embedding_type
        self._cache = PromptCache(repetitions)
        self.prompt_px = self.side_px
        self._warned = False
        self.register_buffer("palettes", palettes(repetitions, seed, palette), persistent=False)
        self.temperature = temperature or default_temperature(palette)
        self.register_buffer("prompt_images", None, persistent=False)
        self.register_buffer("prompt_masks", None, persistent=False)
        if prompts is not None:
            self.set_prompts(prompts)

    def set_prompts(self, prompts: "PromptSet") -> None:
        """Take other prompts."""
        device = self.palettes.device
        images, labels = (torch.tensor(x, device=device) for x in (prompts.images, prompts.labels))
        # Nearest by centres: "nearest" would shift the mask against its image by half a pixel.
        labels = functional.interpolate(labels[:, None].float(), (self.side_px, self.side_px), mode="nearest-exact")
        self.prompt_px = images.shape[-1]
        self.prompt_images = normalise(self._resize(images / 255))
        self.prompt_masks = torch.stack([normalise(paint(labels[:, 0], palette)) for palette in self.palettes])

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Logits of background and the three classes (B, 4, H, W) for RGB tiles (B, 3, H, W) in 0..1.

        Raises:
            ConfigError: there are no prompts.
        """
        if self.prompt_images is None or self.prompt_masks is None:
            raise ConfigError("SegGPT: no prompts to go by; give --prompt_set, or call set_prompts")
        self._check_scale(tiles.shape[-1])
        resized = normalise(self._resize(tiles))
        scores = [
            class_scores(denormalise(self.predict_masks(resized, self.prompt_images, masks)).float(), palette)
            for masks, palette in zip(self.prompt_masks, self.palettes.float(), strict=True)
        ]
        logits = torch.stack(scores).mean(0) / self.temperature
        return functional.interpolate(logits, tiles.shape[-2:], mode="bilinear", align_corners=False)

    def predict_masks(
        self, tiles: torch.Tensor, prompt_images: torch.Tensor, prompt_masks: torch.Tensor
    ) -> torch.Tensor:
        """The painted masks of tiles, (B, 3, side, side); all images and colours normalised, of the model's side.

        Differentiable. Without gradients and outside training, all but "joint" keep the encodings of shared prompts.

        Args:
            tiles: (B, 3, side, side).
            prompt_images: (K, 3, side, side), shared by all tiles, or (P, K, 3, side, side), where B / P tiles in a
                row share a set.
            prompt_masks: of the same shape.
        """
        like = self.model.embeddings.mask_token
        tiles, images, masks = (x.to(like) for x in (tiles, prompt_images, prompt_masks))
        if images.ndim == 4:
            images, masks = images[None], masks[None]
        if self.prompt_attention == "joint":
            times = len(tiles) // len(images)
            return self._joint(tiles, *(x.repeat_interleave(times, dim=0) for x in (images, masks)))
        memory = self._memory(images, masks).repeated(len(tiles) // len(images))
        return predict_query(self.model, self.decoder, tiles, memory, self.embedding_type)

    def train(self, mode: bool = True) -> "SegGPT":
        """Switch between training and evaluation; training frees the encodings."""
        if mode:
            self.forget_prompts()
        return super().train(mode)

    def forget_prompts(self) -> None:
        """Encode the prompts anew next time; needed only after weights were changed through `.data`."""
        self._cache.clear()

    def _memory(self, images: torch.Tensor, masks: torch.Tensor) -> PromptMemory:
        def encode() -> PromptMemory:
            pooled = self.prompt_attention == "pooled"
            return encode_prompts(self.model, images, masks, self.embedding_type, pooled=pooled)

        if torch.is_grad_enabled() or self.training or len(images) > 1:
            return encode()
        return self._cache.memory((network_state(self), self.embedding_type), images, masks, encode)

    def _joint(self, tiles: torch.Tensor, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """transformers' forward; images and masks (B, K, 3, side, side)."""
        if images.shape[1] == 1:
            return self._paint(tiles, images[:, 0], masks[:, 0], ensemble=False)
        # A tile a call: transformers' ensemble averages over everything in the batch.
        return torch.cat(
            [
                self._paint(tile.expand(len(image), -1, -1, -1), image, mask, ensemble=True)
                for tile, image, mask in zip(tiles, images, masks, strict=True)
            ]
        )

    def _paint(self, tiles: torch.Tensor, images: torch.Tensor, masks: torch.Tensor, *, ensemble: bool) -> torch.Tensor:
        """The lower halves of `pred_masks`; of an ensemble that of the first prompt, as Wang et al. take it."""
        hidden = self.model(
            pixel_values=tiles,
            prompt_pixel_values=images,
            prompt_masks=masks,
            feature_ensemble=ensemble,
            embedding_type=self.embedding_type,
            return_dict=True,
        ).intermediate_hidden_states
        # The query's half is the same for all prompts: one decoding is enough.
        kept = torch.cat([x[:1] if ensemble else x for x in hidden], dim=-1)
        return self.decoder(kept)[..., self.side_px :, :]

    def _resize(self, images: torch.Tensor) -> torch.Tensor:
        size = (self.side_px, self.side_px)
        if images.shape[-2:] == size:
            return images
        return functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)

    def _check_scale(self, tile_px: int) -> None:
        """Say once where tiles and prompts, both at model resolution, would be shown at different scales."""
        if tile_px != self.prompt_px and not self._warned:
            self._warned = True
            logger.warning(
                "SegGPT: tiles of %d px and prompts of %d px are resized to one side: what they show differs in scale; "
                "make them equal by --tiles#tile_um and --prompt_px",
                tile_px,
                self.prompt_px,
            )


def _check(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"SegGPT: {name} must be one of {', '.join(choices)}, not {value}")
