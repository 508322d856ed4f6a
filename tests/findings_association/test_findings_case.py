"""The findings page of a slide."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bundle.errors import ConfigError, FindingsError
from bundle.findings.case import CasePage
from bundle.findings.case_typicality import typicality
from tests.cohort import ROOT, command, finish, start

pytest.importorskip("sklearn")


def normal(rows, seed, names=("area", "round", "dark")):
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(rows, len(names))), columns=list(names))


def entities(slides=("one", "two", "three"), each=40):
    random = np.random.default_rng(0)
    n = len(slides) * each
    return pd.DataFrame(
        {
            "entity_id": [f"g{i}" for i in range(n)],
            "slide": np.repeat(slides, each),
            "patient": "p",
            "stain": "PAS",
            "class": np.where(np.arange(n) % 4 == 0, "global_sclerosis", "normal"),
            "area_um2": random.normal(20_000, 3_000, n),
            "circularity": random.normal(0.9, 0.03, n),
            "od_mean": random.normal(0.3, 0.05, n),
        }
    )


def write(folder, table, slide, **settings):
    table.to_csv(folder / "e.csv", index=False)
    return CasePage(entities=folder / "e.csv", slide=slide, output_dir=folder / "out", **settings).run()


def test_distances_of_normal_values_are_chi_distributed():
    reference, rows = normal(4000, 0), normal(2000, 1)
    found = typicality(reference, rows)
    assert found.robust
    assert stats.kstest(found.distance**2, stats.chi2(3).cdf).statistic < 0.05
    assert stats.kstest(found.percentile / 100, stats.uniform.cdf).statistic < 0.05


def test_odd_glomeruli_in_the_cohort_do_not_hide_an_odd_one():
    reference = normal(500, 0)
    reference.iloc[:100, 0] += 30  # a fifth of the cohort
    rows = pd.DataFrame([[8.0, 0, 0], [0, 0, 0]], columns=reference.columns, index=["odd", "usual"])
    found = typicality(reference, rows)
    assert list(found.distance.index) == ["usual", "odd"]
    assert found.distance["odd"] > 4
    assert [name for name, _ in found.drivers("odd", 1)] == ["area"]


def test_what_is_odd_only_together_is_seen():
    random = np.random.default_rng(5)
    size = random.normal(size=1000)
    reference = pd.DataFrame({"length": size, "width": 0.8 * size + 0.6 * random.normal(size=1000)})
    rows = pd.DataFrame({"length": [1.5, 1.5], "width": [1.5, -1.5]}, index=["large", "long and thin"])
    found = typicality(reference, rows)
    assert found.distance["long and thin"] > 2 * found.distance["large"]


def test_a_feature_that_says_nothing_new_is_left_out_with_the_reason():
    reference = normal(300, 0)
    reference["diameter"] = np.exp(reference["area"])
    reference["flat"], reference["unknown"] = 1.0, np.nan
    found = typicality(reference, reference.head(5).rename(index=str))
    assert found.left_out == {
        "diameter": "says what area says",
        "flat": "the same in most of the cohort",
        "unknown": "not measured in most of the cohort",
    }


def test_few_glomeruli_get_a_shrunk_covariance_and_too_few_an_error():
    assert not typicality(normal(12, 0), normal(3, 1).rename(index=str)).robust
    with pytest.raises(FindingsError, match="the cohort has 9 glomeruli"):
        typicality(normal(9, 0), normal(3, 1))


def test_the_odd_glomerulus_is_first_on_the_page_with_what_drives_it(tmp_path):
    table = entities()
    table.loc[7, ["area_um2", "od_mean"]] = [20_000, 0.9]
    text = write(tmp_path, table, "one").read_text()
    first = text[text.index("Most atypical") :].split('class="id">')[1]
    assert first.startswith("g7<")
    card = text[text.index("Most atypical") : text.index('class="id">')]
    assert re.findall(r'class="name">(\w+)<', card)[0] == "od_mean"
    assert "80 glomeruli of 2 other slides stained PAS" in text
    numbers = pd.read_csv(tmp_path / "out" / "findings.csv", index_col="entity_id")
    assert len(numbers) == 40
    assert numbers["distance"].idxmax() == "g7"
    median = table[table["slide"] != "one"]["od_mean"].median()
    spread = (table[table["slide"] != "one"]["od_mean"] - median).abs().median() * 1.4826
    assert numbers.loc["g7", "z_od_mean"] == pytest.approx((0.9 - median) / spread)


def test_the_page_stands_alone_and_escapes_names(tmp_path):
    name = "<script>alert(1)</script>"
    text = write(tmp_path, entities((name, "two")), name).read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert set(re.findall(r'(?:src|href)="(.{5})', text)) == {"data:"}


def test_the_same_table_gives_the_same_page(tmp_path):
    first = write(tmp_path, entities(), "one").read_bytes()
    assert write(tmp_path, entities(), "one").read_bytes() == first


def test_only_slides_of_the_stain_are_compared_with_unless_all_are_asked_for(tmp_path):
    table = entities()
    table.loc[table["slide"] == "three", "stain"] = "HE"
    assert "40 glomeruli of 1 other slides" in write(tmp_path, table, "one").read_text()
    assert "80 glomeruli of 2 other slides" in write(tmp_path, table, "one", same_stain=False).read_text()


def test_a_slide_alone_is_compared_with_itself(tmp_path):
    assert "this slide itself, as there is no other" in write(tmp_path, entities(("one",)), "one").read_text()


def test_crops_are_shown_where_there_is_a_store(tmp_path, monkeypatch):
    class Store:
        table = pd.DataFrame({"entity_id": [f"g{i}" for i in range(120)], "row": range(120)})
        has_crops = True

        @classmethod
        def open(cls, folder):
            return cls()

        def read(self, row):
            image, mask = np.full((64, 64, 3), 200, np.uint8), np.zeros((64, 64), np.uint8)
            mask[16:48, 16:48] = 1
            return image, mask

    monkeypatch.setattr("bundle.findings.store.CropStore", Store)
    text = write(tmp_path, entities(), "one", crops=tmp_path, shown=3).read_text()
    assert text.count("data:image/jpeg") == 6
    assert "no crop" not in text


@pytest.mark.parametrize(
    ("slide", "columns", "message"),
    [
        ("onne", [], "no glomerulus of slide 'onne'; there is 'one'"),
        ("one", ["class"], "has no column 'class'"),
    ],
)
def test_what_the_page_needs_is_named(tmp_path, slide, columns, message):
    with pytest.raises(FindingsError, match=message):
        write(tmp_path, entities().drop(columns=columns), slide)


def test_slide_and_table_must_be_named(tmp_path):
    with pytest.raises(ConfigError, match="give --entities"):
        CasePage(entities="e.csv", slide=None, output_dir=tmp_path)


def test_the_command_writes_the_page(tmp_path):
    entities().to_csv(tmp_path / "e.csv", index=False)
    config = ROOT / "configs" / "case.yaml"
    code, _, errors = finish(start(command(config, entities=tmp_path / "e.csv", slide="two", output_dir=tmp_path)))
    assert code == 0, errors
    assert "<h1>two</h1>" in (tmp_path / "findings.html").read_text()
