"""Real files, damaged: every record ends ok, repaired or quarantined under a reason, and none is read as something it is not.

What no reader can tell: a sample changed where the format has no checksum (plain MATLAB and HDF5), and a header's rate, zero or
common gain changed to another that hearts have. These may differ and are not claimed; everything else must be equal or refused.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from melp_bench.errors import UserError
from melp_bench.records import BadRecord, Dataset
from melp_bench.store.pack import Packed
from melp_bench.store.shard import read_record
from melp_plugins.datasets.code import CODE15
from melp_plugins.datasets.cpsc2018 import CPSC2018
from melp_plugins.datasets.csn import CSN
from melp_plugins.datasets.g12ec import G12EC
from melp_plugins.datasets.hdf5_tracings import read_tracing
from melp_plugins.datasets.ludb import LUDB
from melp_plugins.datasets.matlab_files import read_matlab
from melp_plugins.datasets.ptb_diagnostic import PTBDiagnostic
from melp_plugins.datasets.ptb_xl import PTBXL

REAL = os.environ.get("MELP_BENCH_REAL_ECG")
pytestmark = pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to the folder with ludb/, ptb-xl/, ...")
HERE = Path(REAL or "/nonexistent")
CASES = 260
"""Of each of ten sources."""
CODES = {
    "all-zero", "bad-gain", "bad-rate", "checksum-mismatch", "duplicate-lead", "flat", "implausible-amplitude",
    "infinite-samples", "missing-file", "no-known-lead", "missing-samples", "several-segments", "too-short", "truncated",
    "unknown-unit", "unreadable-file", "unreadable-header", "unreadable-samples", "unsafe-path", "unsupported-format",
    "wrong-shape", "zero-byte-file",
}  # fmt: skip
EVERY_CASE = settings(
    max_examples=CASES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@dataclass
class Source:
    """A dataset and the files of one of its records."""

    dataset: Dataset
    files: dict[str, bytes]
    guarded: bool = True  # its samples have a checksum
    root: Path = field(default_factory=Path)

    def outcome(self) -> Packed | str:
        """Return the record, or the reason why there is none."""
        try:
            info = next(iter(list(self.dataset.infos(self.root))), None)
            return "refused" if info is None else read_record(self.dataset, self.root, info)
        except UserError:
            return "refused"
        except BadRecord as reason:
            if reason.code not in CODES:  # "unexpected" among them: what nobody foresaw has no place here
                raise
            return reason.code

    def damaged(self, name: str, content: bytes) -> Packed | str:
        """Return the outcome with one file replaced; every file of a dataset that caches is read anew."""
        path = self.root / name
        path.write_bytes(content)
        try:
            return self.outcome()
        finally:
            path.write_bytes(self.files[name])


def taken(folder: str, *names: str) -> dict[str, bytes]:
    return {name: (HERE / folder / name).read_bytes() for name in names}


def table_row(path: Path, wanted: str, column: str) -> bytes:
    """Return a CSV with its header and the one row whose `column` is `wanted`."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        head = next(reader)
        row = next(row for row in reader if row[head.index(column)] == wanted)
    out = io.StringIO()
    csv.writer(out).writerows([head, row])
    return out.getvalue().encode()


def hdf5() -> dict[str, bytes]:
    """Return a real tracing in CODE's own packaging."""
    x = read_matlab(HERE / "code-15/ecg-fm-sample10/code_15_270272.mat", ("feats",))["feats"]
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file["exam_id"] = np.array([270272])
        file["tracings"] = np.ascontiguousarray(x.T, dtype=np.float32)[None]
    columns = "exam_id,age,is_male,patient_id,trace_file,1dAVb,RBBB,LBBB,SB,AF,ST"
    return {"a.hdf5": out.getvalue(), "exams.csv": f"{columns}\n270272,50,True,7,a.hdf5{',False' * 6}\n".encode()}


