"""A server on loopback that does on purpose what servers do by accident, and remembers what it was asked for."""

from __future__ import annotations

import hashlib
import json
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
    range than asked for.
    """

    files: dict[str, bytes]
    ranges: bool = True
    faults: dict[str, list[Any]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)  # path, first byte
    sent: dict[str, int] = field(default_factory=dict)  # bytes of bodies, by path
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


class Quiet(ThreadingHTTPServer):
    """A server that says nothing of a client that hung up."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Leave standard error to what is tested."""


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    """Serve `site` until the end of the block; `site.url` is its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else a small body waits 40 ms for its headers

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            answer(self, site)

    server = Quiet(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    site.url = f"http://127.0.0.1:{server.server_port}/"
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
    faults = site.faults.get(path, [])
    fault = faults.pop(0) if faults else None
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
    handler.send_response(status)
    for name, value in {**site.headers, **headers, "Content-Length": str(len(body))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    kind = fault[0] if fault else ""
    if kind == "cut":
        body = body[: fault[1]]
        handler.close_connection = True
    pieces = [body[: len(body) // 2], body[len(body) // 2 :]] if kind == "slow" else [body]
    for number, piece in enumerate(pieces):
        if number:
            time.sleep(fault[1])
        try:
            handler.wfile.write(piece)
            handler.wfile.flush()
        except OSError:  # the client has gone
            handler.close_connection = True
            return
        site.sent[path] = site.sent.get(path, 0) + len(piece)
