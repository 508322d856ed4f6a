"""The crop store: what goes in comes out, whatever fails or is killed on the way."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.errors import ConfigError, OutputError
from bundle.findings.entities import COLUMNS, TEXT_COLUMNS
from bundle.findings.entities_crop import Crop, Cropper
from bundle.findings.store import CropStore
from bundle.findings.store_writer import CropWriter

TINY = Cropper(crop_px=3, crop_mpp=2.0)


class KilledError(Exception):
    """Stands for a kill: nothing in the bundle catches it."""


def row(slide: str, number: int) -> dict[str, object]:
    texts = {name: f"{name} {slide} {number}" for name in TEXT_COLUMNS}
    numbers = {name: float(number) for name in COLUMNS if name not in texts and name != "row"}
    return {**texts, **numbers, "slide": slide, "confidence": None}


def crop(slide: str, number: int) -> Crop:
    random = np.random.default_rng([*slide.encode(), number])
    return Crop(random.integers(0, 256, (3, 3, 3), np.uint8), random.integers(0, 4, (3, 3), np.uint8), 1.0)


def write(
    folder: Path, slides: Sequence[tuple[str, int]], *, fails: str = "", killed: str = "", shard: int = 4
) -> None:
    """Write slides of so many glomeruli each; `fails` fails after its last one, `killed` kills the run there."""
    with CropWriter(folder, TINY, shard_crops=shard) as writer:
        for slide, count in slides:
            if writer.has(slide, "source"):
                continue
            for number in range(count):
                writer.add(row(slide, number), crop(slide, number))
            if slide == killed:
                raise KilledError
            if slide == fails:
                writer.drop_slide()
            else:
                writer.finish_slide(slide, "source", {"slide": slide, "glomeruli": count})


def assert_holds(folder: Path, slides: Sequence[tuple[str, int]]) -> None:
    store = CropStore.open(folder)
    expected = [(slide, number) for slide, count in slides for number in range(count)]
    assert len(store) == len(expected)
    assert list(store.table["row"]) == list(range(len(expected)))
    assert list(store.table["entity_id"]) == [row(*each)["entity_id"] for each in expected]
    for place, each in enumerate(expected):
        image, mask = store.read(place)
        assert (image == crop(*each).image).all()
        assert (mask == crop(*each).mask).all()
    assert list(store.slides.get("glomeruli", [])) == [count for _, count in slides]


@settings(max_examples=8, deadline=None)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    fails=st.integers(0, 5),
    killed=st.integers(0, 5),
    shard=st.sampled_from([1, 4, 5]),
)
def test_every_slide_that_did_not_fail_is_there_after_kill_and_resume(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], fails: int, killed: int, shard: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    slides = [(f"s{i}", count) for i, count in enumerate(counts)]
    first = [slide for slide in slides if slide[0] != f"s{fails}"]
    if killed < len(counts) and killed != fails:
        with pytest.raises(KilledError):
            write(folder, slides, fails=f"s{fails}", killed=f"s{killed}", shard=shard)
    write(folder, slides, fails=f"s{fails}", shard=shard)
    assert_holds(folder, first)
    write(folder, slides, shard=shard)
    assert_holds(folder, [*first, *[slide for slide in slides if slide not in first]])


def test_a_kill_at_any_renaming_of_a_file_loses_nothing_that_a_resumed_run_does_not_bring_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slides = [("a", 3), ("b", 6), ("c", 0), ("d", 2)]
    real, calls = os.replace, 0

    def replace(source: object, target: object) -> None:
        nonlocal calls
        calls += 1
        if calls == deadly:
            raise KilledError
        real(source, target)

    kills, deadly = 0, 0
    monkeypatch.setattr(os, "replace", replace)
    while kills == deadly:
        deadly, calls = deadly + 1, 0
        folder = tmp_path / str(deadly)
        try:
            write(folder, slides)
        except KilledError:
            kills += 1
            calls = deadly  # the resumed run lives
            write(folder, slides)
        assert_holds(folder, slides)
    assert kills > 20


def test_a_store_grows_by_new_slides_and_old_ones_stay_where_they_are(tmp_path: Path) -> None:
    write(tmp_path, [("a", 5)])
    before = CropStore.open(tmp_path).table
    write(tmp_path, [("a", 5), ("b", 2)])
    assert_holds(tmp_path, [("a", 5), ("b", 2)])
    pd.testing.assert_frame_equal(CropStore.open(tmp_path).table.iloc[:5], before)


def test_csv_and_parquet_hold_the_same(tmp_path: Path) -> None:
    write(tmp_path, [("a", 5), ("b", 0), ("c", 3)])
    csv, parquet = pd.read_csv(tmp_path / "entities.csv"), pd.read_parquet(tmp_path / "entities.parquet")
    assert tuple(csv.columns) == tuple(parquet.columns) == COLUMNS
    pd.testing.assert_frame_equal(csv, parquet, check_dtype=False)
    assert parquet["confidence"].isna().all()


def test_the_arrays_are_plain_zarr_in_shards(tmp_path: Path) -> None:
    write(tmp_path, [("a", 10)])
    group = zarr.open_group(tmp_path, mode="r")
    assert (group["image"].shape, group["mask"].shape) == ((10, 3, 3, 3), (10, 3, 3))
    assert (group["image"].shards, group["image"].chunks) == ((4, 3, 3, 3), (1, 3, 3, 3))
    assert len(list((tmp_path / "image" / "c").iterdir())) == 3
    assert (group["image"][9] == crop("a", 9).image).all()


def test_a_store_without_any_glomerulus_opens(tmp_path: Path) -> None:
    write(tmp_path, [("a", 0)])
    store = CropStore.open(tmp_path)
    assert (len(store), tuple(store.table.columns)) == (0, COLUMNS)
    with pytest.raises(IndexError):
        store.read(0)


def test_a_store_of_geometry_has_a_table_and_says_that_it_has_no_crops(tmp_path: Path) -> None:
    with CropWriter(tmp_path, None) as writer:
        writer.add(row("a", 0), None)
        writer.finish_slide("a", "source", {"slide": "a"})
    store = CropStore.open(tmp_path)
    assert (len(store), store.has_crops) == (1, False)
    with pytest.raises(ConfigError, match="geometry_only"):
        store.read(0)


def test_a_folder_that_is_no_store_and_one_that_is_not_finished_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no crop store"):
        CropStore.open(tmp_path)
    with pytest.raises(KilledError):
        write(tmp_path, [("a", 3)], killed="a")
    with pytest.raises(ConfigError, match="not finished"):
        CropStore.open(tmp_path)


def test_crops_of_another_size_do_not_go_into_a_store(tmp_path: Path) -> None:
    write(tmp_path, [("a", 1)])
    with pytest.raises(ConfigError, match="another folder"), CropWriter(tmp_path, Cropper(3, 1.0), shard_crops=4):
        pass


def test_a_slide_whose_annotation_changed_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    write(tmp_path, [("a", 1)])
    with CropWriter(tmp_path, TINY, shard_crops=4) as writer, pytest.raises(ConfigError, match="another annotation"):
        writer.has("a", "other source")


def test_two_runs_do_not_write_to_one_store(tmp_path: Path) -> None:
    with CropWriter(tmp_path, TINY), pytest.raises(OutputError, match="another run"), CropWriter(tmp_path, TINY):
        pass


@pytest.mark.parametrize("place", [-1, 2])
def test_rows_that_are_not_there_are_an_index_error(tmp_path: Path, place: int) -> None:
    write(tmp_path, [("a", 2)])
    with pytest.raises(IndexError, match="no row"):
        CropStore.open(tmp_path).read(place)


@pytest.mark.parametrize(("px", "mpp"), [(0, 1.0), (10.5, 1.0), (10, 0.0), (10, float("nan")), (10, "0,5")])
def test_crops_that_cannot_be_are_refused(px: object, mpp: object) -> None:
    with pytest.raises(ConfigError, match="whole number"):
        Cropper(px, mpp)