def sources() -> dict[str, Source]:
    high = "records500/00000/00001_hr"
    feats = "code_15_270272.mat"
    meta = table_row(HERE / "code-15/ecg-fm-sample10/meta.csv", feats, "save_file")
    return {
        "ptb-xl": Source(
            PTBXL(),
            taken("ptb-xl", f"{high}.hea", f"{high}.dat")
            | {"ptbxl_database.csv": table_row(HERE / "ptb-xl/ptbxl_database.csv", "1", "ecg_id")},
        ),
        "ludb": Source(
            LUDB(), taken("ludb", "data/1.hea", "data/1.dat") | {"ludb.csv": table_row(HERE / "ludb/ludb.csv", "1", "ID")}
        ),
        "csn": Source(CSN(), taken("chapman-shaoxing", "JS01048.hea", "JS01048.mat")),
        "g12ec": Source(G12EC(), taken("georgia-g12ec", "E07938.hea", "E07938.mat")),
        "cpsc2018": Source(CPSC2018(), taken("cpsc2018", "A0003.hea", "A0003.mat")),
        "ptb-diagnostic": Source(PTBDiagnostic(), taken("ptb-diagnostic", "s0010_re.hea", "s0010_re.dat", "s0010_re.xyz")),
        "code-15": Source(CODE15(), taken("code-15/wfdb", "1000001.hea", "1000001.dat")),
        "struct": Source(CPSC2018(), taken("cpsc2018-original-mat", "A1980.mat"), guarded=False),
        "feats": Source(CODE15(), taken("code-15/ecg-fm-sample10", feats) | {"meta.csv": meta}, guarded=False),
        "hdf5": Source(CODE15(), hdf5(), guarded=False),
    }


NAMES = ("ptb-xl", "ludb", "csn", "g12ec", "cpsc2018", "ptb-diagnostic", "code-15", "struct", "feats", "hdf5")
HEADED = NAMES[:7]


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Source, Packed]]:
    found = {}
    for name, source in sources().items():
        source.root = tmp_path_factory.mktemp(name)
        for file, content in source.files.items():
            (source.root / file).parent.mkdir(parents=True, exist_ok=True)
            (source.root / file).write_bytes(content)
        whole = source.outcome()
        assert isinstance(whole, Packed), f"{name}: {whole}"
        found[name] = (source, whole)
    return found


def equal(one: Packed, other: Packed) -> bool:
    """Return True if two records have the same samples, units, rate and names."""
    return (
        np.array_equal(one.values, other.values)
        and np.array_equal(one.gains, other.gains)
        and (one.rate_hz, one.leads) == (other.rate_hz, other.leads)
    )


# --------------------------------------------------------------------------------------------------- bytes, anywhere

place = st.tuples(st.sampled_from(["anywhere", "begin", "end"]), st.floats(0, 1, exclude_max=True))
damage = st.one_of(
    st.tuples(st.just("flip"), st.lists(st.tuples(place, st.integers(1, 255)), min_size=1, max_size=8)),
    st.tuples(st.just("cut"), place),
    st.tuples(st.just("drop"), st.tuples(place, st.sampled_from([1, 2, 12, 24, 100, 1000]))),
    st.tuples(st.just("insert"), st.tuples(place, st.binary(min_size=1, max_size=16))),
    st.tuples(st.just("zero"), st.tuples(place, st.sampled_from([1, 4, 24, 512, 4096]))),
)


def position(content: bytes, where: tuple[str, float]) -> int:
    region, share = where
    reach = len(content) if region == "anywhere" else min(len(content), 2048)
    return (len(content) - reach if region == "end" else 0) + int(share * reach)


def damaged(content: bytes, kind: str, what: object) -> bytes:
    broken = bytearray(content)
    if kind == "flip":
        for where, mask in what:  # type: ignore[attr-defined]
            broken[position(content, where)] ^= mask
    elif kind == "cut":
        del broken[position(content, what) :]  # type: ignore[arg-type]
    else:
        where, value = what  # type: ignore[misc]
        at = position(content, where)
        if kind == "drop":
            del broken[at : at + value]
        elif kind == "insert":
            broken[at:at] = value
        else:
            broken[at : at + value] = bytes(len(broken[at : at + value]))
    return bytes(broken)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_bytes_are_refused_or_read_as_they_were(name: str, laid_out: dict[str, tuple[Source, Packed]]) -> None:
    source, whole = laid_out[name]
    samples = {file for file in source.files if file.endswith((".dat", ".mat", ".xyz"))} if source.guarded else set()

    @EVERY_CASE
    @given(st.sampled_from(sorted(source.files)), damage)
    def check(file: str, done: tuple[str, object]) -> None:
        after = source.damaged(file, damaged(source.files[file], *done))
        if isinstance(after, Packed):
            assert after.verdict in ("ok", "repaired")
            assert after.values.dtype == np.int16
            assert np.isfinite(after.gains).all()
            if file in samples or file.endswith(".csv"):
                assert equal(after, whole), f"{file}: another record, silently"

    check()


