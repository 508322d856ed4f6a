"""Which slides a path means."""

from pathlib import Path

import pytest

import bundle.phantom.default
from bundle.data.slides import find_slides
from bundle.errors import ConfigError, SlideReadError
from bundle.geometry import Rect, Size
from bundle.phantom import PhantomSpec


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_a_file_is_one_slide_whatever_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "scan.unusual")
    assert find_slides(tmp_path / "scan.unusual") == [{"image": str(tmp_path / "scan.unusual"), "name": ""}]


def test_a_folder_is_its_slides_in_order_of_name(tmp_path: Path) -> None:
    touch(tmp_path, "b.svs", "a.NDPI", "notes.txt", ".hidden.svs", "a.geojson")
    found = find_slides(str(tmp_path))
    assert [Path(item["image"]).name for item in found] == ["a.NDPI", "b.svs"]
    assert [item["name"] for item in found] == ["a", "b"]


def test_slides_of_one_stem_keep_their_outputs_apart(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "a.tif", "b.tif")
    assert [item["name"] for item in find_slides(tmp_path)] == ["a.svs", "a.tif", "b"]


def test_a_folder_of_dicom_pieces_is_one_slide(tmp_path: Path) -> None:
    touch(tmp_path, "level0.dcm", "level1.dcm")
    assert find_slides(tmp_path) == [{"image": str(tmp_path), "name": ""}]


def test_overrides_reach_every_slide(tmp_path: Path) -> None:
    touch(tmp_path, "a.tif", "b.tif")
    found = find_slides(tmp_path, mpp=0.25, region=[1, 2, 30, 40])
    assert [(item["mpp"], item["region"]) for item in found] == [(0.25, Rect(1, 2, 30, 40))] * 2


@pytest.mark.parametrize("region", [[1, 2, 3], [0.5, 0, 10, 10], "1,2,3,4"])
def test_a_region_that_is_no_rectangle_is_refused(tmp_path: Path, region: object) -> None:
    with pytest.raises(ConfigError, match=r"\[x, y, width, height\]"):
        find_slides(tmp_path, region=region)


def test_a_path_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlideReadError, match="absent"):
        find_slides(tmp_path / "absent")
    touch(tmp_path, "notes.txt")
    with pytest.raises(SlideReadError, match="holds no slide"):
        find_slides(tmp_path)


def test_without_a_path_the_phantom_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle.phantom.default, "DEFAULT_SPEC", PhantomSpec(Size(300, 200), mpp=2.0))
    (first,) = find_slides(None, default_dir=tmp_path)
    made = Path(first["image"]).stat().st_mtime_ns
    (second,) = find_slides(None, default_dir=tmp_path)
    assert first == second == {"image": str(tmp_path / "phantom.tif"), "name": ""}
    assert Path(first["image"]).stat().st_mtime_ns == made
