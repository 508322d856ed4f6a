"""What a slide leaves behind, opened by other programs' readers and compared with the polygons that were given."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openslide
import pytest
import shapely
import tifffile
from PIL import Image

from bundle.classes import GLOBAL, GLOMERULUS_CLASSES, NORMAL, SEGMENTAL, class_of_index
from bundle.data.annotations import Annotation, Glomerulus
from bundle.errors import OutputError
from bundle.outputs import SaveGeoJSONd, SaveMaskd, SaveOverlayd, SaveSummaryd
from bundle.slide import Slide, open_slide

WIDTH, HEIGHT, MPP = 1023, 645, 0.5
SAVERS = (SaveMaskd, SaveGeoJSONd, SaveOverlayd, SaveSummaryd)


def glomerulus(label: int, x: float, y: float, radius: float, probability: float = 0.9) -> Glomerulus:
    polygon = shapely.Point(x, y).buffer(radius)
    measurements = {"Probability": probability, "Area µm^2": round(polygon.area * MPP**2, 1)}
    name = class_of_index(label).name
    return Glomerulus(polygon, label, name, f"{name} at {x:g}", {"measurements": measurements})


GLOMERULI = Annotation(
    (
        glomerulus(NORMAL.index, 200.3, 150.7, 80),
        glomerulus(NORMAL.index, 1020, 300, 60, probability=0.7),  # cut by the slide's edge
        glomerulus(SEGMENTAL.index, 500, 500, 90),
        glomerulus(GLOBAL.index, 700.5, 120.25, 40),
    )
)


def write_slide(path: Path, mpp: float | None = MPP, width: int = WIDTH, height: int = HEIGHT) -> Path:
    tags = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    rgb = np.full((height, width, 3), (230, 215, 225), np.uint8)
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "adobe_deflate", "metadata": None}
    tifffile.imwrite(path, rgb, **options, **tags)
    return path


@pytest.fixture
def slide(tmp_path: Path) -> Iterator[Slide]:
    with open_slide(write_slide(tmp_path / "slide.tif")) as opened:
        yield opened


def save(saver: type, slide: Slide, glomeruli: Annotation, folder: Path, name: str = "", **options: object) -> None:
    saver("glomeruli", folder, **options)({"image": slide, "glomeruli": glomeruli, "name": name})


def summary_of(slide: Slide, glomeruli: Annotation, folder: Path, **options: object) -> dict:
    save(SaveSummaryd, slide, glomeruli, folder, **options)
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def test_the_mask_has_the_slide_s_size_and_the_polygons_classes(slide: Slide, tmp_path: Path) -> None:
    save(SaveMaskd, slide, GLOMERULI, tmp_path / "out")
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    for g in GLOMERULI.glomeruli:
        expected[shapely.contains_xy(g.polygon, columns, rows)] = g.label
    with tifffile.TiffFile(tmp_path / "out" / "mask.tif") as tiff:
        np.testing.assert_array_equal(tiff.pages[0].asarray(), expected)
        assert np.unique(expected).tolist() == [0, 1, 2, 3]
        assert all(page.is_tiled for page in tiff.pages)
        assert [page.shape for page in tiff.pages] == [(645, 1023), (323, 512), (162, 256)]
        for k, page in enumerate(tiff.pages):
            numerator, denominator = page.tags["XResolution"].value
            assert 1e4 / (numerator / denominator) == pytest.approx(MPP * 2**k, rel=1e-4)
            assert page.tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
        for g in GLOMERULUS_CLASSES:
            assert f"{g.index} {g.name}" in tiff.pages[0].description


def test_openslide_shows_the_mask(slide: Slide, tmp_path: Path) -> None:
    save(SaveMaskd, slide, GLOMERULI, tmp_path)
    with openslide.OpenSlide(tmp_path / "mask.tif") as mask:
        assert mask.dimensions == (WIDTH, HEIGHT)
        assert mask.level_count == 3
        assert float(mask.properties["openslide.mpp-x"]) == pytest.approx(MPP, rel=1e-4)
        shown = np.asarray(mask.read_region((0, 0), 0, (WIDTH, HEIGHT)))[..., 0]
    np.testing.assert_array_equal(shown, tifffile.imread(tmp_path / "mask.tif"))


def test_the_geojson_is_what_qupath_writes(slide: Slide, tmp_path: Path) -> None:
    save(SaveGeoJSONd, slide, GLOMERULI, tmp_path)
    collection = json.loads((tmp_path / "glomeruli.geojson").read_text(encoding="utf-8"))
    assert collection["type"] == "FeatureCollection"
    assert len(collection["features"]) == 4
    for feature, given in zip(collection["features"], GLOMERULI.glomeruli, strict=True):
        assert feature["type"] == "Feature"
        assert feature["id"] == given.id
        assert shapely.geometry.shape(feature["geometry"]).equals(given.polygon)
        properties = feature["properties"]
        assert properties["objectType"] == "annotation"
        expected = class_of_index(given.label)
        assert properties["classification"] == {"name": expected.name, "color": list(expected.rgb)}
        assert properties["measurements"]["Area µm^2"] == pytest.approx(given.polygon.area * MPP**2, abs=0.1)


def test_the_overlay_shows_every_outline_in_its_class_s_colour(slide: Slide, tmp_path: Path) -> None:
    save(SaveOverlayd, slide, GLOMERULI, tmp_path, max_size_px=1023)
    with Image.open(tmp_path / "overlay.png") as image:
        picture = np.asarray(image.convert("RGB")).astype(int)
    assert picture.shape[1] == WIDTH
    assert picture.shape[0] > HEIGHT  # the legend
    tissue = np.array((230, 215, 225))
    for g in GLOMERULI.glomeruli:
        left, top, right, bottom = (round(v) for v in g.polygon.bounds)
        row = (top + bottom) // 2
        step = np.array(class_of_index(g.label).rgb) - tissue
        crossed = picture[row, left - 3 : left + 3] - tissue
        share = crossed @ step / (step @ step)
        assert share.max() > 0.5  # the antialiased line may fall between two pixels
        assert np.abs(crossed - share[:, None] * step).max() < 3
        assert (picture[row, left + 5 : min(right - 5, WIDTH)] == tissue).all()


def test_the_overlay_is_no_larger_than_asked(slide: Slide, tmp_path: Path) -> None:
    save(SaveOverlayd, slide, GLOMERULI, tmp_path, max_size_px=300)
    with Image.open(tmp_path / "overlay.png") as image:
        assert image.width == 300


def test_the_summary_counts_and_measures_each_class(slide: Slide, tmp_path: Path) -> None:
    summary = summary_of(slide, GLOMERULI, tmp_path)
    assert summary["glomeruli"] == 4
    assert {name: c["count"] for name, c in summary["classes"].items()} == {
        "normal": 2,
        "segmental_sclerosis": 1,
        "global_sclerosis": 1,
    }
    assert summary["percent_globally_sclerotic"] == 25.0
    normal_um2 = sum(g.polygon.area for g in GLOMERULI.glomeruli[:2]) * MPP**2
    assert summary["classes"]["normal"]["area_um2"] == pytest.approx(normal_um2, abs=0.2)
    assert summary["classes"]["normal"]["mean_probability"] == pytest.approx(0.8)


def test_the_summary_tells_where_it_came_from(slide: Slide, tmp_path: Path) -> None:
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    summary = summary_of(slide, GLOMERULI, tmp_path, provenance={"weights": str(weights), "model_mpp": 4.0})
    assert summary["slide"]["file"] == "slide.tif"
    assert summary["slide"]["sha256"] == hashlib.sha256((tmp_path / "slide.tif").read_bytes()).hexdigest()
    assert (summary["slide"]["width_px"], summary["slide"]["height_px"]) == (WIDTH, HEIGHT)
    assert summary["slide"]["mpp"] == pytest.approx(MPP)
    provenance = summary["provenance"]
    assert provenance["weights"] == {"file": "model.pt", "sha256": hashlib.sha256(b"weights").hexdigest()}
    assert provenance["model_mpp"] == 4.0
    assert set(provenance["packages"]) == {"monai", "torch", "numpy"}


def test_a_slide_without_glomeruli_has_valid_outputs(slide: Slide, tmp_path: Path) -> None:
    for saver in SAVERS:
        save(saver, slide, Annotation(()), tmp_path)
    assert not tifffile.imread(tmp_path / "mask.tif").any()
    assert json.loads((tmp_path / "glomeruli.geojson").read_text()) == {"type": "FeatureCollection", "features": []}
    summary = summary_of(slide, Annotation(()), tmp_path)
    assert summary["glomeruli"] == 0
    assert summary["percent_globally_sclerotic"] is None
    assert summary["classes"]["normal"] == {"count": 0, "area_um2": 0.0, "mean_probability": None}
    with Image.open(tmp_path / "overlay.png") as image:
        image.load()


def test_an_unknown_resolution_leaves_areas_and_tags_out(tmp_path: Path) -> None:
    unmeasured = Annotation(
        tuple(
            Glomerulus(g.polygon, g.label, g.name, g.id, {"measurements": {"Probability": 0.9}})
            for g in GLOMERULI.glomeruli
        )
    )
    with open_slide(write_slide(tmp_path / "slide.tif", mpp=None)) as slide:
        for saver in SAVERS:
            save(saver, slide, unmeasured, tmp_path / "out")
        summary = summary_of(slide, unmeasured, tmp_path / "out")
    assert summary["slide"]["mpp"] is None
    assert summary["classes"]["normal"]["area_um2"] is None
    with openslide.OpenSlide(tmp_path / "out" / "mask.tif") as mask:
        assert "openslide.mpp-x" not in mask.properties


@pytest.mark.parametrize(("width", "height"), [(1, 1), (10, 3000), (3000, 10), (1025, 319)])
def test_odd_sizes_leave_outputs_of_their_size(tmp_path: Path, width: int, height: int) -> None:
    whole = shapely.box(0, 0, width, height)
    glomeruli = Annotation(
        (Glomerulus(whole, 1, "normal", "all", {"measurements": {"Probability": 1.0, "Area µm^2": 1.0}}),)
    )
    with open_slide(write_slide(tmp_path / "slide.tif", width=width, height=height)) as slide:
        for saver in SAVERS:
            save(saver, slide, glomeruli, tmp_path / "out")
    mask = tifffile.imread(tmp_path / "out" / "mask.tif", key=0)
    assert mask.shape == (height, width)
    assert (mask == 1).all()
    with Image.open(tmp_path / "out" / "overlay.png") as image:
        image.load()


def test_each_slide_of_a_folder_has_its_own_folder(slide: Slide, tmp_path: Path) -> None:
    for saver in SAVERS:
        save(saver, slide, GLOMERULI, tmp_path, name="biopsy 7")
    files = {"mask.tif", "glomeruli.geojson", "overlay.png", "summary.json"}
    assert {path.name for path in (tmp_path / "biopsy 7").iterdir()} == files


def test_a_folder_that_cannot_be_written_is_named(slide: Slide, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for saver in SAVERS:
        with pytest.raises(OutputError, match="file"):
            save(saver, slide, GLOMERULI, tmp_path / "file")
