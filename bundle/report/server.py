"""Serve reports on this machine: pages, Deep Zoom tiles of full resolution, corrections saved beside the original.

Only names that were listed at the start are served, so no path of a request reaches the file system. The server
listens on the loopback interface, answers only to its own name (a page elsewhere could point its name here, DNS
rebinding), and takes corrections only from its own pages (cross-site requests).
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from markupsafe import escape

from bundle.errors import BundleError
from bundle.report.cases import Case
from bundle.report.corrections import parse_corrections, save_corrections
from bundle.report.files import CORRECTED, GLOMERULI, REPORT, SUMMARY

FILES = {
    GLOMERULI: "application/geo+json",
    CORRECTED: "application/geo+json",
    SUMMARY: "application/json",
    "overlay.png": "image/png",
}
"""Outputs that may be fetched, and their types."""

MAX_BODY_BYTES = 5_000_000
HTML, JSON, JPEG = "text/html; charset=utf-8", "application/json", "image/jpeg"


class RequestError(Exception):
    """A request that is refused: HTTP status and one line."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class ReportServer(ThreadingHTTPServer):
    """Serves `cases` by name on 127.0.0.1 at `port`; 0 takes a free one. Raises OSError where it is taken."""

    daemon_threads = True

    def __init__(self, cases: Mapping[str, Case], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.cases = dict(cases)

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self.server_port}/"

    def is_own(self, host: str | None) -> bool:
        """Whether a Host header, or what follows http:// in an Origin, is this server's."""
        return host in (f"127.0.0.1:{self.server_port}", f"localhost:{self.server_port}")


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, method: Any) -> None:
        try:
            if not self.server.is_own(self.headers.get("Host")):
                raise RequestError(HTTPStatus.FORBIDDEN, "this server answers to 127.0.0.1 and localhost only")
            # Split before unquoting: an encoded slash stays part of a name.
            method([unquote(part) for part in urlsplit(self.path).path.split("/")[1:]])
        except RequestError as error:
            # What was not read of a body would be taken for the next request.
            self.close_connection = True
            self._send(json.dumps({"error": str(error)}).encode(), JSON, error.status)
        except BundleError as error:
            self._send(json.dumps({"error": str(error)}).encode(), JSON, HTTPStatus.UNPROCESSABLE_ENTITY)
        except ConnectionError:
            self.close_connection = True  # the browser went away

    def _get(self, parts: list[str]) -> None:
        match parts:
            case [""]:
                self._index()
            case ["slides", name, file] if file == REPORT:
                self._send(self._case(name).page(_base(name)), HTML)
            case ["slides", name, "slide.dzi"]:
                self._send(self._case(name).zoom().descriptor().encode(), "application/xml")
            case ["slides", name, "slide_files", level, tile]:
                self._tile(self._case(name), level, tile)
            case ["slides", name, file] if file in FILES:
                self._send(self._case(name).read(file), FILES[file])
            case _:
                raise RequestError(HTTPStatus.NOT_FOUND, "no such page")

    def _post(self, parts: list[str]) -> None:
        match parts:
            case ["slides", name, "corrections"]:
                case = self._case(name)
            case _:
                raise RequestError(HTTPStatus.NOT_FOUND, "no such page")
        corrections = parse_corrections(self._body())
        with case.lock:
            path = save_corrections(case.folder, corrections)
        self._send(json.dumps({"saved": path.name}).encode(), JSON)

    def _body(self) -> Any:
        """The JSON that one of our own pages sent."""
        origin = self.headers.get("Origin", "")
        if not (origin.startswith("http://") and self.server.is_own(origin.removeprefix("http://"))):
            raise RequestError(HTTPStatus.FORBIDDEN, "corrections are taken from this server's own pages only")
        # A form of another site cannot send this type without being asked about it first.
        if self.headers.get_content_type() != JSON:
            raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "corrections must be application/json")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"corrections are at most {MAX_BODY_BYTES} bytes")
        try:
            return json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"corrections are no JSON ({error})") from error

    def _case(self, name: str) -> Case:
        if name not in self.server.cases:
            raise RequestError(HTTPStatus.NOT_FOUND, "no such slide")
        return self.server.cases[name]

    def _index(self) -> None:
        names = list(self.server.cases)
        if len(names) == 1:
            self._send(b"", HTML, HTTPStatus.FOUND, Location=f"{_base(names[0])}{REPORT}")
            return
        rows = "".join(f'<li><a href="{_base(name)}{REPORT}">{escape(name)}</a></li>' for name in names)
        page = (
            f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Slides</title><h1>Slides</h1><ul>{rows}</ul>'
        )
        self._send(page.encode(), HTML)

    def _tile(self, case: Case, level: str, tile: str) -> None:
        name, _, suffix = tile.partition(".")
        numbers = [level, *name.split("_")]
        if suffix != "jpeg" or len(numbers) != 3 or not all(n.isascii() and n.isdecimal() for n in numbers):
            raise RequestError(HTTPStatus.NOT_FOUND, "no such tile")
        picture = case.tile(*map(int, numbers))
        if picture is None:
            raise RequestError(HTTPStatus.NOT_FOUND, "no such tile")
        self._send(picture, JPEG)

    def _send(self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> None:
        self.send_response(status)
        fixed = {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Cache-Control": "private, max-age=3600" if kind == JPEG else "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
        }
        for key, value in {**fixed, **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line a tile tells nobody anything."""


def _base(name: str) -> str:
    return f"/slides/{quote(name, safe='')}/"
