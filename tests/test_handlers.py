"""Handlers on small engines: what is saved, resumed, chosen and reported."""

import logging
import math
import resource
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from torch.utils.data import DataLoader, Dataset

from bundle.errors import OutputError, WeightsError
from bundle.evaluation import ClassDice
from bundle.handlers import BestModel, EpochLoss, EpochSeed, ProgressBar, ScoreTables, TrainingState, WeightsLoader
from bundle.weights import read_checkpoint


class Numbers(Dataset):
    """Item `i` of epoch `e` is 10 e + i."""

    seed = 0

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> float:
        return 10.0 * self.epoch + index


@pytest.fixture
def make_training(tmp_path):
    """A function that makes a training of one weight, with dropout, that saves its state and can be stopped."""

    def make(stop_in=None, seen=None, workers=0):
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
        optimizer = torch.optim.AdamW(network.parameters(), 0.01)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        data = Numbers()

        def step(engine, batch):
            if engine.state.epoch == stop_in and engine.state.iteration % 3 == 2:
                raise KeyboardInterrupt  # in the middle of the epoch
            if seen is not None:
                seen.append(batch.tolist())
            optimizer.zero_grad()
            loss = network(batch.float()[:, None] / 50).square().mean()
            loss.backward()
            optimizer.step()
            scheduler.step()
            return [{"loss": loss.item()}]

        engine = Engine(step)
        EpochSeed(data).attach(engine)
        objects = {"network": network, "optimizer": optimizer, "scheduler": scheduler}
        state = TrainingState(objects, tmp_path / "training_state.pt")
        state.attach(engine)
        loader = DataLoader(data, batch_size=1, num_workers=workers)
        return SimpleNamespace(engine=engine, network=network, state=state, run=lambda n: engine.run(loader, n))

    return make


def weights(training):
    return torch.cat([value.flatten() for value in training.network.state_dict().values()])


def test_a_stopped_training_ends_like_an_unbroken_one(make_training, tmp_path):
    unbroken = make_training()
    unbroken.run(5)
    (tmp_path / "training_state.pt").unlink()

    stopped = make_training(stop_in=3)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(5)
    assert read_checkpoint(tmp_path / "training_state.pt")["epoch"] == 2

    resumed = make_training()
    resumed.run(5)
    assert torch.equal(weights(resumed), weights(unbroken))
    assert resumed.engine.state.iteration == unbroken.engine.state.iteration == 15


@pytest.mark.parametrize("workers", [0, 1])
def test_every_epoch_draws_its_own_data_whatever_workers_read_it(make_training, workers):
    seen = []
    make_training(seen=seen, workers=workers).run(3)
    assert np.ravel(seen).tolist() == [10.0, 11.0, 12.0, 20.0, 21.0, 22.0, 30.0, 31.0, 32.0]


def test_a_finished_training_is_not_trained_again(make_training):
    first = make_training()
    first.run(2)
    again, seen = make_training(seen=(seen := [])), seen
    again.run(2)
    assert seen == []
    assert torch.equal(weights(again), weights(first))


def test_a_finished_training_can_be_prolonged(make_training, tmp_path):
    unbroken = make_training()
    unbroken.run(4)
    (tmp_path / "training_state.pt").unlink()
    make_training().run(2)
    prolonged = make_training()
    prolonged.run(4)
    assert torch.equal(weights(prolonged), weights(unbroken))


def test_the_gradient_scaler_of_mixed_precision_is_saved_too(make_training, tmp_path):
    training = make_training()
    training.engine.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    training.run(1)
    resumed = make_training()
    resumed.engine.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    resumed.run(1)
    assert resumed.engine.scaler.get_scale() == training.engine.scaler.get_scale() == 8.0


def test_a_kill_while_saving_leaves_the_last_state(make_training, tmp_path, monkeypatch):
    training = make_training()
    training.run(2)
    before = (tmp_path / "training_state.pt").read_bytes()

    def half(state, file):
        file.write(b"half of a ")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        make_training().run(3)
    assert (tmp_path / "training_state.pt").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["training_state.pt"]


def test_a_full_disk_while_saving_is_one_error_and_leaves_the_last_state(make_training, tmp_path):
    training = make_training()
    training.run(1)
    before = (tmp_path / "training_state.pt").read_bytes()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"training_state\.pt: cannot be written .*free space"):
            make_training().run(2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "training_state.pt").read_bytes() == before


def test_the_state_of_another_network_is_refused(make_training, tmp_path):
    make_training().run(1)
    other = make_training()
    other.state.objects["network"] = torch.nn.Linear(2, 2)
    with pytest.raises(WeightsError, match=r"training_state\.pt: the state of another training, its network does not"):
        other.run(2)


def evaluator(values, metric="val_dice"):
    """An engine that gets the next of `values` for its metric at every run."""
    values = iter(values)
    engine = Engine(lambda *_: None)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update({metric: next(values)}))
    return engine


@pytest.fixture
def make_best(tmp_path):
    """A function that makes a `BestModel` and runs it over epochs of (Dice, training losses); it is at `.path`.

    The network's weight is the number of its epoch.
    """

    def make(*epochs, state=None, first=0):
        network = torch.nn.Linear(1, 1)
        dice = evaluator([value for value, _ in epochs])
        trainer = Engine(lambda engine, index: [{"loss": epochs[engine.state.epoch - 1][1][index]}])
        best = BestModel(network, tmp_path / "model.pt", "val_dice")
        if state is not None:
            best.load_state_dict(state)
        best.attach(dice)

        def validate(engine):
            torch.nn.init.constant_(network.weight, first + engine.state.epoch - 1)
            dice.run([0])

        EpochLoss(best).attach(trainer)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
        trainer.run(range(len(epochs[0][1])), len(epochs))
        return best

    return make


