"""Ignite handlers that the configs name: seeds, losses, atomic checkpoints, resumption, weights, tables."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from ignite.engine import Engine, Events
from ignite.handlers.tqdm_logger import ProgressBar as IgniteProgressBar

from bundle.atomic import atomic_path
from bundle.data.tiles import TileDataset
from bundle.errors import WeightsError
from bundle.evaluation.image_table import ImageTable
from bundle.evaluation.tables import DESCRIPTORS, one_line, write_tables
from bundle.weights import load_weights, read_checkpoint

logger = logging.getLogger(__name__)


class EpochSeed:
    """Makes an epoch's random numbers depend on seed and epoch alone: a resumed run draws what an unbroken one would.

    The tile dataset is told the epoch; torch, whose numbers dropout takes, is seeded with it.
    """

    def __init__(self, dataset: TileDataset) -> None:
        self.dataset = dataset

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)

    def _start(self, engine: Engine) -> None:
        self.dataset.set_epoch(engine.state.epoch)
        torch.manual_seed(self.dataset.seed + engine.state.epoch)


class EpochLoss:
    """Logs the mean training loss of each epoch in one line, and makes it the metric "epoch_loss".

    Args:
        best_model: is told the loss, to choose by; its validation must come after this handler.
    """

    def __init__(self, best_model: "BestModel | None" = None) -> None:
        self.best_model = best_model
        self.losses: list[float] = []

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.losses.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._log)

    def _collect(self, engine: Engine) -> None:
        self.losses.append(float(cast(list, engine.state.output)[0]["loss"]))

    def _log(self, engine: Engine) -> None:
        mean = sum(self.losses) / max(len(self.losses), 1)
        engine.state.metrics["epoch_loss"] = mean
        if self.best_model is not None:
            self.best_model.epoch_loss = mean
        logger.info("epoch %d/%d: mean training loss %.4f", engine.state.epoch, engine.state.max_epochs, mean)


class ProgressBar:
    """A progress bar over the iterations of an epoch (ignite's), with the loss where there is one.

    Args:
        desc: word before the bar.
    """

    def __init__(self, desc: str = "epoch") -> None:
        self.desc = desc

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer or evaluator."""
        IgniteProgressBar(desc=self.desc).attach(engine, output_transform=self._loss)

    @staticmethod
    def _loss(output: Any) -> dict[str, float]:
        return {"loss": float(output[0]["loss"])} if isinstance(output, list) else {}


class BestModel:
    """Keeps the network of the best epoch: highest value of a metric, and of equal ones the lowest training loss.

    This is how Souza et al. 2025 choose. The loss is that of training, which `EpochLoss` tells: validation never holds
    the logits of a whole slide. Attach it to the evaluator that computes the metric.

    Args:
        network: the network whose plain state dict is saved.
        path: file to write, e.g. models/model.pt.
        metric: name in the evaluator's `state.metrics`.

    Raises:
        OutputError: when the best epoch's network cannot be written.
    """

    def __init__(self, network: torch.nn.Module, path: Path | str, metric: str) -> None:
        self.network = network
        self.path = Path(path)
        self.metric = metric
        self.epoch_loss = math.nan
        self.best = -math.inf
        self.loss = math.inf

    def attach(self, engine: Engine) -> None:
        """Attach to the evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Save when the metric has risen, or its highest value has come with a lower loss; NaN is never better."""
        value, loss = float(engine.state.metrics[self.metric]), self.epoch_loss
        if math.isnan(value):
            logger.warning("%s is not a number: no validation slide has a glomerulus; nothing saved", self.metric)
        if value > self.best or (value == self.best and loss < self.loss):
            # A loss of NaN is as bad as can be: any other is lower.
            self.best, self.loss = value, math.inf if math.isnan(loss) else loss
            _save(self.network.state_dict(), self.path)
            logger.info("best %s so far: %.4f at loss %.4f; saved %s", self.metric, value, loss, self.path)

    def state_dict(self) -> dict[str, float]:
        """What a resumed run must know."""
        return {"best": self.best, "loss": self.loss}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from `state_dict`; that of an older version knows no loss."""
        self.best = float(state["best"])
        self.loss = float(state.get("loss", math.inf))


class TrainingState:
    """Saves everything that training needs after each epoch, atomically, and goes on from there when it restarts.

    Args:
        objects: what to save, by name: each has `state_dict` and `load_state_dict`; epoch and iteration are added.
        path: file of the state; where it exists, training resumes from it.
        saves: false in all processes of a training but one; they only resume.

    Raises:
        WeightsError: at the start, when the file is damaged or holds the state of another training.
        OutputError: after an epoch, when the file cannot be written.
    """

    def __init__(self, objects: Mapping[str, Any], path: Path | str, saves: bool = True) -> None:
        self.objects = dict(objects)
        self.path = Path(path)
        self.saves = saves

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer, as its last handler: validation of an epoch comes before the epoch is saved."""
        engine.add_event_handler(Events.STARTED, self.resume)
        if self.saves:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def resume(self, engine: Engine) -> None:
        """Load the state where there is one."""
        if not self.path.exists():
            return
        state = read_checkpoint(self.path)
        for name, thing in self._all(engine).items():
            try:
                thing.load_state_dict(state[name])
            except (KeyError, RuntimeError, ValueError) as error:
                raise WeightsError(
                    f"{self.path}: the state of another training, its {name} does not fit; "
                    f"choose another --output_dir, or delete the file to start anew"
                ) from error
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["iteration"]
        logger.info("resumed %s after epoch %d", self.path, state["epoch"])

    def save(self, engine: Engine) -> None:
        """Save the state of the epoch that has ended."""
        state = {name: thing.state_dict() for name, thing in self._all(engine).items()}
        _save(state | {"epoch": engine.state.epoch, "iteration": engine.state.iteration}, self.path)

    def _all(self, engine: Engine) -> dict[str, Any]:
        """The objects and, in mixed precision, the trainer's gradient scaler."""
        scaler = getattr(engine, "scaler", None)
        return self.objects if scaler is None else self.objects | {"scaler": scaler}


class WeightsLoader:
    """Loads a network's weights when the engine starts.

    Args:
        network: what they are loaded into.
        path: see `bundle.weights.load_weights`; `None` leaves the network as it is.

    Raises:
        WeightsError: at the start; see `bundle.weights.load_weights`.
    """

    def __init__(self, network: torch.nn.Module, path: Path | str | None) -> None:
        self.network = network
        self.path = path

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer or evaluator."""
        if self.path is not None:
            engine.add_event_handler(Events.STARTED, load_weights, self.network, self.path)


class ScoreTables:
    """Writes the tables of an evaluator's metrics when it has finished, and logs the first one's means in one line.

    Args:
        metrics: the metrics, attached to the same evaluator.
        output_dir: folder of the tables.
        title: heading of the Markdown tables.

    Raises:
        OutputError: at the end, when a table cannot be written.
    """

    def __init__(self, metrics: Sequence[ImageTable], output_dir: Path | str, title: str = "Scores") -> None:
        self.metrics = metrics
        self.output_dir = Path(output_dir)
        self.title = title

    def attach(self, engine: Engine) -> None:
        """Attach to the evaluator."""
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _write(self, engine: Engine) -> None:
        frames = [metric.frame() for metric in self.metrics]
        descriptors = list(DESCRIPTORS)
        frame = pd.concat([frames[0][descriptors], *(f.drop(columns=descriptors) for f in frames)], axis=1)
        summaries = {by: pd.concat([m.summary(by) for m in self.metrics]) for by in ("stain", "patient")}
        write_tables(frame, summaries, self.output_dir, self.title)
        line = one_line(self.metrics[0].summary("stain"))
        logger.info("%s: %s; tables in %s", self.title, line, self.output_dir)


def _save(state: Any, path: Path) -> None:
    # A file object: torch writes the name of a path into the file, and equal weights should be equal files.
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # a full disk, in torch's words
            raise OSError(f"torch.save: {str(error).splitlines()[0]}") from error
