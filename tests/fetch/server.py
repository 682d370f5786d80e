"""A server on loopback that does on purpose what servers do by accident, and remembers what it was asked for."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


@dataclass
class Site:
    """Files by path; what goes wrong with them, by path, a fault per request until there is none left.

    Faults: an int is a status; ("cut", n) ends the connection n bytes into the body; ("corrupt",) changes a byte; ("slow", s)
    waits s seconds after the first half; ("page",) sends a login page; ("moved", address) redirects; ("shift",) sends another
    range than asked for; ("status", n, headers) answers so; ("trickle", bytes, s) sends so many bytes at a time and waits s
    between; ("slow head", s) sends the head of its answer a byte each s seconds; ("length", n) states n bytes more than it
    sends, or fewer; ("no length",) closes the connection instead of stating one; ("chunked",) sends chunks.

    With `login`, a user and a password, whoever does not send them as HTTP's basic scheme is answered as `refused` says, a
    fault of the forms above.
    """

    files: dict[str, bytes]
    ranges: bool = True
    faults: dict[str, list[Any]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)  # path, first byte
    sent: dict[str, int] = field(default_factory=dict)  # bytes of bodies, by path
    logins: list[tuple[str, str]] = field(default_factory=list)  # path, what was sent as a login
    login: tuple[str, str] | None = None
    refused: Any = 401
    url: str = ""

    def requests_of(self, path: str) -> list[int]:
        """Return the first bytes that were asked for of a path, in order."""
        return [start for name, start in self.asked if name == path]


def with_sums(files: Mapping[str, bytes], extra: str = "", *, under: str = "") -> dict[str, bytes]:
    """Return the files with the list of their digests, as PhysioNet writes it."""
    lines = [f"{hashlib.sha256(content).hexdigest()} {name}\n" for name, content in files.items()]
    return {f"{under}{name}": content for name, content in files.items()} | {
        f"{under}SHA256SUMS.txt": ("".join(lines) + extra).encode()
    }


def with_record(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files where Zenodo's API has them, with the record that lists them."""
    listed = [
        {"key": name, "size": len(content), "checksum": f"md5:{hashlib.md5(content).hexdigest()}"}
        for name, content in files.items()
    ]
    return {f"files/{name}/content": content for name, content in files.items()} | {
        "": json.dumps({"id": 1, "files": listed}).encode()
    }


def with_article(files: Mapping[str, bytes], url: str = "", number: int = 7) -> dict[str, bytes]:
    """Return the files where figshare has them, at addresses of their own below `url`, with the article that lists them."""
    listed = [
        {
            "id": number * 1000 + place,
            "name": name,
            "size": len(body),
            "is_link_only": False,
            "download_url": f"{url}files/{number * 1000 + place}",
            "supplied_md5": "",
            "computed_md5": hashlib.md5(body).hexdigest(),
        }
        for place, (name, body) in enumerate(files.items())
    ]
    bodies = {f"files/{number * 1000 + place}": body for place, body in enumerate(files.values())}
    return bodies | {f"v2/articles/{number}": json.dumps({"id": number, "title": "a set", "files": listed}).encode()}


class Dripping:
    """A file that writes a byte at a time."""

    def __init__(self, file: Any, pause_s: float) -> None:
        self.file, self.pause_s = file, pause_s

    def write(self, content: bytes) -> None:
        for place in range(len(content)):
            self.file.write(content[place : place + 1])
            self.file.flush()
            time.sleep(self.pause_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class Quiet(ThreadingHTTPServer):
    """A server that says nothing of a client that hung up."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Leave standard error to what is tested."""


@contextmanager
def serve(site: Site, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Site]:
    """Serve `site` until the end of the block, over TLS where a context is given; `site.url` is its address at `host`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else a small body waits 40 ms for its headers

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            answer(self, site)

    server = Quiet(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    site.url = f"{'http' if tls is None else 'https'}://{host}:{server.server_port}/"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    """Answer one request as the site has it."""
    path = unquote(handler.path).removeprefix("/")
    asked = handler.headers.get("Range")
    start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
    site.asked.append((path, start))
    site.logins.append((path, handler.headers.get("Authorization", "")))
    faults = site.faults.get(path, [])
    fault = faults.pop(0) if faults else None
    if site.login and site.logins[-1][1] != f"Basic {base64.b64encode(':'.join(site.login).encode()).decode()}":
        fault = site.refused
    if isinstance(fault, int) or path not in site.files:
        _send(handler, site, fault if isinstance(fault, int) else 404, b"no", {})
        return
    kind = fault[0] if fault else ""
    content = site.files[path]
    if kind == "page":
        _send(handler, site, 200, b"<html>log in</html>", {"Content-Type": "text/html"})
        return
    if kind == "moved":
        _send(handler, site, 302, b"", {"Location": fault[1]})
        return
    if kind == "status":
        _send(handler, site, fault[1], b"no", fault[2])
        return
    if kind == "corrupt":
        content = content[:-1] + bytes([content[-1] ^ 1])
    if asked and site.ranges and start >= len(content):
        _send(handler, site, 416, b"", {"Content-Range": f"bytes */{len(content)}"})
        return
    partly = asked is not None and site.ranges
    told = start + 1 if kind == "shift" else start
    extra = {"Content-Range": f"bytes {told}-{len(content) - 1}/{len(content)}"} if partly else {}
    _send(handler, site, 206 if partly else 200, content[start:] if partly else content, extra, fault, path)


def _send(
    handler: BaseHTTPRequestHandler,
    site: Site,
    status: int,
    body: bytes,
    headers: dict[str, str],
    fault: Any = None,
    path: str = "",
) -> None:
    kind = fault[0] if isinstance(fault, tuple) else ""
    length = {"Content-Length": str(len(body) + (fault[1] if kind == "length" else 0))}
    framing = {"no length": {"Connection": "close"}, "chunked": {"Transfer-Encoding": "chunked"}}.get(kind, length)
    if kind == "slow head":
        handler.wfile = Dripping(handler.wfile, fault[1])  # type: ignore[assignment]
    (handler.send_response_only if "Date" in headers else handler.send_response)(status)
    for name, value in {**site.headers, **headers, **framing}.items():
        handler.send_header(name, value)
    try:
        handler.end_headers()
    except OSError:  # the client has gone
        handler.close_connection = True
        return
    handler.close_connection = handler.close_connection or kind in ("cut", "length", "no length")
    if kind == "cut":
        body = body[: fault[1]]
    pieces = [body[: len(body) // 2], body[len(body) // 2 :]] if kind == "slow" else [body]
    if kind == "trickle":
        pieces = [body[place : place + fault[1]] for place in range(0, len(body), fault[1])]
    if kind == "chunked":
        half = len(body) // 2
        pieces = [b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part] + [b"0\r\n\r\n"]
    for number, piece in enumerate(pieces):
        if number and kind in ("slow", "trickle"):
            time.sleep(fault[-1])
        try:
            handler.wfile.write(piece)
            handler.wfile.flush()
        except OSError:  # the client has gone
            handler.close_connection = True
            return
        site.sent[path] = site.sent.get(path, 0) + len(piece)
