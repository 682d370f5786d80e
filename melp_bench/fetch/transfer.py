"""One file from a server, whole or not at all: what was cut off goes on where it ended, what is corrupt is fetched again."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Event
from typing import Any

import requests
import urllib3.exceptions

from melp_bench.errors import UserError
from melp_bench.fetch.connection import login_advice, place, without_secrets
from melp_bench.home import commit, unwritable

Tell = Callable[[int, int], None]
"""Called with (bytes of the file that are there, bytes that just came)."""

_CHUNK = 1 << 18
_TRANSIENT = (408, 425, 429)  # and 5xx: the server asks to come again
_LONGEST_S = 120.0  # of what a server asks to wait


@dataclass(frozen=True)
class Patience:
    """How long a server is borne with; `tries` counts those that brought no new byte."""

    tries: int = 6
    corrupt: int = 3
    wait_s: float = 1.0  # before the second try, then twice as long each time
    longest_wait_s: float = 30.0
    connect_s: float = 15.0
    silence_s: float = 60.0
    slowest: float = 100.0  # bytes per second, over as long as a silence may last; less is no transfer


class TransferProblem(Exception):
    """A file that cannot be had now; the others may be."""


class Stopped(Exception):
    """The fetch is to end; what was fetched is kept."""


class _Again(Exception):
    """A try that failed and may not the next time; `lost` if the server could not be reached at all, `slow` if it trickled."""

    def __init__(self, reason: str, *, lost: bool = False, slow: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.lost, self.slow, self.wait_s = lost, slow, wait_s


def bring(
    session: requests.Session,
    url: str,
    part: Path,
    target: Path,
    *,
    fault: Callable[[Path], str],
    patience: Patience,
    stop: Event,
    tell: Tell,
) -> None:
    """Fetch `url` to `target` by way of `part`, the beginning that an earlier process may have left.

    `fault` says what is wrong with a file that came to its end, "" for nothing.

    Raises:
        TransferProblem: the server has no such file, sends a web page for it, or it does not come whole and right.
        UserError: the server cannot be reached at all, or the file cannot be written.
        Stopped: `stop` was set.
    """
    fruitless = corrupt = furthest = 0
    while True:
        try:
            received = _receive(session, url, part, patience, stop, tell)
        except _Again as again:
            reached = _size(part)
            fruitless = 0 if reached > furthest and not again.slow else fruitless + 1
            furthest = max(furthest, reached)
            if fruitless >= patience.tries:
                if again.lost:
                    raise UserError(f"{place(url)} cannot be reached: {again}; the same command goes on") from again
                told = "each slower than can be waited for" if again.slow else "without a new byte"
                raise TransferProblem(f"{again}, {patience.tries} times {told}") from again
            wait_s = min(patience.wait_s * 2**fruitless, patience.longest_wait_s)
            if stop.wait(max(wait_s, again.wait_s)):
                raise Stopped from None
            continue
        if received != part:
            _put_page(received, part, target, fault, url)
            return
        faults = fault(part)
        if not faults:
            _put(part, target)
            return
        part.unlink()
        corrupt, furthest = corrupt + 1, 0
        if corrupt >= patience.corrupt:
            raise TransferProblem(f"{faults}, fetched {corrupt} times")


def differs(path: Path, algorithm: str, digest: str) -> str:
    """Return how the content of a file differs from its digest, "" if it does not."""
    try:
        with path.open("rb") as file:
            # MD5 is all that some sources state; it tells a broken file from a whole one
            found = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    return "" if found == digest else f"its {algorithm.upper()} is {found[:12]}..., the source's list says {digest[:12]}..."


def _receive(session: requests.Session, url: str, part: Path, patience: Patience, stop: Event, tell: Tell) -> Path:
    """Bring `part` to the end of what the server sends, and return it; or the file of a web page that came in its place."""
    offset = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    times = (patience.connect_s, patience.silence_s)
    try:
        with session.get(url, headers=headers, stream=True, timeout=times) as response:
            if response.status_code == 416 and offset:
                return part  # nothing is left to send; the digest tells whether that is so
            start = _start(response, offset, url)
            page = "text/html" in response.headers.get("Content-Type", "") and not url.endswith((".html", ".htm"))
            received = part.with_suffix(".page.part") if page and not start else part  # a beginning is not lost to a login form
            _append(response.raw, received, start, patience, stop, tell)
            return received
    except requests.exceptions.SSLError as error:
        raise UserError(f"the certificate of {place(url)} is not accepted: {_reason(error)}") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        asked, reached = place(url), _host(error, url)
        lost = isinstance(error, requests.ConnectionError) and isinstance(_cause(error), urllib3.exceptions.MaxRetryError)
        elsewhere = f" at {reached}, where {asked} sends us" if reached != asked else ""
        raise _Again(_reason(error) + elsewhere, lost=lost and not elsewhere) from error


def _start(response: requests.Response, offset: int, url: str) -> int:
    """Return at which byte the body of `response` starts, 0 from a server that knows no ranges."""
    status = response.status_code
    if status == 200:
        return 0
    if status == 206:
        match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if match and int(match[1]) == offset:
            return offset
        raise _Again("the server sent another range than it was asked for")
    if status in _TRANSIENT or status >= 500:
        raise _Again(f"the server answers {status} {response.reason}", wait_s=_asked_wait_s(response))
    if status in (401, 403):
        raise TransferProblem(f"the server refuses it ({status} {response.reason}); {login_advice(url)}")
    raise TransferProblem(f"the server answers {status} {response.reason}")


def _asked_wait_s(response: requests.Response) -> float:
    """Return how long the server asks to wait: seconds, or until a date, which is compared with the server's own clock."""
    asked = response.headers.get("Retry-After", "")
    if re.fullmatch(r"\d{1,6}", asked):
        return min(float(asked), _LONGEST_S)
    try:
        until = parsedate_to_datetime(asked).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    try:
        now = parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        now = time.time()
    return min(max(until - now, 0.0), _LONGEST_S)


