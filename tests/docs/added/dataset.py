"""A dataset: waves of two rates, made here."""

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

import melp_bench as mb


class Waves(mb.Dataset):
    version, licence, citation, generated = "1", "CC0", "none", True

    def __init__(self, *, num_records: int = 80) -> None:
        self.num_records = num_records

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        return {"rate": mb.Task("rate", {"slow": frozenset({"SLOW"}), "fast": frozenset({"FAST"})})}

    def infos(self, source: Path) -> Iterable[mb.RecordInfo]:
        for number in range(self.num_records):
            statement = "FAST" if number % 3 == 0 else "SLOW"
            yield mb.RecordInfo(f"w{number}", f"p{number}", frozenset({statement}), report=f"{statement.lower()} waves.")

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        rng = np.random.default_rng(zlib.crc32(info.record_id.encode()))
        hertz = 3.0 if "FAST" in info.statements else 1.0
        wave = np.sin(2 * np.pi * (hertz * np.arange(2500) / 250 + rng.random()))
        leads = wave * rng.uniform(0.5, 1.0, size=(8, 1)) + 0.05 * rng.standard_normal((8, 2500))
        named = dict(zip(("I", "II", "V1", "V2", "V3", "V4", "V5", "V6"), leads.astype(np.float32), strict=True))
        return mb.Signal(np.stack(list(named.values())), 250.0, tuple(named))


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    return [mb.Entry("added-waves", Waves, "waves of two rates")]
