"""A home of one's own, and what reads a file's bytes as a record of `ecg-files`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from melp_bench.records import Signal
from melp_plugins.datasets.ecg_files import ECGFiles


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Signal]:
    """Return what reads bytes as a file of a folder."""

    def reader(content: bytes, name: str = "a.xml", **options: object) -> Signal:
        (tmp_path / name).write_bytes(content)
        return ECGFiles(**options)._read(tmp_path / name).signal  # type: ignore[arg-type]

    return reader


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep stores and pseudonyms in a folder of the test."""
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
