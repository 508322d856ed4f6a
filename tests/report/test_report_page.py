"""The page as a file: what it holds, and that nothing in it comes from elsewhere."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bundle.errors import AnnotationError
from bundle.report.page import write_report
from bundle.slide import open_slide
from tests.oracle import run_config, write_oracle
from tests.report.segmented import COUNTS

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


class Elements(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_inference_writes_the_page_when_it_is_asked_to(tmp_path: Path) -> None:
    write_oracle(tmp_path / "slide.tif", 700, 500, mpp=2.0, seed=3)
    given = {"slide": str(tmp_path / "slide.tif"), "output_dir": str(tmp_path / "out")}
    run_config("inference.yaml", given)
    assert not (tmp_path / "out" / "report.html").exists()
    run_config("inference.yaml", {**given, "report": True})
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["slide"]["sha256"] in page
    assert f'<b id="total">{summary["glomeruli"]}</b>' in page


def test_the_page_shows_counts_and_the_exact_interval(segmented: Path) -> None:
    page = (segmented / "report.html").read_text(encoding="utf-8")
    for name, count in zip(("normal", "segmental_sclerosis", "global_sclerosis"), COUNTS, strict=True):
        assert f'<td id="count-{name}">{count}</td>' in page
    assert '<span id="percent">33.3</span>' in page
    assert '<span id="interval">9.9 to 65.1 %</span>' in page  # of 4 in 12, in any table of Clopper and Pearson


def test_the_page_needs_nothing_from_elsewhere(segmented: Path) -> None:
    elements = Elements((segmented / "report.html").read_text(encoding="utf-8")).found
    links = [value for _, attributes in elements for key, value in attributes.items() if key in ("src", "href")]
    assert all(re.match(r"#|data:", link or "") for link in links)
    assert not any(key.startswith("on") or key == "style" for _, attributes in elements for key in attributes)
    (policy,) = (a["content"] for _, a in elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")


def test_the_page_is_no_larger_than_its_budget(folder: Path) -> None:
    with open_slide(folder / "slide.tif") as slide:
        small = write_report(slide, folder, budget_bytes=500_000).stat().st_size
        large = write_report(slide, folder).stat().st_size
    viewer = 450_000  # OpenSeadragon and the page's own code
    assert small <= 500_000 + viewer < large <= 15_000_000 + viewer


def test_what_a_file_says_is_text_and_never_code(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    summary["slide"]["file"] = summary["provenance"]["weights"] = HOSTILE
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    collection = json.loads((folder / "glomeruli.geojson").read_text(encoding="utf-8"))
    collection["features"][0]["id"] = HOSTILE
    (folder / "glomeruli.geojson").write_text(json.dumps(collection), encoding="utf-8")
    with open_slide(folder / "slide.tif") as slide:
        page = write_report(slide, folder, budget_bytes=0).read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert html.escape(HOSTILE, quote=False) in page.replace("&#34;", '"').replace("&#39;", "'")
    assert len([tag for tag, _ in Elements(page).found if tag == "script"]) == 3


@pytest.mark.parametrize("name", ["glomeruli.geojson", "summary.json"])
def test_a_page_without_its_inputs_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with open_slide(folder / "slide.tif") as slide, pytest.raises(AnnotationError, match=f"{name}: cannot be read"):
        write_report(slide, folder)


def test_a_slide_without_glomeruli_has_a_page(folder: Path) -> None:
    (folder / "glomeruli.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    with open_slide(folder / "slide.tif") as slide:
        page = write_report(slide, folder, budget_bytes=0).read_text(encoding="utf-8")
    assert '<span id="percent">\N{EN DASH}</span>' in page
    assert "1 quality warning</a>" in page
