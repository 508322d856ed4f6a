"""Corrections: what is written beside the original, and what is refused."""

import json
from pathlib import Path

import pytest

from bundle.classes import GLOBAL, NORMAL
from bundle.data.annotations import read_annotation
from bundle.errors import AnnotationError
from bundle.report.corrections import MODEL_CLASS, Corrections, parse_corrections, save_corrections


def features(path: Path) -> dict[str, dict]:
    return {f["id"]: f for f in json.loads(path.read_text(encoding="utf-8"))["features"]}


def test_the_corrected_file_has_the_new_class_and_lacks_what_was_deleted(folder: Path) -> None:
    original = (folder / "glomeruli.geojson").read_bytes()
    before = features(folder / "glomeruli.geojson")
    changed, deleted, *_ = (id for id, f in before.items() if f["properties"]["classification"]["name"] == "normal")
    path = save_corrections(folder, Corrections({changed: GLOBAL.name}, frozenset({deleted})))
    assert path.name == "glomeruli_corrected.geojson"
    assert (folder / "glomeruli.geojson").read_bytes() == original
    after = features(path)
    assert before.keys() - after.keys() == {deleted}
    assert after[changed]["properties"]["classification"] == {"name": GLOBAL.name, "color": list(GLOBAL.rgb)}
    assert after[changed]["properties"]["metadata"] == {MODEL_CLASS: NORMAL.name}  # QuPath takes texts only
    assert after[changed]["geometry"] == before[changed]["geometry"]
    assert [after[id] for id in after if id != changed] == [before[id] for id in after if id != changed]


def test_the_corrected_file_is_read_like_any_annotation(folder: Path) -> None:
    before = read_annotation(folder / "glomeruli.geojson").glomeruli
    path = save_corrections(folder, Corrections({before[0].id: GLOBAL.name}, frozenset({before[1].id})))
    after = read_annotation(path).glomeruli
    assert [g.id for g in after] == [g.id for g in before if g.id != before[1].id]
    assert after[0].label == GLOBAL.index
    assert after[0].polygon.equals(before[0].polygon)


def test_saving_again_starts_from_the_original(folder: Path) -> None:
    first, second, *_ = features(folder / "glomeruli.geojson")
    save_corrections(folder, Corrections({}, frozenset({first})))
    path = save_corrections(folder, Corrections({}, frozenset({second})))
    assert first in features(path)
    assert second not in features(path)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"reclassified": {}},
        {"reclassified": [], "deleted": []},
        {"reclassified": {"a": "tubule"}, "deleted": []},
        {"reclassified": {"a": ["normal"]}, "deleted": []},
        {"reclassified": {}, "deleted": [1]},
    ],
)
def test_what_is_no_correction_is_refused(document: object) -> None:
    with pytest.raises(AnnotationError):
        parse_corrections(document)


def test_a_correction_of_an_unknown_glomerulus_is_refused(folder: Path) -> None:
    with pytest.raises(AnnotationError, match="no glomerulus has the id 'nobody'"):
        save_corrections(folder, Corrections({}, frozenset({"nobody"})))
    assert not (folder / "glomeruli_corrected.geojson").exists()


def test_a_file_of_another_program_is_refused_by_name(folder: Path) -> None:
    (folder / "glomeruli.geojson").write_text('{"type": "FeatureCollection", "features": [{"type": "Feature"}]}')
    with pytest.raises(AnnotationError, match=r"glomeruli\.geojson: is not as inference writes it"):
        save_corrections(folder, Corrections({}, frozenset()))