# ------------------------------------------------------------------------------------------ headers, cell by cell


def cells(text: str) -> list[list[str]]:
    return [line.split(None, 8) for line in text.splitlines() if line and not line.startswith("#")]


def joined(table: Sequence[Sequence[str]]) -> bytes:
    return ("\n".join(" ".join(row) for row in table) + "\n").encode("utf-8", "surrogateescape")


NASTY = (
    "",
    "0",
    "-1",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "99999999999999999999",
    "0x10",
    "\u0661",
    "/",
    "x" * 5000,
    "\udcff",
    "\0",
)


@pytest.mark.parametrize("name", HEADED)
def test_a_nasty_cell_in_a_header_makes_no_other_samples(name: str, laid_out: dict[str, tuple[Source, Packed]]) -> None:
    """In the cells of file, format and count; the others decide names and scales, which are asked below."""
    source, whole = laid_out[name]
    file = next(file for file in source.files if file.endswith(".hea"))
    table = cells(source.files[file].decode())
    places = [(row, column) for row in range(len(table)) for column in range(len(table[row]))]

    @settings(EVERY_CASE, max_examples=60)
    @given(st.sampled_from(places), st.one_of(st.sampled_from(NASTY), st.text(max_size=8)))
    def check(at: tuple[int, int], value: str) -> None:
        row, column = at
        changed = [list(line) for line in table]
        changed[row][column] = value
        after = source.damaged(file, joined_safely(changed))
        decides_samples = (row == 0 and column in (1, 3)) or (row > 0 and column in (0, 1))
        if isinstance(after, Packed) and decides_samples:
            assert np.array_equal(after.values, whole.values)

    check()


def joined_safely(table: Sequence[Sequence[str]]) -> bytes:
    return ("\n".join(" ".join(row) for row in table) + "\n").encode("utf-8", "replace")


def edit(table: list[list[str]], column: int, value: str, rows: Sequence[int] | None = None) -> list[list[str]]:
    """Return the header with a cell of its signal lines replaced; `{}` stands for what was there."""
    changed = [list(line) for line in table]
    for row in rows or range(1, len(table)):
        changed[row][column] = value.replace("{}", changed[row][column])
    return changed


def scaled(table: list[list[str]], factor: float) -> list[list[str]]:
    """Return the header with every gain multiplied."""
    changed = [list(line) for line in table]
    for row in range(1, len(table)):
        found = re.match(r"[\d.eE+]+", table[row][2])
        assert found
        changed[row][2] = f"{float(found[0]) * factor!r}{table[row][2][found.end() :]}"
    return changed


def first(table: list[list[str]], column: int, value: str) -> list[list[str]]:
    changed = [list(line) for line in table]
    changed[0][column] = value
    return changed


def renamed(table: list[list[str]], a: int, b: int) -> list[list[str]]:
    changed = [list(line) for line in table]
    changed[1 + a][8], changed[1 + b][8] = changed[1 + b][8], changed[1 + a][8]
    return changed


