"""The Groovy scripts: compiled by Groovy, and the one that asks the MONAI Label server run against a server.

QuPath cannot be installed from a package registry, so its classes are stood in for by `stubs/`.
"""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from bundle.classes import GLOMERULUS_CLASSES

HERE = Path(__file__).parent
SCRIPTS = HERE.parents[1] / "scripts" / "qupath"
ASAP = """<?xml version="1.0"?>
<ASAP_Annotations><Annotations Name="a" Description="" Model="glomeruli" X="100" Y="200" W="51" H="600">
<Annotation Name="normal" Type="Polygon" PartOfGroup="normal" Color="#00a046"><Coordinates>
<Coordinate Order="0" X="110.25" Y="210" /><Coordinate Order="1" X="140" Y="210.5" />
<Coordinate Order="2" X="120" Y="250" /></Coordinates></Annotation>
<Annotation Name="global_sclerosis" Type="Polygon" PartOfGroup="global_sclerosis" Color="#c81e3c"><Coordinates>
<Coordinate Order="0" X="1" Y="2" /><Coordinate Order="1" X="3" Y="4" /></Coordinates></Annotation>
</Annotations><AnnotationGroups><Group Name="normal" PartOfGroup="None" Color="#00a046"><Attributes /></Group>
</AnnotationGroups></ASAP_Annotations>"""
"""As MONAI Label writes it; two points make no polygon."""


@dataclass
class Server:
    """A MONAI Label server of one answer, and what it was asked: path, query, body."""

    asked: list[tuple[str, dict[str, list[str]], dict]] = field(default_factory=list)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                url = urlsplit(self.path)
                asked.append((unquote(url.path), parse_qs(url.query), body))
                answer = ASAP if url.path.startswith("/infer") else '{"detail": "no such model"}'
                self.send_response(200 if url.path.startswith("/infer") else 404)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer.encode())

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        return Handler


@pytest.fixture(scope="module")
def outcome() -> Iterator[tuple[dict, Server]]:
    """What driver.groovy prints, and the server that it asked."""
    if shutil.which("groovy") is None or shutil.which("java") is None:
        pytest.skip("groovy is not installed")
    server = Server()
    served = ThreadingHTTPServer(("127.0.0.1", 0), server.handler())
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{served.server_port}"
        yield run_driver(address), server
    finally:
        served.shutdown()
        thread.join()
        served.server_close()


def run_driver(address: str) -> dict:
    # Debian's groovy looks for a default JVM that need not be there.
    java = Path(shutil.which("java") or "").resolve().parents[1]
    line = ["groovy", "-cp", str(HERE / "stubs"), str(HERE / "driver.groovy"), str(SCRIPTS), address]
    environment = {**os.environ, "JAVA_HOME": str(java), "JAVA_OPTS": "-Xshare:auto -XX:TieredStopAtLevel=1"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=300)
    results = [text for text in done.stdout.splitlines() if text.startswith("RESULT ")]
    assert results, done.stdout + done.stderr
    return json.loads(results[0].removeprefix("RESULT "))


def test_every_script_compiles(outcome: tuple[dict, Server]) -> None:
    assert outcome[0]["compiled"] == sorted(path.name for path in SCRIPTS.iterdir())


def test_a_selection_asks_for_its_part_of_the_slide(outcome: tuple[dict, Server]) -> None:
    path, query, body = outcome[1].asked[0]
    assert path == "/infer/wsi/glomeruli"
    assert query == {"image": ["slide one"], "output": ["asap"]}
    assert body == {"level": 0, "location": [100, 200], "size": [51, 600]}


def test_without_a_selection_the_whole_slide_is_asked_for(outcome: tuple[dict, Server]) -> None:
    assert outcome[1].asked[1][2] == {"level": 0, "location": [0, 0], "size": [0, 0]}


def test_polygons_come_back_at_their_place_in_their_class_and_colour(outcome: tuple[dict, Server]) -> None:
    made = outcome[0]["selection"]["annotations"][-1]
    assert (made["x"], made["y"]) == ([110.25, 140, 120], [210, 210.5, 250])
    assert (made["name"], made["color"] & 0xFFFFFF) == ("normal", 0x00A046)


def test_glomeruli_in_the_selection_are_replaced_and_nothing_else(outcome: tuple[dict, Server]) -> None:
    def names_and_places(case: str) -> list[tuple[str | None, float]]:
        return [(a["name"], a["x"][0]) for a in outcome[0][case]["annotations"]]

    kept = [("Artery", 120), (None, 120)]
    assert names_and_places("selection") == [("normal", 900), *kept, ("normal", 110.25)]
    assert names_and_places("whole") == [*kept, ("normal", 110.25)]


def test_a_server_that_refuses_or_is_absent_is_told_with_its_answer(outcome: tuple[dict, Server]) -> None:
    assert "status 404" in outcome[0]["refused"]["error"]
    assert "no such model" in outcome[0]["refused"]["error"]
    assert "start the MONAI Label server" in outcome[0]["absent"]["error"]
    assert "outside of the image" in outcome[0]["outside"]["error"]


def test_the_classes_of_the_scripts_are_the_bundle_s() -> None:
    importing = (SCRIPTS / "import_glomeruli.groovy").read_text(encoding="utf-8")
    found = re.findall(r"(\w+) *: makeRGB\((\d+), (\d+), (\d+)\)", importing)
    colours = {name: tuple(map(int, rgb)) for name, *rgb in found}
    assert colours == {c.name: c.rgb for c in GLOMERULUS_CLASSES}
    segmenting = (SCRIPTS / "segment_selection.groovy").read_text(encoding="utf-8")
    assert all(f'"{c.name}"' in segmenting for c in GLOMERULUS_CLASSES)
