"""configs/inference.yaml from slide to outputs: the analytic truth is met, whatever the slide's size and origin."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import openslide
import pytest
import shapely
import tifffile
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from PIL import Image
from shapely.geometry import shape

import bundle.phantom.default
from bundle.classes import CLASS_NAMES
from bundle.errors import SlideReadError, UnknownResolutionError
from bundle.evaluation import class_dice
from bundle.geometry import Size
from bundle.phantom import Phantom, PhantomSpec
from tests.oracle import ROOT, run_config, write_oracle

OUTPUTS = {"mask.tif", "glomeruli.geojson", "overlay.png", "summary.json"}
MIN_AREA = "finder#min_area_um2"


def infer(slide: Path, output_dir: Path, **overrides: object) -> Path:
    run_config("inference.yaml", {"slide": str(slide), "output_dir": str(output_dir), **overrides})
    return output_dir


def mask_of(folder: Path) -> np.ndarray:
    return tifffile.imread(folder / "mask.tif", key=0)


def features_of(folder: Path) -> list[dict]:
    return json.loads((folder / "glomeruli.geojson").read_text(encoding="utf-8"))["features"]


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def truth_of(phantom: Phantom) -> np.ndarray:
    return phantom.truth(0, 0, phantom.spec.size.width, phantom.spec.size.height)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> tuple[Phantom, Path]:
    """An oracle slide of 1 um/px and the folder of its outputs."""
    folder = tmp_path_factory.mktemp("segmented")
    phantom = write_oracle(folder / "slide.tif", 2501, 1799, mpp=1.0, seed=3, class_fractions=(1, 1, 1))
    infer(folder / "slide.tif", folder / "out")
    return phantom, folder / "out"


def test_dice_of_every_class_is_at_least_0_95(segmented: tuple[Phantom, Path]) -> None:
    phantom, folder = segmented
    dice = class_dice(mask_of(folder), truth_of(phantom))
    assert set(dice) == {"glomerulus", *CLASS_NAMES}
    assert min(dice.values()) >= 0.95


def test_every_glomerulus_is_found_once_where_it_is_with_its_class_and_area(segmented: tuple[Phantom, Path]) -> None:
    phantom, folder = segmented
    slide = shapely.box(0, 0, 2501, 1799)
    truth = [(g.polygon.intersection(slide), g.name) for g in phantom.glomeruli]
    found = [(shape(f["geometry"]), f) for f in features_of(folder)]
    assert len(found) == len(truth) > 5
    for polygon, feature in found:
        expected, name = min(truth, key=lambda t: t[0].centroid.distance(polygon.centroid))
        assert polygon.centroid.distance(expected.centroid) < 4  # one pixel of the model
        assert feature["properties"]["classification"]["name"] == name
        area_um2 = feature["properties"]["measurements"]["Area µm^2"]
        assert area_um2 == pytest.approx(polygon.area * 1.0**2, abs=0.1)
        assert area_um2 == pytest.approx(expected.area, rel=0.05)
        assert feature["properties"]["measurements"]["Probability"] > 0.9
    assert len({feature["id"] for _, feature in found}) == len(found)


def test_mask_and_polygons_agree(segmented: tuple[Phantom, Path]) -> None:
    _, folder = segmented
    mask = mask_of(folder)
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
    outside = np.ones(mask.shape, bool)
    for feature in features_of(folder):
        polygon = shape(feature["geometry"])
        assert polygon.is_valid
        label = 1 + CLASS_NAMES.index(feature["properties"]["classification"]["name"])
        assert (mask[shapely.contains_xy(polygon, columns, rows)] == label).all()
        # A centre that lies on the outline may count as inside or outside.
        outside &= ~shapely.intersects_xy(polygon, columns, rows)
    assert not mask[outside].any()


def test_other_readers_open_the_mask_in_the_slide_s_size_and_resolution(segmented: tuple[Phantom, Path]) -> None:
    _, folder = segmented
    with openslide.OpenSlide(folder / "mask.tif") as mask, openslide.OpenSlide(folder.parent / "slide.tif") as slide:
        assert mask.dimensions == slide.dimensions == (2501, 1799)
        assert mask.level_dimensions == slide.level_dimensions
        assert float(mask.properties["openslide.mpp-x"]) == pytest.approx(1.0, rel=1e-4)
        shown = np.asarray(mask.read_region((0, 0), 0, mask.dimensions))[..., 0]
    np.testing.assert_array_equal(shown, mask_of(folder))


def test_the_summary_agrees_with_the_polygons(segmented: tuple[Phantom, Path]) -> None:
    phantom, folder = segmented
    summary = summary_of(folder)
    names = [g.name for g in phantom.glomeruli]
    assert summary["glomeruli"] == len(names)
    for name in CLASS_NAMES:
        of_class = [f["properties"] for f in features_of(folder) if f["properties"]["classification"]["name"] == name]
        assert summary["classes"][name]["count"] == names.count(name) == len(of_class) > 0
        area_um2 = sum(p["measurements"]["Area µm^2"] for p in of_class)
        assert summary["classes"][name]["area_um2"] == pytest.approx(area_um2, abs=0.1)
    share = 100 * names.count("global_sclerosis") / len(names)
    assert summary["percent_globally_sclerotic"] == pytest.approx(share, abs=0.01)
    slide = (folder.parent / "slide.tif").read_bytes()
    assert summary["slide"]["sha256"] == hashlib.sha256(slide).hexdigest()


def test_the_overlay_opens_and_shows_the_outlines(segmented: tuple[Phantom, Path]) -> None:
    _, folder = segmented
    with Image.open(folder / "overlay.png") as image:
        picture = np.asarray(image.convert("RGB"))
    assert picture.shape[1] == 2000
    feature = features_of(folder)[0]
    red_green_blue = feature["properties"]["classification"]["color"]
    left, top, right, bottom = (round(v * 2000 / 2501) for v in shape(feature["geometry"]).bounds)
    near = picture[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2].astype(int)
    assert (np.abs(near - red_green_blue).max(axis=2) < 40).sum() > 2 * (right - left)


@settings(max_examples=8, deadline=None)
@given(
    width=st.sampled_from([319, 320, 641, 1023, 1025]),
    height=st.sampled_from([257, 319, 511, 1025]),
    x=st.integers(-300, 600),
    y=st.integers(-300, 600),
    mpp=st.sampled_from([1.5, 2.0, 2.7]),
)
@example(width=1023, height=1025, x=0, y=0, mpp=2.0)
@example(width=319, height=319, x=131, y=77, mpp=2.0)
def test_shifts_of_the_origin_and_odd_sizes_lose_nothing(width: int, height: int, x: int, y: int, mpp: float) -> None:
    with TemporaryDirectory() as folder:
        slide = Path(folder) / "slide.tif"
        phantom = write_oracle(slide, width, height, mpp=mpp, seed=5, origin=(x, y))
        # Slivers at the slide's edge count here too.
        mask = mask_of(infer(slide, Path(folder) / "out", **{MIN_AREA: 0}))
    truth = truth_of(phantom)
    assert mask.shape == (height, width)
    if (truth > 0).sum() * mpp**2 < 5000:  # less than half a glomerulus: a rim of one model pixel is much of it
        assert ((mask > 0) != (truth > 0)).sum() * mpp**2 < 500
    else:
        assert class_dice(mask, truth)["glomerulus"] >= 0.95


def test_a_shifted_slide_has_the_same_glomeruli_shifted(tmp_path: Path) -> None:
    polygons = []
    for i, (x, y) in enumerate([(0, 0), (3, -5)]):  # no multiple of the model's pixel of two
        write_oracle(tmp_path / f"{i}.tif", 700, 600, seed=5, origin=(x, y))
        folder = infer(tmp_path / f"{i}.tif", tmp_path / f"out{i}")
        found = [shape(f["geometry"]) for f in features_of(folder)]
        inside = shapely.box(20 - x, 20 - y, 680 - x, 580 - y)
        moved = [shapely.transform(p, lambda points, by=(x, y): points + by) for p in found if inside.contains(p)]
        polygons.append(sorted(moved, key=lambda p: (round(p.centroid.x / 8), p.centroid.y)))
    assert len(polygons[0]) == len(polygons[1]) > 3
    for one, other in zip(*polygons, strict=True):
        assert one.intersection(other).area / one.union(other).area > 0.96
        assert one.centroid.distance(other.centroid) < 0.5


def test_every_scanner_s_slide_gives_the_same_areas(tmp_path: Path) -> None:
    areas = []
    for mpp in (0.5, 1.0, 1.7):  # the same 1400 x 1200 um of kidney
        write_oracle(tmp_path / "slide.tif", round(1400 / mpp), round(1200 / mpp), mpp=mpp, seed=5)
        folder = infer(tmp_path / "slide.tif", tmp_path / str(mpp))
        areas.append(sorted(f["properties"]["measurements"]["Area µm^2"] for f in features_of(folder)))
    assert len(areas[0]) > 3
    assert areas[1] == pytest.approx(areas[0], rel=0.02)
    assert areas[2] == pytest.approx(areas[0], rel=0.02)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (319, 319), (1023, 1), (1025, 1023), (10, 30_000), (30_000, 10)])
def test_odd_sizes_leave_outputs_of_exactly_their_size(tmp_path: Path, width: int, height: int) -> None:
    phantom = write_oracle(tmp_path / "slide.tif", width, height, mpp=0.5, seed=2)
    folder = infer(tmp_path / "slide.tif", tmp_path / "out", **{MIN_AREA: 0})
    mask = mask_of(folder)
    assert mask.shape == (height, width)
    assert {path.name for path in folder.iterdir()} == OUTPUTS
    truth = truth_of(phantom)
    assert ((mask > 0) != (truth > 0)).mean() < 0.03
    with openslide.OpenSlide(folder / "mask.tif") as opened:
        assert opened.dimensions == (width, height)


def test_an_all_white_slide_has_no_glomeruli_and_valid_outputs(tmp_path: Path) -> None:
    write_oracle(tmp_path / "slide.tif", 500, 400, glomeruli_per_mm2=0, origin=(-9000, -9000))
    folder = infer(tmp_path / "slide.tif", tmp_path / "out")
    assert {path.name for path in folder.iterdir()} == OUTPUTS
    assert mask_of(folder).shape == (400, 500)
    assert not mask_of(folder).any()
    assert features_of(folder) == []
    assert summary_of(folder)["glomeruli"] == 0
    assert summary_of(folder)["percent_globally_sclerotic"] is None


def test_small_objects_are_dropped_from_all_outputs(tmp_path: Path) -> None:
    phantom = write_oracle(tmp_path / "slide.tif", 700, 600, seed=5)
    areas = sorted(g.polygon.intersection(shapely.box(0, 0, 700, 600)).area * 4 for g in phantom.glomeruli)
    limit = (areas[-2] + areas[-1]) / 2
    folder = infer(tmp_path / "slide.tif", tmp_path / "out", **{MIN_AREA: limit})
    (feature,) = features_of(folder)
    assert summary_of(folder)["glomeruli"] == 1
    assert (mask_of(folder) > 0).sum() * 4 == pytest.approx(areas[-1], rel=0.05)
    assert feature["properties"]["measurements"]["Area µm^2"] > limit


def png_of(tmp_path: Path) -> tuple[Phantom, Path]:
    """An oracle phantom as PNG, which states no resolution."""
    phantom = write_oracle(tmp_path / "slide.tif", 700, 600, seed=5)
    Image.fromarray(tifffile.imread(tmp_path / "slide.tif", key=0)).save(tmp_path / "slide.png")
    return phantom, tmp_path / "slide.png"


def test_an_image_without_resolution_is_an_error_that_names_the_override(tmp_path: Path) -> None:
    _, png = png_of(tmp_path)
    with pytest.raises(RuntimeError) as failure:
        infer(png, tmp_path / "out")
    causes = [failure.value]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    assert isinstance(causes[-1], UnknownResolutionError)
    assert "slide.png" in str(causes[-1])
    assert "--mpp" in str(causes[-1])


def test_the_override_of_the_resolution_is_heeded(tmp_path: Path) -> None:
    phantom, png = png_of(tmp_path)
    folder = infer(png, tmp_path / "out", mpp=2.0)
    assert class_dice(mask_of(folder), truth_of(phantom))["glomerulus"] >= 0.95
    assert summary_of(folder)["slide"]["mpp"] == 2.0


def test_the_study_s_pixel_tiles_need_no_resolution(tmp_path: Path) -> None:
    phantom, png = png_of(tmp_path)
    tiles = {"_target_": "bundle.grid.PixelTiles", "tile_level0_px": 256, "overlap_level0_px": 64, "tile_px": 80}
    folder = infer(png, tmp_path / "out", tiles=tiles, **{"preprocessing#transforms#0#needs_mpp": False})
    assert class_dice(mask_of(folder), truth_of(phantom))["glomerulus"] >= 0.95
    summary = summary_of(folder)
    assert summary["slide"]["mpp"] is None
    assert summary["classes"]["normal"]["area_um2"] is None


def test_a_path_without_slides_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as failure:
        infer(tmp_path / "absent.svs", tmp_path / "out")
    cause = failure.value
    while cause.__cause__ is not None:
        cause = cause.__cause__
    assert isinstance(cause, SlideReadError)
    assert "absent.svs" in str(cause)


def test_without_a_slide_a_phantom_is_made_and_segmented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = PhantomSpec(Size(700, 600), mpp=2.0, seed=5, glomeruli_per_mm2=6.0, oracle=True)
    monkeypatch.setattr(bundle.phantom.default, "DEFAULT_SPEC", spec)
    run_config("inference.yaml", {"output_dir": str(tmp_path)})
    assert {path.name for path in tmp_path.iterdir()} == {*OUTPUTS, "phantom.tif", "phantom.geojson"}
    assert class_dice(mask_of(tmp_path), truth_of(Phantom(spec)))["glomerulus"] >= 0.95


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the config's own network, whose bias says "normal" everywhere."""
    parser = ConfigParser()
    parser.read_config(str(ROOT / "configs" / "inference.yaml"))
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    with torch.no_grad():
        network.final_conv.bias.copy_(torch.tensor([-20.0, 20.0, -20.0, -20.0]))
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(network.state_dict(), path)
    return path


