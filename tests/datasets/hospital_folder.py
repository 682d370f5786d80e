"""A hospital's folder with a file of each kind, all of one person, and what a store of it must not hold.

Shapes: L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dicom_records import dicom_of
from holter_and_monitor_records import ishne, mfer
from scp_ecg_records import scp
from vendor_files import EIGHT, Person, heart, rows
from vendor_xml import aecg, aecg_series, muse, muse_waveform, sierra

from melp_bench.leads import LEADS
from melp_bench.store import Store, prepare
from melp_plugins.datasets.ecg_files import ECGFiles

STRIP = heart()
SOMEONE = Person()
SAID = (
    "Sinus rhythm",
    "Left axis deviation, as told by Ms. Vanderquist born 07-23-1931",
    "Confirmed by OKONKWO, ADA MD (7) on 1/2/2024",
    "Changed as Overbeck noted",
)


def made(source: Path, tmp_path: Path, name: str = "store", **options: object) -> Store:
    return prepare(ECGFiles(**options), name="ecg-files", source=source, root=tmp_path / name)  # type: ignore[arg-type]


def everybody(folder: Path, person: Person = SOMEONE) -> Path:
    """Return a folder with a file of each kind, all of one person."""
    (folder / "ward/2024").mkdir(parents=True)
    strip = rows(STRIP, EIGHT)
    (folder / "a.xml").write_bytes(muse(muse_waveform("Rhythm", strip, EIGHT), person=person, statements=SAID))
    (folder / "b.xml").write_bytes(aecg(aecg_series("RHYTHM", STRIP, LEADS), person=person))
    (folder / "ward/c.xml").write_bytes(sierra(STRIP, person=person))
    (folder / "ward/2024/d.scp").write_bytes(scp(STRIP, person=person, text=f"Seen by {person.physician} for {person.last}"))
    (folder / "e.ecg").write_bytes(ishne(STRIP, LEADS, person=person))
    (folder / "f.mwf").write_bytes(mfer(STRIP, LEADS, person=person))
    (folder / "g.dcm").write_bytes(dicom_of(person, STRIP))
    (folder / "notes.pdf").write_bytes(b"%PDF")
    return folder


def all_bytes(folder: Path) -> bytes:
    """Return every byte of a store, and the cells of its tables as text besides, for Parquet packs them."""
    import pyarrow.parquet as pq

    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "lock" not in path.name]
    tables = [str(pq.read_table(path).to_pylist()).encode() for path in files if path.suffix == ".parquet"]
    return b"\n".join([*(path.read_bytes() for path in files), *tables])


def assert_nobody(folder: Path, secrets: Sequence[str]) -> None:
    content = all_bytes(folder).lower()
    assert b"report" in content, "something was looked at"
    for secret in secrets:
        for form in (secret.lower().encode(), secret.lower().encode("utf-16-le")):
            assert form not in content, f"{secret!r} is in the store"
