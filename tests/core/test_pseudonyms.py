"""Pseudonyms: one key in a home, known to nobody else, whoever comes first."""

from __future__ import annotations

import hashlib
import hmac
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from melp_bench.errors import UserError
from melp_bench.pseudonyms import KEY_FILE, pseudonym


def test_a_pseudonym_is_one_in_a_home_and_another_in_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    first = pseudonym("patient 7")
    assert first == pseudonym("patient 7") != pseudonym("patient 8")
    key = tmp_path / "home" / KEY_FILE
    assert first == hmac.digest(key.read_bytes(), b"patient 7", hashlib.sha256).hex()[:20]
    assert key.stat().st_mode & 0o077 == 0, "nobody else may read it"
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "elsewhere"))
    assert pseudonym("patient 7") != first
    shutil.copy(key, tmp_path / "elsewhere" / KEY_FILE)
    assert pseudonym("patient 7") == first


def test_whoever_comes_first_makes_the_key_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path))
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(pseudonym, ["patient 7"] * 64))) == 1


def test_a_key_that_is_no_key_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path))
    monkeypatch.setattr("melp_bench.pseudonyms._PATIENCE_SECONDS", 0.02)
    (tmp_path / KEY_FILE).write_text("short")
    with pytest.raises(UserError, match="is not the key it was"):
        pseudonym("patient 7")