def monai_run(cwd: Path, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "monai.bundle", "run", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_the_command_in_the_readme_segments_a_slide(tmp_path: Path, weights: Path) -> None:
    write_oracle(tmp_path / "slide.tif", 500, 400, seed=5)
    slide, out = tmp_path / "slide.tif", tmp_path / "out"
    arguments = ["--config_file", "configs/inference.yaml", "--slide", slide, "--output_dir", out]
    result = monai_run(ROOT, *arguments, "--checkpoint", weights)
    assert result.returncode == 0, result.stderr
    assert "slide.tif: 100%" in result.stderr
    assert {path.name for path in out.iterdir()} == OUTPUTS
    summary = summary_of(out)
    assert summary["classes"]["normal"]["count"] == summary["glomeruli"] > 0
    assert summary["provenance"]["weights"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert len(summary["provenance"]["config"]) == 64


@pytest.mark.slow
def test_a_folder_of_slides_is_segmented_from_any_working_folder(tmp_path: Path, weights: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    slides = tmp_path / "slides"
    slides.mkdir()
    write_oracle(slides / "first.tif", 300, 200, seed=5)
    shutil.copy(slides / "first.tif", slides / "second.tif")
    (slides / "notes.txt").write_text("not a slide")
    config = ROOT / "configs" / "inference.yaml"
    arguments = ["--config_file", config, "--slide", "../slides", "--output_dir", "results", "--checkpoint", weights]
    result = monai_run(elsewhere, *arguments)
    assert result.returncode == 0, result.stderr
    folders = [elsewhere / "results" / "first", elsewhere / "results" / "second"]
    assert sorted((elsewhere / "results").iterdir()) == folders
    assert all({path.name for path in folder.iterdir()} == OUTPUTS for folder in folders)
    assert "first.tif: 100%" in result.stderr
    assert "second.tif: 100%" in result.stderr
