"""Which slides a folder, a datalist or a table means, and under which names."""

import json
from pathlib import Path

import pytest

from bundle.cohort.slides import list_slides
from bundle.errors import CohortError, DatalistError, SlideReadError


def names(path: Path) -> list[str]:
    return [slide.name for slide in list_slides(path)]


def test_a_folder_means_its_slides(tmp_path):
    for name in ("a.svs", "b.tif", "notes.txt"):
        (tmp_path / name).touch()
    assert [(s.name, s.image) for s in list_slides(tmp_path)] == [("a", tmp_path / "a.svs"), ("b", tmp_path / "b.tif")]


def test_a_table_means_its_rows_relative_to_its_folder(tmp_path):
    (tmp_path / "list.csv").write_text("slide,mpp,name\nsub/a.svs,0.25,first\n/far/b.svs,,\n")
    first, second = list_slides(tmp_path / "list.csv", mpp=0.5)
    assert (first.name, first.image, first.mpp) == ("first", tmp_path / "sub" / "a.svs", 0.25)
    assert (second.name, second.image, second.mpp) == ("b", Path("/far/b.svs"), 0.5)


def test_a_datalist_means_all_its_splits_and_its_ids_are_names(tmp_path):
    item = {"patient": "p", "stain": "PAS"}
    content = {
        "training": [{**item, "image": "a.svs", "slide": "A17", "mpp": 0.3}],
        "test": [{**item, "image": "b.svs", "region": [0, 0, 9, 9]}],
    }
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    first, second = list_slides(tmp_path / "datalist.json")
    assert (first.name, first.mpp, first.region) == ("A17", 0.3, None)
    assert (second.name, second.region) == ("b", (0, 0, 9, 9))


def test_a_datalist_as_table_has_its_images_in_the_column_image(tmp_path):
    (tmp_path / "datalist.csv").write_text("split,image,slide,patient,stain\ntest,a.svs,A17,p,PAS\n")
    (slide,) = list_slides(tmp_path / "datalist.csv")
    assert (slide.name, slide.image) == ("A17", tmp_path / "a.svs")


def test_one_slide_is_a_cohort_too(tmp_path):
    (tmp_path / "a.svs").touch()
    assert names(tmp_path / "a.svs") == ["a"]


def test_slides_of_one_stem_are_told_apart_by_their_suffix(tmp_path):
    (tmp_path / "list.csv").write_text("slide\na.svs\na.tif\nb.svs\n")
    assert names(tmp_path / "list.csv") == ["a.svs", "a.tif", "b"]


def test_a_slide_called_as_the_runner_s_own_files_gets_another_name(tmp_path):
    (tmp_path / "list.csv").write_text("slide\nfailed.svs\nsummary.csv.tif\n")
    assert names(tmp_path / "list.csv") == ["failed.svs", "summary.csv.tif"]


@pytest.mark.parametrize(
    ("text", "error", "pattern"),
    [
        ("slide\nx/a.svs\ny/a.svs\n", CohortError, r"list\.csv: 2 slides are called 'a\.svs'; .* column `name`"),
        ("slide,name\na.svs,b\nc.svs,b\n", CohortError, "2 slides are called 'b'"),
        ("slide,name\na.svs,../b\n", CohortError, r"'\.\./b' cannot be the name of a folder"),
        ("slide,name\na.svs,failed\n", CohortError, "'failed' cannot be the name of a folder"),
        ("slide,name\na.svs,.cohort\n", CohortError, r"'\.cohort' cannot be the name"),
        ("file\na.svs\n", CohortError, "slide 1: has no image"),
        ("slide,mpp\na.svs,fine\n", DatalistError, "line 2: mpp is 'fine'"),
        ("slide,mpp\na.svs,true\n", CohortError, "mpp True is no number"),
        ('slide,region\na.svs,"[1, 2]"\n', CohortError, r"region \[1, 2\] is not"),
        ("slide\n", CohortError, "lists no slide"),
    ],
)
def test_a_table_that_cannot_be_meant_is_one_line(tmp_path, text, error, pattern):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(error, match=pattern) as caught:
        list_slides(tmp_path / "list.csv")
    assert "\n" not in str(caught.value)


def test_no_path_and_a_path_to_nothing_are_named(tmp_path):
    with pytest.raises(CohortError, match="--slides"):
        list_slides(None)
    with pytest.raises(SlideReadError, match=r"absent\.svs: no such slide"):
        list_slides(tmp_path / "absent.svs")
    with pytest.raises(DatalistError, match=r"absent\.csv"):
        list_slides(tmp_path / "absent.csv")
