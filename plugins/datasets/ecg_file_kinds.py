"""Which format a file of an ECG cart has, by its first bytes; names of files decide only where the bytes say nothing."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from melp_bench.lead_names import known_lead

BEGINNING = 65_536
"""Bytes that are looked at."""
ENDINGS = {
    ".xml": "XML", ".dcm": "DICOM", ".dicom": "DICOM", ".scp": "SCP-ECG", ".edf": "EDF", ".bdf": "BDF", ".ecg": "ISHNE",
    ".mwf": "MFER", ".mfer": "MFER", ".npy": "NPY",
}  # fmt: skip
"""Endings of files that are records, or were meant to be."""
_ROOTS = {"RestingECG": "muse", "AnnotatedECG": "aecg", "restingecgdata": "sierra"}
_ROOT = re.compile(r"<(?:[A-Za-z_][\w.-]*:)?(RestingECG|AnnotatedECG|restingecgdata)[\s>]")
_FIRST_ELEMENTS = {
    (2, element) for element in (0, 1, 2)
} | {(8, element) for element in (0, 1, 5, 8, 0x12, 0x13, 0x14, 0x16, 0x18, 0x20)}  # fmt: skip


def file_kind(path: Path) -> str:
    """Return muse, aecg, sierra, dicom, scp, edf, ishne, mfer, npy or csv; "" where it is none of them.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        begin = file.read(BEGINNING)
    if begin[128:132] == b"DICM" or (path.suffix.casefold() in (".dcm", ".dicom", "") and _is_bare_dicom(begin)):
        return "dicom"
    if begin.startswith(b"\x93NUMPY"):
        return "npy"
    if begin.startswith(b"ISHNE1.0"):
        return "ishne"
    if begin.startswith(b"0       ") and len(begin) >= 256:
        return "edf"
    if (begin[:1] == b"\x40" and begin[2:6] == b"MFR ") or path.suffix.casefold() in (".mwf", ".mfer"):
        return "mfer"
    if _is_scp(begin):
        return "scp"
    if path.suffix.casefold() == ".csv":
        return "csv" if lead_columns(begin) else ""
    found = _ROOT.search(_as_text(begin))
    return _ROOTS[found[1]] if found else ""


def lead_columns(begin: bytes) -> list[str]:
    """Return the columns of a table that are standard leads by name; none where the first line is no header."""
    line = next((row for row in _as_text(begin).splitlines() if row.strip() and not row.startswith("#")), "")
    return [name for name in re.split(r"[,;\t]", line.replace('"', "")) if known_lead(name.strip()) is not None]


def _is_scp(begin: bytes) -> bool:
    """Return True if section 0 begins at byte 7, as EN 1064 says, and its first pointer is to itself."""
    if len(begin) < 32:
        return False
    number, length = struct.unpack_from("<HI", begin, 8)
    pointed, _, index = struct.unpack_from("<HII", begin, 22)
    return bool(number == 0 and length >= 26 and pointed == 0 and index == 7)


def _is_bare_dicom(begin: bytes) -> bool:
    """Return True if a DICOM element without the preamble of a file stands first, with its type or without."""
    if len(begin) < 8 or struct.unpack_from("<HH", begin) not in _FIRST_ELEMENTS:
        return False
    return bool(re.fullmatch(rb"[A-Z]{2}", begin[4:6])) or struct.unpack_from("<I", begin, 4)[0] < 256


def _as_text(begin: bytes) -> str:
    if begin.startswith((b"\xff\xfe", b"\xfe\xff")):
        return begin.decode("utf-16", "ignore")
    if begin[:4].count(0) == 2:  # UTF-16 that does not say so
        return begin.decode("utf-16-le" if begin[:1] != b"\0" else "utf-16-be", "ignore")
    return begin.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