def edits(table: list[list[str]]) -> Iterator[tuple[str, list[list[str]], set[str]]]:
    """Yield a name, the edited header, and what may become of it: reasons, quality_flags, or "equal"."""
    for factor in (1e3, 1e-3, 1e6, 1e-6):
        yield f"gain x {factor:g}", scaled(table, factor), {"implausible-amplitude", "all-zero", "flat", "gain-erratum"}
    for gain in ("0", "0/mV", "nan/mV", "NaN", "inf/mV", "-1000/mV", "1e999/mV", "(0)/mV", "/mV"):
        yield f"gain {gain}", edit(table, 2, gain), {"bad-gain"}
    yield "uV", edit(table, 2, "1000(0)/uV"), {"implausible-amplitude"}
    yield "microvolt sign", edit(table, 2, "1000(0)/\u00b5V"), {"implausible-amplitude"}
    yield "V", edit(table, 2, "1000(0)/V"), {"implausible-amplitude"}
    yield "mmHg", edit(table, 2, "1000(0)/mmHg"), {"unknown-unit"}
    yield "zero far off", edit(table, 2, "1000(90000)/mV"), {"large-offset"}
    yield "zero out of this world", edit(table, 2, "1000(-2147483648)/mV"), {"implausible-amplitude", "gain-erratum"}
    for rate in ("-500", "0", "nan", "inf", "1e999", "", "five", "1", "9999999"):
        yield f"rate {rate}", first(table, 2, rate), {"bad-rate", "too-short", "unreadable-header"}
    for count in ("999999999999", "1" + table[0][3], str(int(table[0][3]) - 1), str(int(table[0][3]) // 2), "-5", "1e4"):
        yield f"samples {count}", first(table, 3, count), {"truncated", "checksum-mismatch", "unreadable-header"}
    for count in ("0", "-12", "11", "13", "99999999", "256", "12.0"):
        if count != table[0][1]:
            yield f"signals {count}", first(table, 1, count), {"unreadable-header"}
    outside = ("../{}", "/etc/passwd", "a/{}", "..", "C:\\{}", "..\\{}", "-", "~")
    yield from ((f"file {path}", edit(table, 0, path), {"unsafe-path"}) for path in outside)
    yield "file that is not there", edit(table, 0, "no{}"), {"missing-file"}
    for form in (
        "8",
        "80",
        "160",
        "212",
        "310",
        "311",
        "24",
        "32",
        "61",
        "508",
        "516",
        "0",
        "16x2",
        "16:3",
        "16+1",
        "16+99999",
    ):
        reasons = {"checksum-mismatch", "unsupported-format", "truncated", "implausible-amplitude", "missing-samples"}
        reasons |= {"unreadable-samples"} if form in ("508", "516") else {"bridged-samples"} if form == "16:3" else set()
        if form not in table[1][1]:
            yield f"format {form}", edit(table, 1, form), reasons
    yield "several segments", first(table, 0, f"{table[0][0]}/3"), {"unreadable-header"}
    yield "checksum", edit(table, 6, "12345", [3]), {"checksum-mismatch"}
    yield "a name twice", edit(table, 8, "V1"), {"duplicate-lead"}
    yield "a strange name", edit(table, 8, "ECG9", [4]), {"unknown-leads"}
    yield "a negated name", edit(table, 8, "-{}", [4]), {"turned-leads"}
    for a, b in ((0, 1), (0, 2), (1, 2), (3, 4), (4, 5), (0, 4), (2, 3)):
        yield f"names {a} and {b} exchanged", renamed(table, a, b), {"wrong-leads", "inconsistent-leads", "odd-lead"}


@pytest.mark.parametrize("name", HEADED)
def test_a_header_that_lies_is_found_out(name: str, laid_out: dict[str, tuple[Source, Packed]]) -> None:
    source, _ = laid_out[name]
    file = next(file for file in source.files if file.endswith(".hea"))
    table = cells(source.files[file].decode())
    wrong = {}
    for edited, header, may in edits(table):
        after = source.damaged(file, joined(header))
        told = {after} if isinstance(after, str) else {text.split(":")[0] for text in (*after.quality_flags, *after.repairs)}
        if not told & may:
            wrong[edited] = told or "silence"
    assert not wrong


@pytest.mark.parametrize("name", HEADED)
def test_another_spelling_of_a_header_is_the_same_record(name: str, laid_out: dict[str, tuple[Source, Packed]]) -> None:
    source, whole = laid_out[name]
    file = next(file for file in source.files if file.endswith(".hea"))
    text = source.files[file]
    for other in (
        text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + text,
        text.replace(b" ", b"\t"),
        b"# first\n\n" + text,
        text + b"# M\xfcller \x00\xff\n",
        joined(first(cells(text.decode()), 2, cells(text.decode())[0][2] + "/1000(0)")),
    ):
        after = source.damaged(file, other)
        assert isinstance(after, Packed), after
        assert equal(after, whole)
    assert source.damaged(file, text.decode("latin-1").encode("utf-16")) in ("unreadable-header", "refused")


def test_a_wrong_row_is_no_tracing(laid_out: dict[str, tuple[Source, Packed]]) -> None:
    source, _ = laid_out["hdf5"]
    with pytest.raises(BadRecord, match="no row 5"):
        read_tracing(source.root / "a.hdf5", 5)
