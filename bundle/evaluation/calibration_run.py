"""Calibration as one object that `configs/calibrate.yaml` names: temperature, confidence and triage."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from bundle.classes import BACKGROUND_INDEX, GLOBAL, IGNORE_INDEX, NUM_CLASSES
from bundle.data.annotations import Annotation
from bundle.errors import ConfigError, DatalistError
from bundle.evaluation.calibration import Sample, fit_temperature
from bundle.evaluation.calibration_report import LOCK, ROW, Found, Used, write_calibration
from bundle.evaluation.instances import matches
from bundle.outputs.glomeruli import GlomerulusFinder
from bundle.stream import SlideInferer, TemperatureScaled
from bundle.stream.tile_logits import ObjectLogits, TileLogits
from bundle.weights import load_weights

logger = logging.getLogger(__name__)


class Calibration:
    """Fits the temperatures, finds the thresholds, locks them and writes what they are worth.

    The temperature of pixels is that of `configs/inference.yaml`; with it the slides are segmented. The temperature of
    objects is fitted to the glomeruli that are then found, each seen on its own (`ObjectLogits`), false ones included.

    Args:
        dataset: annotated slides, as evaluation has them: open slide, label at model resolution, annotation.
        network_def: gets the weights.
        tempered: the network of inference, with its temperature.
        inferer: segments a slide.
        finder: makes objects of the segmentation.
        checkpoint: file of the weights.
        datalist: file that names the slides, and
        split: the part of it.
        settings: what the thresholds are locked to beside the weights; the temperature is added.
        output_dir: folder for calibration.json, glomeruli.csv and reliability.png.
        pixels: of a slide, drawn at random, that the temperature is fitted to.
        accuracy: part of the glomeruli that must be right among those of which the network is sure enough.
        seed: of the draw.
        progress: show progress bars.

    Raises:
        ConfigError: `accuracy` is no part, or `pixels` below 1.
    """

    def __init__(
        self,
        *,
        dataset: Sequence[Mapping[str, Any]],
        network_def: torch.nn.Module,
        tempered: TemperatureScaled,
        inferer: SlideInferer,
        finder: GlomerulusFinder,
        checkpoint: Path | str,
        datalist: Path | str,
        split: str,
        settings: Mapping[str, Any],
        output_dir: Path | str,
        pixels: int = 20000,
        accuracy: float = 0.95,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        if not 0 < accuracy <= 1 or pixels < 1:
            raise ConfigError(f"calibration: accuracy must lie in 0 to 1 and pixels be 1 or more: {accuracy}, {pixels}")
        self.dataset = dataset
        self.network_def = network_def
        self.tempered = tempered
        self.inferer = inferer
        self.finder = finder
        self.checkpoint = Path(checkpoint)
        self.datalist = Path(datalist)
        self.split = split
        self.settings = dict(settings)
        self.output_dir = Path(output_dir)
        self.pixels = pixels
        self.accuracy = accuracy
        self.random = np.random.default_rng(seed)
        self.progress = progress
        self.tiles = TileLogits(inferer.splitter, tempered.network, inferer.batch_size, inferer.device)

    def run(self) -> None:
        """Calibrate, and write the three files.

        Raises:
            WeightsError: the weights cannot be loaded.
            DatalistError: no annotated pixel, or no glomerulus was found.
            ConfigError: the network does not name the classes.
            OutputError: the files cannot be written.
        """
        load_weights(self.network_def, self.checkpoint)
        self.tempered.eval()
        pixels = self._pixels()
        temperature = round(fit_temperature(pixels), 4)
        self.tempered.temperature = temperature
        self.finder = replace(self.finder, temperature=temperature)
        found = self._found()
        if found.rows.empty:
            raise DatalistError(f"{self.datalist}: no glomerulus was found in the split {self.split}; train first")
        used = Used(self.checkpoint, self.datalist, self.split, {**self.settings, "temperature": temperature})
        write_calibration(pixels, temperature, found, used, self.accuracy, self.output_dir)
        logger.info("next: --temperature %s --triage %s", temperature, self.output_dir / LOCK)

    def _slides(self, what: str) -> Iterator[Mapping[str, Any]]:
        """Open items, one after the other; each is closed when the next is asked for."""
        for index in tqdm(range(len(self.dataset)), desc=what, unit="slide", disable=not self.progress):
            item = self.dataset[index]
            with item["image"]:
                yield item

    def _pixels(self) -> Sample:
        parts = [self._of_slide(item) for item in self._slides("pixels")]
        logits, labels = (np.concatenate(side) for side in zip(*parts, strict=True))
        if logits.shape[1] != NUM_CLASSES:
            raise ConfigError(f"calibration: needs a network of {NUM_CLASSES} channels, not {logits.shape[1]}")
        return Sample(logits[:, None], labels)

    def _of_slide(self, item: Mapping[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Logits (n, C) and labels (n,) of annotated pixels, as many from each tile."""
        splitter, slide, truth = self.inferer.splitter, item["image"], item["label"]
        tiles = splitter.select(slide, splitter.tissue_mask(slide))
        each = -(-self.pixels // max(len(tiles), 1))
        logits, labels = [], []
        for tile, values in zip(tiles, self.tiles(slide, tiles), strict=True):
            side = splitter.tiles.tile_px
            label = truth[tile.y : tile.y + side, tile.x : tile.x + side]
            rows, columns = np.nonzero(label != IGNORE_INDEX)
            drawn = self.random.permutation(len(rows))[:each]
            logits.append(values[:, rows[drawn], columns[drawn]].T)
            labels.append(label[rows[drawn], columns[drawn]])
        if not logits:
            return np.zeros((0, NUM_CLASSES), np.float32), np.zeros(0, np.uint8)
        return np.concatenate(logits), np.concatenate(labels)

    def _found(self) -> Found:
        parts = [self._found_on(item) for item in self._slides("glomeruli")]
        return Found(
            pd.concat([part.rows for part in parts], ignore_index=True),
            np.concatenate([part.logits for part in parts]),
            sum(part.missed for part in parts),
        )

    def _found_on(self, item: Mapping[str, Any]) -> Found:
        slide = item["image"]
        prediction = self.finder(self.inferer(slide, self.tempered), slide.size, slide.mpp)
        glomeruli, partners = matches(prediction, item["annotation"])
        look = ObjectLogits(self.tiles)
        logits = look(slide, Annotation(tuple(glomeruli))).reshape(len(glomeruli), look.pixels, NUM_CLASSES)
        rows = pd.DataFrame(
            {
                **{key: item.get(key, "") for key in ("slide", "patient", "stain")},
                "predicted": [g.label for g in glomeruli],
                "true": [BACKGROUND_INDEX if partner is None else partner.label for partner in partners],
            },
            columns=ROW,
        ).astype({"predicted": int, "true": int})  # of a slide without objects they would not be numbers
        seen = np.isfinite(logits).all(axis=(1, 2))
        rows, logits = rows[seen], logits[seen]
        sclerotic = sum(g.label == GLOBAL.index for g in item["annotation"].glomeruli)
        return Found(rows, logits, sclerotic - int((rows["true"] == GLOBAL.index).sum()))
