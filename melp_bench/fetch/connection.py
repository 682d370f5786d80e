"""Connections of a fetch: proxies, certificates and logins are the environment's; logins go over TLS only.

A login is that of the host in the user's netrc file; a redirection to another host never carries it. A server that answers a
byte at a time is cut off.
"""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_netrc_auth
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from melp_bench import __version__
from melp_bench.errors import UserError

HEAD_S = 60.0
"""How long a server may take for the head of its answer, all of it."""


def session(head_s: float = HEAD_S) -> requests.Session:
    """Return a connection of its own for a thread, which waits `head_s` for the head of an answer."""
    made = _TLSLogins()
    made.headers["User-Agent"] = f"melp-bench/{__version__}"
    for scheme in ("http://", "https://"):
        made.mount(scheme, _BoundedHeads(head_s))
    return made


def place(url: str) -> str:
    """Return host and port of an address as it is shown: without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def without_secrets(text: str) -> str:
    """Return a message without what addresses in it may hold: users, passwords, signatures."""
    return re.sub(r"\?[^\s'\")]+", "?...", re.sub(r"//[^/\s@]*@", "//", text))


def refuse_secrets(url: str) -> None:
    """Check that an address that is shown, and written down, holds no login.

    Raises:
        UserError: it does.
    """
    if "@" in urlsplit(url).netloc:
        raise UserError(f"the address of {place(url)} holds a user or password; leave them out: {login_advice(url)}")


def login_advice(url: str) -> str:
    """Return what to do where the server of `url` wants a login, or another one than it was given."""
    host = urlsplit(url).hostname or ""
    if not url.startswith("https://"):
        return "a login is sent over https only"
    if get_netrc_auth(url) is not None:
        return f"the login for {host} in your netrc file was not taken; sign the set's agreement on its page first"
    return f"if it wants a login: a line `machine {host} login USER password PASSWORD` in ~/.netrc, readable by nobody else"


class _TLSLogins(requests.Session):
    """A session that sends no login in plain text, neither at first nor where a redirection leads."""

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        prepared = super().prepare_request(request)
        _keep_from_plain_text(prepared)
        return prepared

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        super().rebuild_auth(prepared_request, response)
        _keep_from_plain_text(prepared_request)


def _keep_from_plain_text(prepared: requests.PreparedRequest) -> None:
    if not (prepared.url or "").startswith("https://"):
        prepared.headers.pop("Authorization", None)


class _BoundedHeads(HTTPAdapter):
    """An adapter whose connections cut a server off that does not come to the end of its head: each byte resets a timeout."""

    def __init__(self, head_s: float) -> None:
        self._pools = _bounded_pools(head_s)
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)  # type: ignore[no-untyped-call]
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)  # type: ignore[no-untyped-call]
        manager.pool_classes_by_scheme = self._pools
        return manager


def _bounded_pools(head_s: float) -> dict[str, type[HTTPConnectionPool]]:
    """Return pools by scheme whose connections shut their socket when a head takes longer than `head_s`."""

    class Plain(HTTPConnection):
        def getresponse(self) -> Any:
            with _Shutting(self.sock, head_s):
                return super().getresponse()

    class Secure(HTTPSConnection):
        def getresponse(self) -> Any:
            with _Shutting(self.sock, head_s):
                return super().getresponse()

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


class _Shutting:
    """Shuts a socket that is still waited for after some seconds."""

    def __init__(self, sock: socket.socket | None, seconds: float) -> None:
        self._timer = threading.Timer(seconds, _shut, [sock])
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _shut(sock: socket.socket | None) -> None:
    if sock is not None:
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of TLS, too: under its layer, which would wait
