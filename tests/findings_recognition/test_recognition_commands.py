"""The commands: findings from labels, saved classifiers on other crops, pretraining that resumes and is used."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors import safe_open

from bundle.findings.pretraining import ContrastiveNetwork, ViewLoss
from tests.cohort import ROOT, TINY_NETWORK, command, finish, start, workflow
from tests.findings_recognition.lesion_cohort import MPP, SIDE_PX, write_images

FINDINGS = ROOT / "configs" / "findings.yaml"
PRETRAIN = ROOT / "configs" / "pretrain.yaml"
SIZE = {"crop_px": SIDE_PX, "crop_mpp": MPP}
FEW = {"shots": [1, 2], "draws": 5, "transfers__hospital__column": "patient"}
FEW |= {"transfers__hospital__pattern": "^([A-Z]+)_"}
PATIENTS = ("N_1", "N_2", "N_3", "S_1", "S_2", "S_3")
SHORT = {
    "epochs": 2, "crops_per_epoch": 8, "batch_size": 4, "warmup_steps": 1, "large_px": 32, "small_px": 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def datalist(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), PATIENTS)


def run(config, crops, folder, **options):
    with workflow(config, crops=str(crops), output_dir=str(folder), **SIZE, **options) as made:
        made.run()


def find(crops, folder, **options):
    run(FINDINGS, crops, folder, **{"encoder": "@encoders#colour", **FEW, **options})


@pytest.fixture(scope="module")
def found(datalist, tmp_path_factory):
    """Folder of a run with the crops' classes for labels."""
    folder = tmp_path_factory.mktemp("found")
    find(datalist, folder)
    return folder


def test_findings_leave_tables_classifiers_and_a_report(found):
    assert {p.name for p in found.iterdir()} == {
        "embeddings.parquet", "predictions.csv", "classifiers", "lesions.csv", "shots.csv", "shots.png", "findings.md",
    }  # fmt: skip
    lesions = pd.read_csv(found / "lesions.csv")
    assert lesions[["lesion", "glomeruli", "present", "patients"]].to_numpy().tolist() == [
        ["global_sclerosis", 24, 12, 6]
    ]
    assert lesions["auc"][0] > 0.9  # the discs differ in colour and in texture
    curves = pd.read_csv(found / "shots.csv")
    assert set(zip(curves["train"], curves["test_group"], strict=True)) == {("N", "S"), ("S", "N")}
    assert set(curves["classifier"]) == {"linear_probe", "nearest_neighbours", "prototypes"}
    assert "trained on N, tested on S" in (found / "findings.md").read_text()


def test_a_saved_classifier_finds_the_lesion_in_other_crops(found, tmp_path):
    others = write_images(tmp_path / "others", ("X_1", "X_2"), 6)
    find(others, tmp_path / "out", saved=str(found / "classifiers"))
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"embeddings.parquet", "predictions.csv"}
    told = pd.read_csv(tmp_path / "out" / "predictions.csv")
    right = (told["probability_global_sclerosis"] > 0.5) == (told["class"] == "global_sclerosis")
    assert right.mean() > 0.8


def test_labels_come_from_a_table_and_grades_are_compared(datalist, tmp_path):
    table = pd.DataFrame([(f"{p}-{i}/1", i % 2, i % 2 * 2) for p in PATIENTS for i in range(4)])
    table.columns = ["entity_id", "crescent", "chronicity"]
    table.to_csv(tmp_path / "labels.csv", index=False)
    find(datalist, tmp_path / "out", labels=str(tmp_path / "labels.csv"))
    lesions = pd.read_csv(tmp_path / "out" / "lesions.csv")
    assert lesions["lesion"].tolist() == ["crescent", "chronicity>=1", "chronicity>=2"]
    assert (tmp_path / "out" / "classifiers" / "chronicity_ge_2.safetensors").is_file()
    assert "## Grades" in (tmp_path / "out" / "findings.md").read_text()


def test_the_default_encoder_is_that_of_the_committed_model(datalist, tmp_path):
    find(datalist, tmp_path, encoder="@encoders#own", network_def__features=[24, 24, 48, 96, 192, 24])
    table = pd.read_parquet(tmp_path / "embeddings.parquet")
    assert len(table["embedding"][0]) == 2 * (24 + 48 + 96 + 192)
    assert np.isfinite(np.stack(table["embedding"])).all()


@pytest.mark.slow
def test_a_command_without_crops_says_so_in_one_line(tmp_path):
    status, _, errors = finish(start(command(FINDINGS, output_dir=tmp_path, device="cpu", progress=False)))
    assert status == 1
    assert "error: None: no such crop store or datalist; give one with --crops" in errors
    assert "Traceback" not in errors


