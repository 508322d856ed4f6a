"""The page in a browser, used as a reader uses it: look, fly, correct, save; by mouse, by keys, on a phone."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from statsmodels.stats.proportion import proportion_confint

from bundle.data.annotations import read_annotation
from bundle.report.cases import find_cases
from bundle.report.corrections import Corrections, correct
from bundle.report.page import asset
from bundle.report.server import ReportServer
from tests.report.segmented import COUNTS, SPEC

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")

DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
TOTAL = sum(COUNTS)
widths = pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Reader:
    """A page that is looked at; whatever the console complains of fails the test at the end."""

    def __init__(self, browser, url: str, viewport: dict[str, int] = DESKTOP) -> None:
        # Without animations, so that nothing must be waited for.
        self.context = browser.new_context(viewport=viewport, reduced_motion="reduce", accept_downloads=True)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)
        self.page.wait_for_function("document.querySelector('.overlay g').getAttribute('transform')")

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.context.close()
        if kind is None:
            assert self.complaints == []

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def um_per_px(self) -> float:
        self.page.wait_for_timeout(100)
        return float(self.text("#resolution").split()[0])

    def crop(self, place: int):
        return self.page.locator(".crop").nth(place)

    def box(self, selector: str) -> dict[str, float]:
        return self.page.locator(selector).bounding_box()

    def outlines(self, name: str) -> int:
        return self.page.locator(f".overlay path[data-class={name}]:visible").count()

    def focused(self) -> str:
        return self.page.evaluate("document.activeElement.id || document.activeElement.className")


@pytest.fixture
def reader(browser, segmented: Path) -> Iterator[Reader]:
    with Reader(browser, (segmented / "report.html").as_uri()) as opened:
        yield opened


@widths
def test_it_fits_the_screen_and_asks_nothing_of_the_network(browser, segmented: Path, viewport: dict) -> None:
    with Reader(browser, (segmented / "report.html").as_uri(), viewport) as reader:
        assert reader.page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
        assert {url.partition(":")[0] for url in reader.requests} <= {"file", "data", "blob"}
        for selector in ("#viewer", "#percent", "#save", "#fill", ".crop >> nth=0", "#order"):
            box = reader.box(selector)
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= viewport["width"]


def test_the_picture_is_drawn(reader: Reader) -> None:
    reader.page.wait_for_timeout(500)
    colours = reader.page.evaluate(
        """() => {
            const canvas = document.querySelector('#viewer .openseadragon-canvas canvas');
            const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            const pixel = (_, i) => data.slice(400 * i, 400 * i + 3).join();
            return new Set(Array.from({length: data.length / 400}, pixel)).size;
        }"""
    )
    assert colours > 100


def test_zooming_by_button_key_and_wheel(reader: Reader) -> None:
    whole = reader.um_per_px()
    reader.page.click("#zoom-in")
    closer = reader.um_per_px()
    assert closer == pytest.approx(whole / 1.6, rel=0.02)
    reader.page.click("#zoom-out")
    assert reader.um_per_px() == pytest.approx(whole, rel=0.02)
    reader.page.locator("#viewer .openseadragon-canvas").first.focus()
    reader.page.keyboard.press("Equal", delay=150)
    reader.page.wait_for_timeout(300)
    assert reader.um_per_px() < whole
    reader.page.keyboard.press("0")
    assert reader.um_per_px() == pytest.approx(whole, rel=0.02)
    viewer = reader.box("#viewer")
    reader.page.mouse.move(viewer["x"] + viewer["width"] / 2, viewer["y"] + viewer["height"] / 2)
    reader.page.mouse.wheel(0, -300)
    reader.page.wait_for_timeout(300)
    assert reader.um_per_px() < whole


def test_the_scale_bar_is_as_long_as_it_says(reader: Reader) -> None:
    length, unit = reader.text("#scale-text").split()
    micrometres = float(length) * {"µm": 1, "mm": 1000}[unit]
    assert reader.box("#scale-bar")["width"] * reader.um_per_px() == pytest.approx(micrometres, rel=0.02)


def test_classes_are_hidden_and_shown(reader: Reader) -> None:
    assert [reader.outlines(n) for n in ("normal", "segmental_sclerosis", "global_sclerosis")] == list(COUNTS)
    reader.page.locator("input[name=layer][value=normal]").uncheck()
    assert [reader.outlines(n) for n in ("normal", "segmental_sclerosis")] == [0, COUNTS[1]]
    reader.page.locator("input[name=layer][value=normal]").check()
    assert reader.outlines("normal") == COUNTS[0]
    reader.page.keyboard.press("h")
    assert reader.outlines("normal") == 0


def test_the_slider_sets_the_fill(reader: Reader) -> None:
    reader.page.locator("#fill").fill("60")
    path = reader.page.locator(".overlay path[data-class=normal]").first
    assert float(path.evaluate("path => getComputedStyle(path).fillOpacity")) == pytest.approx(0.6)
    assert path.evaluate("path => getComputedStyle(path).stroke") == "rgb(0, 160, 70)"


def test_outlines_lie_where_the_glomeruli_are(reader: Reader, segmented: Path) -> None:
    viewer, scale = reader.box("#viewer"), 1 / reader.um_per_px()  # 1 µm per level-0 pixel
    left = viewer["x"] + (viewer["width"] - SPEC.size.width * scale) / 2
    top = viewer["y"] + (viewer["height"] - SPEC.size.height * scale) / 2
    for g in read_annotation(segmented / "glomeruli.geojson").glomeruli:
        box = reader.box(f'.overlay path[data-id="{g.id}"]')
        x, y = g.polygon.bounds[0] * scale + left, g.polygon.bounds[1] * scale + top
        assert (box["x"], box["y"]) == pytest.approx((x, y), abs=6)


@widths
def test_a_crop_flies_to_its_glomerulus(browser, segmented: Path, viewport: dict) -> None:
    with Reader(browser, (segmented / "report.html").as_uri(), viewport) as reader:
        for place in (0, TOTAL - 1):
            reader.crop(place).click()
            reader.page.wait_for_timeout(300)
            id = reader.crop(place).get_attribute("data-id")
            viewer, outline = reader.box("#viewer"), reader.box(f'.overlay path[data-id="{id}"]')
            for start, length in (("x", "width"), ("y", "height")):
                middle = viewer[start] + viewer[length] / 2
                assert outline[start] + outline[length] / 2 == pytest.approx(middle, abs=8)
            assert outline["width"] > 60
            # On the phone the picture comes into sight.
            assert viewer["y"] + viewer["height"] > 100
            assert viewer["y"] < viewport["height"] - 100


def test_the_gallery_is_by_class_then_by_confidence(reader: Reader, segmented: Path) -> None:
    rows = [
        (g.label, g.properties["measurements"]["Probability"], g.id)
        for g in read_annotation(segmented / "glomeruli.geojson").glomeruli
    ]
    shown = reader.page.locator(".crop").evaluate_all("crops => crops.map(c => c.dataset.id)")
    assert shown == [id for *_, id in sorted(rows)]
    reader.page.select_option("#order", "certain")
    shown = reader.page.locator(".crop").evaluate_all("crops => crops.map(c => c.dataset.id)")
    assert shown == [id for *_, id in sorted(rows, key=lambda row: (row[0], -row[1]))]


def test_a_click_in_the_slide_selects_what_lies_there(reader: Reader) -> None:
    target = reader.page.locator(".overlay path[data-class=global_sclerosis]").first
    box = target.bounding_box()
    reader.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert "selected" in target.get_attribute("class")
    assert reader.page.locator("input[name=class][value=global_sclerosis]").is_checked()


def test_corrections_change_the_figures_at_once(reader: Reader) -> None:
    reader.crop(0).click()  # a normal one
    reader.page.keyboard.press("3")
    low, high = proportion_confint(COUNTS[2] + 1, TOTAL, method="beta")
    assert reader.text("#percent") == f"{100 * (COUNTS[2] + 1) / TOTAL:.1f}"
    assert reader.text("#interval") == f"{100 * low:.1f} to {100 * high:.1f} %"
    reader.page.keyboard.press("x")
    assert reader.text("#total") == str(TOTAL - 1)
    assert reader.text("#crops-deleted").strip() != ""
    before = reader.text("#changes")
    reader.page.click("#discard")
    assert (before, reader.text("#changes")) == ("1 correction", "0 corrections")
    assert reader.text("#interval") == "9.9 to 65.1 %"


def test_the_download_is_what_the_server_would_write(reader: Reader, segmented: Path, tmp_path: Path) -> None:
    changed, deleted = (reader.crop(place).get_attribute("data-id") for place in (0, 1))
    reader.crop(0).click()
    reader.page.locator(".classes label[data-class=segmental_sclerosis]").click()
    reader.page.locator(f'.crop[data-id="{deleted}"]').click()
    reader.page.click("#delete")
    with reader.page.expect_download() as download:
        reader.page.click("#save")
    assert download.value.suggested_filename == "glomeruli_corrected.geojson"
    download.value.save_as(tmp_path / "corrected.geojson")
    original = json.loads((segmented / "glomeruli.geojson").read_text(encoding="utf-8"))
    expected = correct(original, Corrections({changed: "segmental_sclerosis"}, frozenset({deleted})))
    assert json.loads((tmp_path / "corrected.geojson").read_text(encoding="utf-8")) == expected
    assert len(read_annotation(tmp_path / "corrected.geojson").glomeruli) == TOTAL - 1


def test_everything_is_reached_by_keyboard_and_seen_to_be(reader: Reader) -> None:
    reader.crop(0).click()  # opens the editor
    reader.page.evaluate("document.activeElement.blur(); getSelection().setPosition(document.body)")
    reached: dict[str, str] = {}
    for _ in range(45):
        reader.page.keyboard.press("Tab")
        style = "getComputedStyle(document.activeElement.closest('.classes label') ?? document.activeElement)"
        reached[reader.focused()] = reader.page.evaluate(f"{style}.outlineStyle")
    wanted = {"fill", "zoom-in", "zoom-home", "delete", "previous", "next", "save", "discard", "order", "crop"}
    missing = wanted - {name.split()[0] for name in reached if name} - {"save", "discard"}  # disabled: nothing to save
    assert missing == set()
    assert any("openseadragon-canvas" in name for name in reached)
    assert {style for name, style in reached.items() if name.split(" ")[0] in wanted} == {"solid"}


def test_the_gallery_is_walked_with_arrows_and_entered(reader: Reader) -> None:
    reader.crop(0).focus()
    reader.page.keyboard.press("ArrowRight")
    reader.page.keyboard.press("ArrowRight")
    third = reader.crop(2).get_attribute("data-id")
    assert reader.page.evaluate("document.activeElement.dataset.id") == third
    reader.page.keyboard.press("Enter")
    assert reader.page.locator(".crop[aria-current]").get_attribute("data-id") == third
    reader.page.keyboard.press("n")
    assert reader.page.locator(".crop[aria-current]").get_attribute("data-id") == reader.crop(3).get_attribute(
        "data-id"
    )


def test_every_control_has_a_name(reader: Reader) -> None:
    reader.crop(0).click()
    nameless = reader.page.locator("button:visible, input:visible, select:visible").evaluate_all(
        "all => all.filter(e => !(e.getAttribute('aria-label') || e.innerText || e.labels?.[0]?.innerText)).length"
    )
    assert nameless == 0


def test_the_page_s_own_interval_is_exact(reader: Reader) -> None:
    pairs = [(0, 1), (1, 1), (0, 40), (17, 40), (40, 40), (3, 700), (350, 700)]
    script = f"(() => {{ {asset('interval.js')}; return {json.dumps(pairs)}.map(([k, n]) => percentage(k, n)); }})()"
    for (count, total), (value, low, high) in zip(pairs, reader.page.evaluate(script), strict=True):
        expected = proportion_confint(count, total, alpha=0.05, method="beta")
        assert value == pytest.approx(100 * count / total)
        assert (low, high) == pytest.approx([100 * bound for bound in expected], abs=1e-6)


@widths
def test_served_the_page_saves_beside_the_original_and_remembers(browser, folder: Path, viewport: dict) -> None:
    (folder / "report.html").unlink()  # made by the server
    original = (folder / "glomeruli.geojson").read_bytes()
    with ReportServer(find_cases(folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with Reader(browser, server.url, viewport) as reader:
                with reader.page.expect_request("**/slide_files/11/*"):  # full resolution
                    reader.crop(0).click()
                    reader.page.click("#zoom-in")
                    reader.page.click("#zoom-in")
                reader.page.keyboard.press("3")
                reader.page.keyboard.press("n")
                reader.page.keyboard.press("x")
                reader.page.click("#save")
                reader.page.get_by_text("Saved as glomeruli_corrected.geojson").wait_for()
            with Reader(browser, server.url, viewport) as reader:
                reader.page.get_by_text("Earlier corrections were loaded").wait_for()
                assert reader.text("#changes") == "2 corrections"
        finally:
            server.shutdown()
            thread.join()
    assert (folder / "glomeruli.geojson").read_bytes() == original
    assert len(read_annotation(folder / "glomeruli_corrected.geojson").glomeruli) == TOTAL - 1
