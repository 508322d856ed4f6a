"""The plot script: outlines in, tables and a plot out."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from shapely.geometry import Point

from bundle.classes import GLOBAL, NORMAL
from bundle.data.annotations import Annotation, Glomerulus, write_geojson
from scripts.morphometry_plot import main


def test_outlines_of_unknown_scale_are_compared_in_pixels_within_their_slides(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for slide in range(7):
        radii = [(NORMAL, 50 + slide), (NORMAL, 60 + slide), (GLOBAL, 0.5 * (55 + slide))]
        glomeruli = [
            Glomerulus(Point(200 * i, 0).buffer(radius, quad_segs=64), kind.index, kind.name)
            for i, (kind, radius) in enumerate(radii)
        ]
        write_geojson(Annotation(tuple(glomeruli)), tmp_path / "in" / f"{slide}.geojson")
    assert main(["--annotations", str(tmp_path / "in"), "--output_dir", str(tmp_path), "--name", "m"]) == 0
    ratio = pd.read_csv(tmp_path / "m_ratio.csv").set_index("measure").loc["equivalent_diameter_px"]
    assert (ratio["slides"], ratio["smaller"]) == (7, 7)
    assert ratio["median_ratio"] == pytest.approx(0.5, rel=1e-3)
    assert ratio["p"] == pytest.approx(2 / 2**7, rel=1e-3)
    by_class = pd.read_csv(tmp_path / "m.csv").set_index(["measure", "class"])
    assert by_class.loc[("equivalent_diameter_px", "normal"), "median"] == pytest.approx(116, rel=0.01)
    assert by_class.loc[("area_px2", "global_sclerosis"), "glomeruli"] == 7
    assert np.asarray(Image.open(tmp_path / "m.png")).std() > 10


def test_a_folder_without_annotations_is_an_error_in_one_line(tmp_path, capsys):
    assert main(["--annotations", str(tmp_path), "--output_dir", str(tmp_path)]) == 1
    assert "holds no annotation" in capsys.readouterr().err
