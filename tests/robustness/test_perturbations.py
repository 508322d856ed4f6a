"""Perturbations against what they claim; ranges and tables against sums by hand."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage.color import rgb2hsv

from bundle.errors import ConfigError, DatalistError
from bundle.robustness import Blur, HueShift, Intensity, Jpeg, PerturbedColours, read_results, write_report
from bundle.robustness.report import ranges
from bundle.transforms import StainNormaliser
from scripts.robustness_plot import main


@pytest.fixture
def tile() -> np.ndarray:
    coarse = np.random.default_rng(2).integers(40, 220, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((64, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


def test_intensity_scales_the_optical_density(tile):
    for factor in (0.5, 0.7, 1.3):
        found = Intensity(factor)(tile)
        density = -np.log10(tile / 255)
        np.testing.assert_allclose(found, 255 * 10 ** (-density * factor), atol=0.51)
    assert np.array_equal(Intensity(1.0)(tile), tile)


@pytest.mark.parametrize("turn", [-0.1, 0.05])
def test_the_hue_turns_and_value_stays(tile, turn):
    before, after = (rgb2hsv(image.transpose(1, 2, 0)) for image in (tile, HueShift(turn)(tile)))
    coloured = before[..., 1] > 0.3
    difference = (after[..., 0] - before[..., 0] - turn + 0.5) % 1 - 0.5
    assert np.abs(difference[coloured]).max() < 0.02
    assert np.abs(after[..., 2] - before[..., 2]).max() < 0.01


def test_blur_spreads_a_point_by_its_sigma_and_keeps_a_plain_tile():
    plain = np.full((3, 40, 40), 200, np.uint8)
    assert np.array_equal(Blur(8.0, 4.0)(plain), plain)
    step = plain.copy()
    step[:, :, 20:] = 100
    rows = Blur(8.0, 4.0)(step)[0, 20].astype(float)
    weights = -np.diff(rows)
    places = np.arange(39) - 19
    assert np.sqrt((weights * places**2).sum() / weights.sum()) == pytest.approx(2.0, abs=0.15)


def test_jpeg_is_what_another_writer_of_jpeg_makes_of_it(tile):
    buffer = io.BytesIO()
    Image.fromarray(tile.transpose(1, 2, 0)).save(buffer, "jpeg", quality=20)
    with Image.open(buffer) as stored:
        expected = np.asarray(stored).transpose(2, 0, 1).astype(int)
    found = Jpeg(20)(tile)
    assert np.abs(found - expected).mean() < 2
    assert np.abs(found.astype(int) - tile).mean() > np.abs(Jpeg(90)(tile).astype(int) - tile).mean()


def test_unperturbed_is_always_there_and_first():
    colours = PerturbedColours({"low": Intensity(0.5)}, StainNormaliser())
    assert list(colours.perturbations) == ["unperturbed", "low"]
    with pytest.raises(ConfigError, match="always there"):
        PerturbedColours({"unperturbed": Intensity(0.5)}, StainNormaliser())


def results(model: str, values: dict[str, float]) -> pd.DataFrame:
    rows = [
        {"model": model, "perturbation": name, "stain": "ALL", "measure": measure, "class": "glomerulus", "mean": value}
        for name, value in values.items()
        for measure in ("dice", "pooled_f1")
    ]
    return pd.DataFrame(rows).assign(std=np.nan, n=3, patients=3, low=np.nan, high=np.nan)


def test_a_range_goes_from_the_worst_to_the_best():
    table = ranges(results("a", {"unperturbed": 0.8, "low": 0.5, "hue": 0.85, "blur": np.nan}))
    row = table[table["measure"] == "dice"].iloc[0]
    assert (row["unperturbed"], row["min"], row["min_at"], row["max"], row["max_at"]) == (0.8, 0.5, "low", 0.85, "hue")
    assert row["range"] == pytest.approx(0.35)


def test_several_models_go_into_one_table_and_plot(tmp_path):
    for model, low in (("a", 0.5), ("b", 0.7)):
        write_report(results(model, {"unperturbed": 0.8, "low": low}), tmp_path / model)
    files = [str(tmp_path / model / "robustness.csv") for model in "ab"]
    assert main([*files, "--output_dir", str(tmp_path / "both")]) == 0
    table = pd.read_csv(tmp_path / "both" / "range.csv").query("measure == 'dice'").set_index("model")
    assert table["min"].to_dict() == {"a": 0.5, "b": 0.7}
    assert "| a " in (tmp_path / "both" / "robustness.md").read_text()
    with Image.open(tmp_path / "both" / "robustness.png") as picture:
        assert picture.size[0] > 400


def test_a_model_given_twice_or_another_table_is_refused(tmp_path, capsys):
    write_report(results("a", {"unperturbed": 0.8}), tmp_path)
    file = tmp_path / "robustness.csv"
    assert main([str(file), str(file), "--output_dir", str(tmp_path / "both")]) == 1
    assert "occurs twice" in capsys.readouterr().err
    (tmp_path / "other.csv").write_text("slide,dice\na,1\n")
    with pytest.raises(DatalistError, match="no column"):
        read_results([tmp_path / "other.csv"])
