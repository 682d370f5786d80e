"""LUDB, and what a broken or hostile WFDB record does: it is quarantined, and nothing else happens."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wfdb

from melp_bench.components import BadRecord
from melp_bench.errors import UserError
from melp_bench.signal import LEADS
from melp_bench.store import Store, prepare
from melp_bench.store.pack import pack
from melp_plugins.datasets.ludb import LUDB, ludb_tasks
from melp_plugins.datasets.wfdb_files import read_wfdb

REAL = os.environ.get("MELP_BENCH_REAL_ECG")
needs_records = pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to the folder with ludb/")
SOURCE = Path(REAL or "") / "ludb"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return prepare(LUDB(), name="ludb", source=SOURCE, root=tmp_path_factory.mktemp("ludb") / "store")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a source with records 1 and 2 only."""
    folder = tmp_path / "ludb"
    (folder / "data").mkdir(parents=True)
    for file in ("1.hea", "1.dat", "2.hea", "2.dat"):
        shutil.copy(SOURCE / "data" / file, folder / "data" / file)
        (folder / "data" / file).chmod(0o644)
    with (SOURCE / "ludb.csv").open(newline="") as file:
        rows = list(csv.reader(file))[:3]
    with (folder / "ludb.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@needs_records
def test_all_records_are_there_with_their_classes(store: Store) -> None:
    assert len(store) == 200
    assert store.manifest.quarantined == {}
    counts = dict(zip(store.task("rhythm").classes, store.labels("rhythm").sum(axis=0).tolist(), strict=True))
    assert counts == {"SR": 143, "SBRAD": 25, "STACH": 4, "SARRH": 10, "AFIB": 15, "AFLT": 3, "WAP": 3}
    pacing = {s for statements in store.statements for s in statements if s.startswith("pacing:")}
    assert store.labels("pacing")[:, 0].tolist() == [any(s in pacing for s in had) for had in store.statements]


@needs_records
def test_every_statement_of_a_task_occurs_in_the_data(store: Store) -> None:
    had = frozenset().union(*store.statements)
    for task in ludb_tasks().values():
        assert set(task.prompts) == set(task.classes)
        for name, members in task.members.items():
            assert members <= had, (task.name, name)


@needs_records
def test_samples_are_microvolts_whatever_the_headers_say(store: Store) -> None:
    assert set(store.verdicts) == {"repaired"}
    for position in (0, 99, 199):
        digital = wfdb.rdrecord(str(SOURCE / "data" / str(store.record_ids[position])), physical=False)
        found = store.signal(position)
        assert np.array_equal(np.rint(found.millivolts.T.astype(np.float64) * 1000), digital.d_signal)
        assert found.rate_hz == digital.fs
        assert found.leads == LEADS
        i, ii, iii = digital.d_signal.T[:3]
        assert np.array_equal(i + iii, ii)  # with the headers' gains nothing of the kind holds


@needs_records
def test_a_packaging_with_true_gains_is_read_by_its_header(copy: Path) -> None:
    record = wfdb.rdrecord(str(copy / "data" / "1"), physical=False)
    wfdb.wrsamp(
        "1", fs=500, units=["mV"] * 12, sig_name=record.sig_name, d_signal=record.d_signal, fmt=["16"] * 12,
        adc_gain=[500.0] * 12, baseline=[0] * 12, write_dir=str(copy / "data"),
    )  # fmt: skip
    (info, _) = LUDB().infos(copy)
    signal = LUDB().signal(copy, info)
    assert signal.repairs == ()
    assert np.allclose(signal.millivolts.T * 500, record.d_signal, atol=1e-2)


@needs_records
def test_ages_sexes_and_reports_are_those_of_the_table_and_the_header(store: Store) -> None:
    assert store.sexes.tolist().count("M") == 115
    assert np.nanmax(store.ages) == 90
    assert store.reports[0].startswith("Rhythm: Sinus bradycardia. Electric axis of the heart: left axis deviation. Left")
    assert all(report.endswith(".") and "  " not in report for report in store.reports)


def _cut(data: Path) -> None:
    (data / "1.dat").write_bytes((data / "1.dat").read_bytes()[:-1])


def _eleven(data: Path) -> None:
    lines = (data / "1.hea").read_text().splitlines()
    (data / "1.hea").write_text("\n".join([lines[0].replace(" 12 ", " 11 "), *lines[1:12], *lines[13:]]))
    samples = np.fromfile(data / "1.dat", "<i2").reshape(-1, 12)[:, :11]
    samples.tofile(data / "1.dat")


def _header(old: str, new: str) -> Callable[[Path], None]:
    def change(data: Path) -> None:
        text = (data / "1.hea").read_text()
        assert old in text
        (data / "1.hea").write_text(text.replace(old, new))

    return change


def _missing(data: Path) -> None:
    samples = np.fromfile(data / "1.dat", "<i2")
    samples[:3000] = -32768
    samples.tofile(data / "1.dat")
    lines = (data / "1.hea").read_text().splitlines()
    lines[1:13] = [" ".join([*line.split()[:3]]) + f" 16 0 0 {sum(samples[n::12].tolist()) % 65536} 0 {LEADS[n]}" for n, line in
                   enumerate(lines[1:13])]  # fmt: skip
    (data / "1.hea").write_text("\n".join(lines))


CASES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a truncated file": ("truncated", _cut),
    "an empty file": ("zero-byte-file", lambda data: (data / "1.dat").write_bytes(b"") and None),
    "an empty header": ("zero-byte-file", lambda data: (data / "1.hea").write_bytes(b"") and None),
    "no file": ("missing-file", lambda data: (data / "1.dat").unlink()),
    "no header": ("missing-file", lambda data: (data / "1.hea").unlink()),
    "a lead twice": ("duplicate-lead", _header(" v6", " v5")),
    "other samples": ("checksum-mismatch", _header("-32198", "-32197")),
    "noise for a header": ("unreadable-header", lambda data: (data / "1.hea").write_bytes(bytes(range(256))) and None),
    "a signal file elsewhere": ("unsafe-path", _header("1.dat", "../data/2.dat")),
    "a signal file at the root": ("unsafe-path", _header("1.dat", "/etc/passwd")),
    "another unit": ("unknown-unit", _header("/mV", "/mmHg")),
    "a format of another kind": ("unsupported-format", _header("1.dat 16 ", "1.dat 517 ")),
    "missing samples": ("missing-samples", _missing),
}