def weights(folder):
    with safe_open(folder / "encoder.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def test_pretraining_that_was_stopped_goes_on_as_if_it_had_not_been(datalist, tmp_path):
    settings = {**SHORT, "split": "training"}
    run(PRETRAIN, datalist, tmp_path / "whole", **settings)
    with workflow(PRETRAIN, crops=str(datalist), output_dir=str(tmp_path / "parts"), **SIZE, **settings) as first:
        trainer = first.parser.get_parsed_content("trainer")
        trainer.state.max_epochs = 1
        trainer.run()
    assert torch.load(tmp_path / "parts" / "training_state.pt", weights_only=True)["epoch"] == 1
    run(PRETRAIN, datalist, tmp_path / "parts", **settings)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_a_pretrained_encoder_is_used_by_findings(datalist, tmp_path):
    run(PRETRAIN, datalist, tmp_path / "pretrained", **SHORT, split="training")
    checkpoint = str(tmp_path / "pretrained" / "encoder.safetensors")
    find(datalist, tmp_path / "out", encoder="@encoders#own", checkpoint=checkpoint)
    table = pd.read_parquet(tmp_path / "out" / "embeddings.parquet")
    assert len(table["embedding"][0]) == 2 * sum(TINY_NETWORK[1:5])


def test_views_of_one_crop_that_agree_cost_less_than_views_that_do_not():
    random = torch.Generator().manual_seed(0)
    crops = torch.randn(6, 1, 8, generator=random).expand(-1, 3, -1)
    loss = ViewLoss(large_views=2, temperature=0.2)
    assert loss(crops) < loss(torch.randn(6, 3, 8, generator=random))


def test_the_loss_is_nt_xent_over_pairs_with_a_large_view():
    vectors = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(0))

    def nt_xent(a, b):
        unit = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
        likeness = unit @ unit.T / 0.2
        likeness.fill_diagonal_(-torch.inf)
        return torch.nn.functional.cross_entropy(likeness, torch.arange(8).roll(4))

    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = sum(nt_xent(vectors[:, i], vectors[:, j]) for i, j in pairs) / 3
    torch.testing.assert_close(ViewLoss(2, 0.2)(vectors), expected)
    torch.testing.assert_close(ViewLoss(1, 0.2)(vectors), (nt_xent(vectors[:, 0], vectors[:, 1]) + nt_xent(
        vectors[:, 0], vectors[:, 2])) / 2)  # fmt: skip


def test_the_layers_that_are_pooled_get_gradients_and_the_decoder_none():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 1, 3)

        def forward(self, x):
            return self.decoder(self.encoder(x))

    net = Net()
    made = ContrastiveNetwork(net, ["encoder"], 8)
    vectors = made(torch.rand(3, 2, 3, 16, 16), torch.rand(3, 1, 3, 8, 8))
    assert vectors.shape == (3, 3, 8)
    ViewLoss()(vectors).backward()
    assert net.encoder.weight.grad.abs().sum() > 0
    assert net.decoder.weight.grad is None


@pytest.mark.parametrize("file", ["findings.yaml", "pretrain.yaml"])
def test_network_and_preprocessing_are_those_of_training(file):
    ours, train = (yaml.safe_load((ROOT / "configs" / name).read_text()) for name in (file, "train.yaml"))
    for id in ("network_def", "tile_preprocessing", "device"):
        assert ours[id] == train[id]


def test_pretraining_trains_the_layers_that_findings_pool():
    findings, pretrain = (yaml.safe_load(file.read_text()) for file in (FINDINGS, PRETRAIN))
    assert pretrain["layers"] == findings["encoders"]["own"]["layers"]


@pytest.mark.slow
def test_the_curves_of_the_two_hospitals_are_made_by_their_script(shared_data, tmp_path):
    rows = pd.read_csv(shared_data / "crops" / "crops.csv").groupby(["slide", "label"]).head(2)
    rows.to_csv(tmp_path / "crops.csv", index=False)
    for name in ("images", "masks"):
        (tmp_path / name).symlink_to(shared_data / "crops" / name)
    line = [*command(FINDINGS)[:1], str(ROOT / "scripts" / "shot_curve.py"), "--data", str(tmp_path)]
    line += ["--output_dir", str(tmp_path / "out"), "--work_dir", str(tmp_path / "work"), "--draws", "2", "--quiet"]
    status, output, errors = finish(start(line))
    assert status == 0, errors
    curves = pd.read_csv(tmp_path / "out" / "shots.csv")
    assert {1, 2, 4, 8} <= set(curves["shots"])
    assert set(zip(curves["train"], curves["test_group"], strict=True)) == {("SAS", "SESCAM"), ("SESCAM", "SAS")}
    own = curves[(curves["encoder"] == "model.pt") & (curves["shots"] == 8)]
    assert own["auc"].mean() > 0.6  # single pairs of two draws scatter about 0.5 to 1
    assert "trained on SESCAM, tested on SAS" in output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"shots.csv", "shots.md", "shots.png"}