def _append(raw: Any, part: Path, offset: int, patience: Patience, stop: Event, tell: Tell) -> None:
    """Write what comes to `part` as it comes, so that a kill loses none of it; what trickles is cut off."""
    try:
        file = part.open("ab" if offset else "wb", buffering=0)
    except OSError as error:
        raise unwritable(part, error) from error
    with file:
        size, came, since = offset, 0, time.monotonic()
        while chunk := raw.read1(_CHUNK, decode_content=False):
            if stop.is_set():
                raise Stopped
            try:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError as error:
                raise unwritable(part, error) from error
            size, came = size + len(chunk), came + len(chunk)
            tell(size, len(chunk))
            if (passed := time.monotonic() - since) >= patience.silence_s:
                if came < patience.slowest * passed:
                    raise _Again(f"{came:,} bytes in {passed:.0f} s", slow=True)
                came, since = 0, time.monotonic()


def _put_page(page: Path, part: Path, target: Path, fault: Callable[[Path], str], url: str) -> None:
    """Give a web page its name if it is the file all the same, and remove it otherwise.

    Raises:
        TransferProblem: it is not the file; a login form, perhaps.
    """
    try:
        faults = fault(page)
    except UserError:
        faults = "it is no list"
    if faults:
        page.unlink()
        raise TransferProblem(f"the server sent a web page in its place; {login_advice(url)}")
    _put(page, target)
    part.unlink(missing_ok=True)


def _put(part: Path, target: Path) -> None:
    """Give a whole file its name, durably."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("rb") as file:
            commit(file.fileno(), part, target)
    except OSError as error:
        raise unwritable(target, error) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _cause(error: Exception) -> object:
    return error.args[0] if error.args else None


def _host(error: Exception, url: str) -> str:
    """Return the host that a request failed at, which a redirection may have named."""
    request = getattr(error, "request", None)
    return place(str(request.url)) if request is not None else place(url)


def _reason(error: Exception) -> str:
    """Return what went wrong with a connection, in a few words."""
    inner = _cause(error)
    inner = getattr(inner, "reason", None) or inner
    if isinstance(inner, urllib3.exceptions.NameResolutionError):
        return "its name is not found (no network?)"
    if isinstance(inner, urllib3.exceptions.NewConnectionError):
        return "connection refused" if "refused" in str(inner).lower() else "no connection"
    late = (requests.Timeout, urllib3.exceptions.TimeoutError)
    if isinstance(inner, late) or isinstance(error, late):
        return "no answer in time"
    if isinstance(error, urllib3.exceptions.ProtocolError) or isinstance(inner, urllib3.exceptions.ProtocolError):
        return "the connection was cut"
    if isinstance(inner, urllib3.exceptions.ProxyError):
        return without_secrets(f"the proxy that the environment names: {inner.original_error}")[:160]
    name = "" if isinstance(inner, str) else f"{type(inner or error).__name__} "
    return without_secrets(" ".join(f"{name}{inner or error}".split()))[:160]
