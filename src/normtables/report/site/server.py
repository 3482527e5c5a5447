"""The page served on this machine only: loopback, GET and HEAD, nothing but the page's own files."""

import re
import sys
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from normtables.errors import UserError
from normtables.report.site.gather import Site
from normtables.report.site.page import index_html, plotly_js

HOST, PORT, TRIES = "127.0.0.1", 8750, 20
NAMES = ("127.0.0.1", "localhost")  # a page of the web that makes its own name point here sends another
HISTORIES = re.compile(r"/histories/([0-9a-f]{2})\.js")
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",  # else any page of the web could load data.js as a script
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
SCRIPT, PAGE = "text/javascript; charset=utf-8", "text/html; charset=utf-8"


class Server(ThreadingHTTPServer):
    """A server of one site; its threads end with the process."""

    daemon_threads = True

    def __init__(self, site: Site, port: int) -> None:
        self.site = site
        super().__init__((HOST, port), Handler)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that went away, or the usual of anything else."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def page(self, path: str) -> tuple[str, Callable[[], str | bytes]] | None:
        """Type and content of a path, None for one that is not the page's."""
        if found := HISTORIES.fullmatch(path):
            return SCRIPT, partial(self.site.histories_js, found[1])
        files: dict[str, tuple[str, Callable[[], str | bytes]]] = {
            "/": (PAGE, index_html),
            "/index.html": (PAGE, index_html),
            "/data.js": (SCRIPT, self.site.data_js),
            "/version.js": (SCRIPT, self.site.version_js),
            "/plotly.min.js": (SCRIPT, plotly_js),
        }
        return files.get(path)


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Server
    server_version, sys_version, protocol_version = "normtables", "", "HTTP/1.1"

    def do_GET(self) -> None:
        """A file of the page."""
        self.answer(body=True)

    def do_HEAD(self) -> None:
        """The same without its content."""
        self.answer(body=False)

    def answer(self, body: bool) -> None:
        """Send a file, or say why not."""
        if self.headers.get("Host", "").partition(":")[0] not in NAMES:
            return self.refuse(HTTPStatus.FORBIDDEN, "this server answers to 127.0.0.1 and localhost only")
        found = self.server.page(urlsplit(self.path).path)
        if found is None:
            return self.refuse(HTTPStatus.NOT_FOUND, "no such page")
        kind, make = found
        try:
            made = make()
        except UserError as error:  # a table file that is being edited, for instance
            return self.refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        content = made if isinstance(made, bytes) else made.encode()
        self.begin(HTTPStatus.OK, kind, len(content))
        if body:
            self.wfile.write(content)

    def refuse(self, status: HTTPStatus, why: str) -> None:
        """Answer with a line of text."""
        content = f"{why}\n".encode()
        self.begin(status, "text/plain; charset=utf-8", len(content))
        if self.command != "HEAD":
            self.wfile.write(content)

    def begin(self, status: HTTPStatus, kind: str, length: int) -> None:
        """Send the head of an answer."""
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *words: object) -> None:
        """Nothing: the terminal belongs to whoever started the server."""


def serve(site: Site, port: int | None) -> Server:
    """A server that listens at a port, by default the first free one from PORT on; UserError where none can be had, and
    where the page would not work."""
    plotly_js()
    site.look()
    for number in (port,) if port is not None else (*range(PORT, PORT + TRIES), 0):
        try:
            return Server(site, number)
        except OSError as error:
            why = error.strerror
        except OverflowError:
            why = "a port is a number up to 65535"
    raise UserError(f"cannot serve at port {port}: {why}; choose another with --port, or leave it out for a free one")
