"""TLS with a certificate authority of one's own, logins of credentialed sets, redirections to other hosts, and proxies."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from server import Site, serve, with_sums
from test_fetch import BIG, FILES, QUICK, content, download

import melp_bench as mb
from melp_bench.cli import _run
from melp_bench.fetch import fetch
from melp_bench.fetch.connection import place, without_secrets
from melp_plugins.datasets.ludb import LUDB

trustme = pytest.importorskip("trustme", reason="pip install 'melp-bench[test]'")
USER, PASSWORD = "reader@example.org", "correct-horse"
FORM = ("status", 200, {"Content-Type": "text/html; charset=utf-8"})


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take away what this machine's environment says of proxies, certificates and logins."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))


@pytest.fixture(scope="module")
def authority() -> object:
    return trustme.CA()


@pytest.fixture
def trusted(authority: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """Return a server's side of TLS for both names of this machine, whose authority the environment trusts."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))  # type: ignore[attr-defined]
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)  # type: ignore[attr-defined]
    return context


@pytest.fixture
def site(trusted: ssl.SSLContext) -> Iterator[Site]:
    with serve(Site(with_sums(FILES)), trusted) as served:
        yield served


def login(folder: Path, monkeypatch: pytest.MonkeyPatch, password: str = PASSWORD, host: str = "127.0.0.1") -> None:
    """Write a netrc file with a login for `host` and let the environment name it."""
    path = folder / "netrc"
    path.write_text(f"machine {host}\nlogin {USER}\npassword {password}\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))


def everything_written(folder: Path) -> str:
    """Return the names and texts of what a fetch leaves on disk."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "\n".join([str(path) + "\n" + path.read_bytes().decode("latin-1") for path in files])


def test_files_come_over_tls_from_whom_the_environment_trusts(site: Site, tmp_path: Path) -> None:
    assert site.url.startswith("https://")
    site.faults[BIG] = [("cut", 20_000)]
    assert fetch(download(site), tmp_path / "in", patience=QUICK).failed == ()
    assert content(tmp_path / "in") == FILES
    assert site.requests_of(BIG) == [0, 20_000]


def test_a_certificate_of_nobody_is_one_line(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(mb.UserError, match=r"the certificate of 127\.0\.0\.1:\d+ is not accepted: .*CERTIFICATE_VERIFY_FAILED"):
        fetch(download(site), tmp_path / "in", patience=QUICK)


def test_a_head_that_trickles_over_tls_is_cut_off(site: Site, tmp_path: Path) -> None:
    from melp_bench.fetch import Patience

    site.faults[BIG] = [("slow head", 0.1)] * 9
    (failed,) = fetch(download(site), tmp_path / "in", patience=Patience(tries=1, wait_s=0.0, silence_s=0.3)).failed
    assert "without a new byte" in failed


# -------------------------------------------------------------------------------------------------------------- logins


def test_a_login_is_taken_from_netrc_and_stays_there(
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    site.login = (USER, PASSWORD)
    login(tmp_path, monkeypatch)
    monkeypatch.setattr(LUDB, "download", mb.Download(site.url))
    caplog.set_level("DEBUG")
    site.faults[BIG] = [500, ("cut", 100), 404]
    assert _run(["data", "fetch", "ludb", "--to", str(tmp_path / "in")], verbose=True) == 1
    told = capsys.readouterr()
    kept = everything_written(tmp_path / "in")
    assert len(content(tmp_path / "in")) == len(FILES) - 1
    for place_ in (told.out, told.err, caplog.text, kept):
        assert PASSWORD not in place_
        assert USER not in place_


@pytest.mark.parametrize("refused", [401, 403, FORM, ("page",)])
def test_without_a_login_one_line_says_where_it_goes(refused: object, site: Site, tmp_path: Path) -> None:
    site.login, site.refused = (USER, PASSWORD), refused
    with pytest.raises(mb.UserError, match=r"a line `machine 127\.0\.0\.1 login USER password PASSWORD` in ~/\.netrc") as told:
        fetch(download(site), tmp_path / "in", patience=QUICK)
    assert str(told.value).startswith(f"cannot get the list of files {site.url}SHA256SUMS.txt: the server ")
    assert len(site.asked) == 1, "what is refused is not asked for again"


@pytest.mark.parametrize("refused", [403, ("page",)])
def test_a_login_that_is_not_taken_is_told_apart(
    refused: object, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.login, site.refused = (USER, PASSWORD), refused
    login(tmp_path, monkeypatch, password="battery-staple")
    with pytest.raises(
        mb.UserError, match=r"the login for 127\.0\.0\.1 in your netrc file was not taken; sign the set's"
    ) as told:
        fetch(download(site), tmp_path / "in", patience=QUICK)
    assert "battery" not in str(told.value)


def test_a_login_form_costs_no_beginning_that_is_there(site: Site, tmp_path: Path) -> None:
    """A session that ends in the middle: 200 with a web page for the rest of a file."""
    site.faults[BIG] = [("cut", 60_000), ("page",)]
    (failed,) = fetch(download(site), tmp_path / "in", patience=QUICK).failed
    assert failed.startswith(f"{BIG!r}: the server sent a web page in its place; ")
    site.asked.clear()
    assert fetch(download(site), tmp_path / "in", patience=QUICK).failed == ()
    assert site.asked == [(BIG, 60_000)]
    assert content(tmp_path / "in") == FILES


def test_a_file_that_is_called_a_web_page_and_is_right_is_taken(site: Site, tmp_path: Path) -> None:
    site.headers = {"Content-Type": "text/html"}
    assert fetch(download(site), tmp_path / "in", patience=QUICK).failed == ()
    assert content(tmp_path / "in") == FILES
    assert not list((tmp_path / "in" / ".melp-bench-fetch").glob("*.part"))


def test_a_login_is_not_carried_to_another_host(
    site: Site, trusted: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.login = (USER, PASSWORD)
    login(tmp_path, monkeypatch)
    with serve(Site({"stored": FILES[BIG], "near": b""}), trusted, "localhost") as other:
        site.faults[BIG] = [("moved", f"{other.url}stored?X-Amz-Signature=secret")]
        other.files["stored?X-Amz-Signature=secret"] = FILES[BIG]
        assert fetch(download(site), tmp_path / "in", patience=QUICK).failed == ()
        assert other.logins == [("stored?X-Amz-Signature=secret", "")]
    assert content(tmp_path / "in") == FILES
    assert "secret" not in everything_written(tmp_path / "in")


def test_a_login_never_goes_over_a_plain_connection(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither at first nor where the same host sends us to its plain port."""
    site.login = (USER, PASSWORD)
    login(tmp_path, monkeypatch)
    with serve(Site(with_sums(FILES) | {"plain": FILES[BIG]})) as plain:
        site.faults[BIG] = [("moved", f"{plain.url}plain")]
        assert fetch(download(site), tmp_path / "in", patience=QUICK).failed == ()
        assert fetch(download(plain), tmp_path / "other", patience=QUICK).failed == ()
        assert {sent for _, sent in plain.logins} == {""}
    assert any(sent.startswith("Basic ") for _, sent in site.logins)


def test_an_address_with_a_password_is_refused_without_showing_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(LUDB, "download", mb.Download(site.url))
    mirror = site.url.replace("https://", f"https://reader:{PASSWORD}@")
    assert _run(["data", "fetch", "ludb", "--to", str(tmp_path / "in"), "--mirror", mirror], verbose=False) == 2
    told = capsys.readouterr()
    assert "holds a user or password; leave them out" in told.err
    assert PASSWORD not in told.out + told.err
    with pytest.raises(mb.UserError, match="holds a user or password"):
        fetch(mb.Download(mirror), tmp_path / "in", patience=QUICK)


def test_a_signature_in_an_address_is_in_no_message(site: Site, tmp_path: Path) -> None:
    site.faults[BIG] = [("moved", "https://127.0.0.1:1/x?X-Amz-Signature=secret")] * 9
    (failed,) = fetch(download(site), tmp_path / "in", patience=QUICK).failed
    assert "connection refused at 127.0.0.1:1, where 127.0.0.1:" in failed
    assert "secret" not in failed
    assert without_secrets("for url: /a?sig=1&b=2 (https://me:pw@host/x?y=z)") == "for url: /a?... (https://host/x?...)"
    assert place("https://me:p%40w@host:8/x") == "host:8"


# -------------------------------------------------------------------------------------------------------------- proxies


class Proxy:
    """A proxy on loopback that tunnels by CONNECT, remembers what for, and asks for a password if it has one."""

    def __init__(self, password: str = "") -> None:
        self.asked: list[str] = []
        self.password = password
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        method, target, _ = head.split(b"\r\n")[0].decode().split()
        self.asked.append(f"{method} {target}")
        if self.password and b"Proxy-Authorization: Basic" not in head:
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            client.close()
            return
        host, _, port = target.rpartition(":")
        server = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        ends = [client, server]
        with client, server:
            while True:
                for end in select.select(ends, [], [])[0]:
                    part = end.recv(65536)
                    if not part:
                        return
                    (server if end is client else client).sendall(part)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def proxied(password: str = "") -> Iterator[Proxy]:
    made = Proxy(password)
    try:
        yield made
    finally:
        made.close()


def test_tls_goes_through_the_proxy_that_the_environment_names(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxied() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.place}")
        assert fetch(download(site), tmp_path / "in", patience=QUICK, jobs=2).failed == ()
        assert f"CONNECT {site.url.removeprefix('https://').rstrip('/')}" in proxy.asked  # other libraries may ask, too
        asked = len(proxy.asked)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,example.org")
        assert fetch(download(site), tmp_path / "other", patience=QUICK).failed == ()
        assert len(proxy.asked) == asked, "NO_PROXY names this host"
    assert content(tmp_path / "in") == content(tmp_path / "other") == FILES


def test_a_proxys_password_is_in_no_message(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxied("asked") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@{proxy.place}")
        assert fetch(download(site), tmp_path / "in", patience=QUICK).failed == ()
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@127.0.0.1:1")
    with pytest.raises(
        mb.UserError, match=r"127\.0\.0\.1:\d+ cannot be reached: the proxy that the environment names: "
    ) as told:
        fetch(download(site), tmp_path / "other", patience=QUICK)
    assert PASSWORD not in str(told.value)
    assert os.environ["HTTPS_PROXY"].endswith(":1")


def test_a_proxy_that_refuses_is_named_as_what_refuses(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxied("asked") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.place}")
        with pytest.raises(mb.UserError, match=r"the proxy that the environment names: .*407"):
            fetch(download(site), tmp_path / "in", patience=QUICK)