def kept_epoch(best):
    return read_checkpoint(best.path)["weight"].item()


def test_the_epoch_of_highest_dice_is_kept_whatever_its_loss(make_best):
    best = make_best((0.3, [1.0]), (math.nan, [0.1]), (0.5, [9.0]), (0.4, [0.1]))
    assert kept_epoch(best) == 2
    assert (best.best, best.loss) == (0.5, 9.0)


def test_of_epochs_with_equal_dice_the_one_of_lowest_mean_loss_is_kept(make_best):
    assert kept_epoch(make_best((0.5, [1.0, 3.0]), (0.5, [0.0, 5.0]), (0.5, [2.5, 0.5]), (0.5, [1.0, 2.0]))) == 2
    assert kept_epoch(make_best((0.5, [1.0]), (0.5, [1.0]))) == 0


@pytest.mark.parametrize("epochs", [[(0.5, [math.nan]), (0.5, [1.0])], [(0.5, [1.0]), (0.5, [math.nan])]])
def test_a_loss_of_nan_is_worse_than_any_other(make_best, epochs):
    assert epochs[int(kept_epoch(make_best(*epochs)))][1] == [1.0]


def test_the_best_epoch_is_remembered_over_a_restart(make_best):
    at_once = make_best((0.5, [2.0]), (0.5, [3.0]), (0.5, [1.0]))
    assert kept_epoch(at_once) == 2
    state = make_best((0.5, [2.0])).state_dict()
    assert kept_epoch(make_best((0.5, [3.0]), state=state, first=1)) == 0
    resumed = make_best((0.5, [1.0]), state=state, first=2)
    assert kept_epoch(resumed) == 2
    assert resumed.state_dict() == at_once.state_dict()


def test_a_state_that_knows_no_loss_is_one_of_unknown_loss(make_best):
    assert not make_best((0.4, [1.0]), state={"best": 0.5}).path.exists()
    assert kept_epoch(make_best((0.5, [1.0]), state={"best": 0.5}, first=7)) == 7


def test_a_metric_that_is_no_number_is_warned_of_and_nothing_is_saved(make_best, caplog):
    assert not make_best((math.nan, [1.0])).path.exists()
    assert "no validation slide has a glomerulus" in caplog.text


def test_equal_weights_make_equal_files(tmp_path):
    for name in ("one.pt", "other.pt"):
        engine = evaluator([1.0])
        torch.manual_seed(0)
        BestModel(torch.nn.Linear(2, 2), tmp_path / name, "val_dice").attach(engine)
        engine.run([0])
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "other.pt").read_bytes()


def test_weights_are_loaded_when_the_engine_starts(tmp_path):
    trained, network = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    engine = Engine(lambda *_: None)
    WeightsLoader(network, tmp_path / "model.pt").attach(engine)
    assert not torch.equal(network.weight, trained.weight)
    engine.run([0])
    assert torch.equal(network.weight, trained.weight)


def test_without_a_path_no_weights_are_loaded():
    network = torch.nn.Linear(2, 2)
    before = network.weight.clone()
    engine = Engine(lambda *_: None)
    WeightsLoader(network, None).attach(engine)
    engine.run([0])
    assert torch.equal(network.weight, before)


def test_missing_weights_end_the_run(tmp_path):
    engine = Engine(lambda *_: None)
    WeightsLoader(torch.nn.Linear(2, 2), tmp_path / "model.pt").attach(engine)
    with pytest.raises(WeightsError, match="no such weight file"):
        engine.run([0])


def test_the_mean_loss_of_an_epoch_is_logged(caplog):
    engine = Engine(lambda _, loss: [{"loss": loss}])
    EpochLoss().attach(engine)
    with caplog.at_level(logging.INFO, logger="bundle.handlers"):
        engine.run([1.0, 2.0, 6.0], 2)
    logged = [record.getMessage() for record in caplog.records if record.name == "bundle.handlers"]
    assert logged == [f"epoch {epoch}/2: mean training loss 3.0000" for epoch in (1, 2)]
    assert engine.state.metrics["epoch_loss"] == 3


@pytest.mark.parametrize(("output", "loss"), [([{"loss": 0.5}], "loss=0.5"), ({"pred": 1}, "")])
def test_the_progress_bar_shows_the_loss_where_there_is_one(output, loss, capsys):
    engine = Engine(lambda *_: output)
    ProgressBar("crops").attach(engine)
    engine.run([0, 0])
    seen = capsys.readouterr().err
    assert "crops" in seen
    assert loss in seen
    assert "1/2" in seen


def test_the_tables_are_written_and_their_means_are_logged(tmp_path, caplog):
    metric = ClassDice()
    engine = Engine(lambda _, image: image)
    metric.attach(engine, "dice")
    ScoreTables([metric], tmp_path / "tables", "Validation").attach(engine)
    image = np.array([[0, 1, 1]], np.uint8)
    with caplog.at_level(logging.INFO, logger="bundle.handlers"):
        engine.run([{"pred": image, "label": image, "slide": "s1", "patient": "a", "stain": "PAS"}])
    assert "Validation: glomerulus 1.000 (1), normal 1.000 (1), segmental sclerosis n/a (0)" in caplog.text
    assert "s1" in (tmp_path / "tables" / "per_image.csv").read_text(encoding="utf-8")