@needs_records
@pytest.mark.parametrize("case", CASES)
def test_a_record_with_a_defect_is_quarantined_and_the_others_are_kept(case: str, copy: Path, tmp_path: Path) -> None:
    code, damage = CASES[case]
    damage(copy / "data")
    store = prepare(LUDB(), name="ludb", source=copy, root=tmp_path / "store")
    assert store.manifest.quarantined == {code: 1}
    assert store.record_ids.tolist() == ["2"]


@needs_records
@pytest.mark.parametrize("seed", range(150))
def test_flipped_bytes_give_a_record_or_a_reason(seed: int, copy: Path) -> None:
    rng = np.random.default_rng(seed)
    name = "1.hea" if seed % 3 else "1.dat"
    content = bytearray((copy / "data" / name).read_bytes())
    for place in rng.integers(0, min(len(content), 900), 1 + seed % 5):
        content[place] = [int(rng.integers(256)), ord("9"), ord(" "), content[place] ^ 1][seed % 4]
    (copy / "data" / name).write_bytes(content)
    dataset = LUDB()
    try:
        packed = pack(dataset.signal(copy, next(iter(dataset.infos(copy)))))
    except BadRecord as reason:
        sound = bool(reason.code and reason.detail)
    else:
        told = any(code.startswith("unknown-leads") for code in packed.quality_flags)
        sound = (sorted(packed.leads) == sorted(LEADS) or told) and bool(np.isfinite(packed.gains).all())
    assert sound


