"""scripts/view.py spoken to over HTTP, by friend and foe."""

import http.client
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from bundle.data.annotations import Annotation
from bundle.errors import AnnotationError, ConfigError
from bundle.geometry import Rect, Size
from bundle.outputs import SaveSummaryd
from bundle.phantom import PhantomSpec
from bundle.report.cases import find_cases
from bundle.report.server import ReportServer
from bundle.slide import open_slide
from tests.oracle import ROOT
from tests.report.segmented import write_segmented

NONE = {"reclassified": {}, "deleted": []}


@contextmanager
def serving(folder: Path, *slides: Path) -> Iterator[ReportServer]:
    with ReportServer(find_cases(folder, slides)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def out(segmented: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two slides' outputs."""
    folder = tmp_path_factory.mktemp("server") / "out"
    for name in ("first", "a b_.._c"):
        shutil.copytree(segmented, folder / name)
    (folder.parent / "secret.txt").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def server(out: Path) -> Iterator[ReportServer]:
    with serving(out) as running:
        yield running


def send(
    server: ReportServer, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """The path as it is: urllib would tidy it."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    try:
        connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def base(name: str = "out/first") -> str:
    return f"/slides/{quote(name, safe='')}"


def post(server: ReportServer, document: object, **headers: str) -> tuple[int, dict]:
    own = {"Origin": f"http://127.0.0.1:{server.server_port}", "Content-Type": "application/json"}
    body = json.dumps(document).encode()
    status, _, content = send(server, "POST", f"{base()}/corrections", body, **{**own, **headers})
    return status, json.loads(content)


def test_the_list_leads_to_every_report(server: ReportServer) -> None:
    page = urlopen(server.url).read().decode()
    for name in ("out/first", "out/a b_.._c"):
        assert f'href="{base(name)}/report.html"' in page
        assert urlopen(f"{server.url}{base(name)[1:]}/report.html").status == 200


def test_a_report_learns_where_tiles_and_corrections_are(server: ReportServer) -> None:
    page = urlopen(f"{server.url}{base()[1:]}/report.html").read().decode()
    assert '<meta name="viewer-server" content="">' not in page
    assert f"{base()}/slide_files" in page


def test_tiles_show_the_slide_at_full_resolution(server: ReportServer, out: Path) -> None:
    status, headers, content = send(server, "GET", f"{base()}/slide_files/11/1_1.jpeg")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    (out.parent / "tile.jpeg").write_bytes(content)
    shown = np.asarray(Image.open(out.parent / "tile.jpeg")).astype(int)
    with open_slide(out / "first" / "slide.tif") as slide:
        expected = slide.read(0, 509, 509, 512, 512).astype(int)
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).mean() < 6


@pytest.mark.parametrize("tile", ["12/0_0.jpeg", "11/9_0.jpeg", "11/0_0.png", "11/0.jpeg", "-1/0_0.jpeg", "x/0_0.jpeg"])
def test_there_are_no_other_tiles(server: ReportServer, tile: str) -> None:
    assert send(server, "GET", f"{base()}/slide_files/{tile}")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/slides/../../secret.txt",
        "/slides/..%2f..%2fsecret.txt/report.html",
        f"{base()}/../../../secret.txt",
        f"{base()}/..%2f..%2fsecret.txt",
        f"{base()}/%2e%2e/%2e%2e/secret.txt",
        f"{base()}/slide.tif",
        f"{base()}/slide_files/11/..%2f..%2f..%2fsecret.txt",
        f"{base()}/%00",
        "//etc/passwd",
        "/etc/passwd",
    ],
)
def test_no_path_leads_out(server: ReportServer, path: str) -> None:
    status, _, content = send(server, "GET", path)
    assert status == 404
    assert b"secret" not in content


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1.evil.example:{port}", ""])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_host_s_name_is_refused(server: ReportServer, host: str, method: str) -> None:
    assert send(server, method, "/", Host=host.format(port=server.server_port))[0] == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Length": "99999999"}, 413),
    ],
)
def test_corrections_of_another_site_are_refused(
    server: ReportServer, out: Path, headers: dict[str, str], status: int
) -> None:
    assert post(server, NONE, **headers)[0] == status
    assert not (out / "first" / "glomeruli_corrected.geojson").exists()


def test_corrections_that_make_no_sense_are_refused_in_one_line(server: ReportServer, out: Path) -> None:
    assert post(server, {"deleted": ["nobody"], "reclassified": {}}) == (
        422,
        {"error": "no glomerulus has the id 'nobody'; make the report again"},
    )
    own = {"Origin": f"http://127.0.0.1:{server.server_port}", "Content-Type": "application/json"}
    assert send(server, "POST", f"{base()}/corrections", b"{", **own)[0] == 400
    assert not (out / "first" / "glomeruli_corrected.geojson").exists()


def test_corrections_are_saved_beside_the_original(segmented: Path, tmp_path: Path) -> None:
    shutil.copytree(segmented, tmp_path / "out" / "first")
    original = (tmp_path / "out" / "first" / "glomeruli.geojson").read_bytes()
    id = json.loads(original)["features"][0]["id"]
    with serving(tmp_path / "out") as server:
        assert post(server, {"deleted": [id], "reclassified": {}}) == (200, {"saved": "glomeruli_corrected.geojson"})
        saved = json.loads(urlopen(f"{server.url}{base()[1:]}/glomeruli_corrected.geojson").read())
    assert len(saved["features"]) == len(json.loads(original)["features"]) - 1
    assert (tmp_path / "out" / "first" / "glomeruli.geojson").read_bytes() == original


def test_a_missing_report_is_made_when_it_is_asked_for(folder: Path) -> None:
    (folder / "report.html").unlink()
    with serving(folder) as server:
        page = urlopen(server.url).read()  # one slide: the list leads straight to it
    assert b"slide.tif" in page
    assert (folder / "report.html").is_file()


def test_a_region_s_tiles_start_at_the_region(tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    path = write_segmented(slides, spec=PhantomSpec(Size(600, 500), mpp=2.0, counts=(1, 0, 0)))
    out = tmp_path / "out"
    out.mkdir()
    (slides / "glomeruli.geojson").rename(out / "glomeruli.geojson")
    with open_slide(path, region=Rect(100, 50, 400, 300)) as region:
        SaveSummaryd("glomeruli", out)({"image": region, "glomeruli": Annotation(())})
        expected = region.read(0, 0, 0, 400, 300)
    (case,) = find_cases(out, [slides]).values()
    assert case.slide.size == Size(400, 300)
    np.testing.assert_array_equal(case.slide.read(0, 0, 0, 400, 300), expected)
    case.slide.close()


def test_a_folder_without_outputs_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no glomeruli\.geojson"):
        find_cases(tmp_path)


def test_the_command_prints_its_address_and_serves(out: Path) -> None:
    line = [sys.executable, str(ROOT / "scripts" / "view.py"), str(out), "--port", "0"]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:")
            assert urlopen(url).status == 200
        finally:
            process.terminate()


def test_the_command_starts_without_torch_and_tells_a_mistake_in_one_line(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['view.py', 'nowhere']; sys.path.insert(0, 'scripts'); import view; "
        "status = view.main(); print(status, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["1", "False"]
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("summary", [{}, {"slide": "a.tif"}, {"slide": {"file": "a.tif", "mpp": 1.0}}])
def test_a_summary_that_does_not_say_what_was_segmented_is_named(segmented, tmp_path, summary):
    shutil.copytree(segmented, tmp_path / "out")
    (tmp_path / "out" / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(AnnotationError, match=r"summary\.json: its 'slide' does not have file, height_px, mpp"):
        find_cases(tmp_path / "out")["out"].slide  # noqa: B018  # opened when it is asked for
