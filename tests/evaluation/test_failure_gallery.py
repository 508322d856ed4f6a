"""The gallery of failures: what is drawn is what went wrong, and nothing else."""

import json

import numpy as np
import pytest
from PIL import Image

from scripts.failure_gallery import main

SIDE = 600
TRUTH = {"found": (100, 100, "Normal"), "misnamed": (300, 100, "Sclerotic"), "missed": (500, 100, "Normal")}
PREDICTED = {"found": (100, 100, "normal"), "misnamed": (302, 100, "normal"), "false": (300, 400, "global_sclerosis")}


def geojson(glomeruli):
    features = []
    for x, y, name in glomeruli.values():
        ring = [[x - 40, y - 40], [x + 40, y - 40], [x + 40, y + 40], [x - 40, y + 40], [x - 40, y - 40]]
        features.append(
            {
                "type": "Feature",
                "id": f"{x}-{y}",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": name},
                    "measurements": {"Probability": 0.9},
                },
            }
        )
    return json.dumps({"type": "FeatureCollection", "features": features})


@pytest.fixture
def job(tmp_path):
    """The arguments for one slide whose every pixel has a colour of its place, with the prediction PREDICTED."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[..., 0] = np.arange(SIDE) * 255 // SIDE
    image[..., 1] = (np.arange(SIDE) * 255 // SIDE)[:, None]
    Image.fromarray(image).save(tmp_path / "slide.png")
    (tmp_path / "slide.geojson").write_text(geojson(TRUTH))
    row = {"image": "slide.png", "label": "slide.geojson", "patient": "a", "stain": "HE", "mpp": 1.0}
    (tmp_path / "datalist.json").write_text(json.dumps({"validation": [row]}))
    (tmp_path / "out" / "slide").mkdir(parents=True)
    (tmp_path / "out" / "slide" / "glomeruli.geojson").write_text(geojson(PREDICTED))
    return [
        *("--datalist", str(tmp_path / "datalist.json"), "--predictions", str(tmp_path / "out")),
        *("--output", str(tmp_path / "failures.png"), "--mpp", "1", "--field_um", "100"),
    ]


def test_each_kind_of_failure_is_drawn_once_and_what_was_found_is_not(job, tmp_path, capsys):
    assert main(job) == 0
    said = capsys.readouterr().out
    assert "1 false: global sclerosis, 1 global sclerosis called normal, 1 missed: normal" in said
    picture = np.asarray(Image.open(tmp_path / "failures.png")).astype(int)
    # Kinds stand in alphabetical order; the middle of each plain half has the colour of the failure's place.
    for row, (x, y) in enumerate([(300, 400), (302, 100), (500, 100)]):
        middle = picture[18 * (row + 1) + 104 * row + 50, 50]
        assert np.abs(middle[:2] - np.array([x, y]) * 255 / SIDE).max() <= 2
        plain, outlined = np.hsplit(picture[18 * (row + 1) + 104 * row :][:100, :200], 2)
        assert plain[..., 2].max() == 0  # the picture has no blue, outlines have
        assert outlined[..., 2].max() > 50


def test_a_slide_without_prediction_is_named(job, tmp_path, capsys):
    (tmp_path / "out" / "slide" / "glomeruli.geojson").unlink()
    assert main(job) == 1
    assert "run inference on slide.png" in capsys.readouterr().err


def test_without_failures_no_picture_is_written(job, tmp_path, capsys):
    (tmp_path / "out" / "slide" / "glomeruli.geojson").write_text(geojson(TRUTH))
    assert main(job) == 0
    assert "no failure" in capsys.readouterr().out
    assert not (tmp_path / "failures.png").exists()