@needs_records
@pytest.mark.parametrize(
    ("damage", "told"), [(_eleven, []), (_header(" v6", " vx"), ["unknown-leads: 'vx'"])], ids=["a lead less", "a strange name"]
)
def test_a_record_keeps_the_leads_that_are_known(
    damage: Callable[[Path], None], told: list[str], copy: Path, tmp_path: Path
) -> None:
    whole = prepare(LUDB(), name="ludb", source=copy, root=tmp_path / "whole")
    damage(copy / "data")
    store = prepare(LUDB(), name="ludb", source=copy, root=tmp_path / "store")
    assert store.record_ids.tolist() == ["1", "2"]
    kept = [row for row, lead in enumerate(whole.leads[0]) if lead in store.leads[0]]
    assert len(kept) == 11
    assert np.array_equal(store.signal(0).millivolts, whole.signal(0).millivolts[kept])
    assert [flag for flag in store.quality_flags[0] if flag.startswith("unknown")] == told


@needs_records
def test_a_record_name_that_climbs_out_is_quarantined(copy: Path, tmp_path: Path) -> None:
    table = copy / "ludb.csv"
    table.write_text(table.read_text().replace("\n1,", "\n../data/1,"))
    store = prepare(LUDB(), name="ludb", source=copy, root=tmp_path / "store")
    assert store.manifest.quarantined == {"unsafe-path": 1}


@needs_records
def test_a_table_without_a_column_names_what_it_has_and_what_it_lacks(copy: Path, tmp_path: Path) -> None:
    table = copy / "ludb.csv"
    table.write_text(table.read_text().replace("Rhythms", "Rythms"))
    with pytest.raises(UserError, match=r"lacks the columns \['Rhythms'\]; it has .*'Rythms'"):
        prepare(LUDB(), name="ludb", source=copy, root=tmp_path / "store")


def test_a_folder_without_the_table_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*ludb.csv"):
        prepare(LUDB(), name="ludb", source=tmp_path, root=tmp_path / "store")
    with pytest.raises(UserError, match="is not a folder"):
        prepare(LUDB(), name="ludb", source=tmp_path / "none", root=tmp_path / "store")


@pytest.mark.parametrize("fmt", ["16", "24", "32", "212", "80"])
def test_every_format_is_read_as_it_was_written_with_gaps_as_nan(fmt: str, tmp_path: Path) -> None:
    limit = {"80": 120, "212": 2000}.get(fmt, 30000)
    digital = np.random.default_rng(0).integers(-limit, limit, (600, 12))
    physical = digital / 100.0
    physical[10:13, 4] = np.nan
    wfdb.wrsamp("r", 500, ["mV"] * 12, [lead.lower() for lead in LEADS], physical, fmt=[fmt] * 12, adc_gain=[100.0] * 12,
                baseline=[0] * 12, write_dir=str(tmp_path))  # fmt: skip
    found = read_wfdb(tmp_path, "r")
    assert np.array_equal(np.isnan(found.millivolts.T), np.isnan(physical))
    assert np.nanmax(np.abs(found.millivolts.T - physical)) < 1e-4


def test_a_value_in_microvolts_is_a_thousandth_of_one_in_millivolts(tmp_path: Path) -> None:
    physical = np.random.default_rng(0).integers(-3000, 3000, (600, 12)).astype(float)
    wfdb.wrsamp("r", 500, ["uV"] * 12, list(LEADS), physical, fmt=["16"] * 12, adc_gain=[1.0] * 12, baseline=[0] * 12,
                write_dir=str(tmp_path))  # fmt: skip
    assert np.allclose(read_wfdb(tmp_path, "r").millivolts.T, physical / 1000, atol=1e-6)
