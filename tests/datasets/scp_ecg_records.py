"""A writer of SCP-ECG records (EN 1064), from its published description; what it writes is known to the last unit.

Shapes: L leads, T samples; `digital` is int16 (L, T), `step_nv` nanovolts of a unit.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from vendor_files import Digital, Person

from melp_bench.leads import LEADS

SCP_LEADS = {"I": 1, "II": 2, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64} | {f"V{n}": n + 2 for n in range(1, 7)}


def default_huffman(values: Sequence[int]) -> bytes:
    """Return values in the code of EN 1064 table C.1."""
    out = []
    for value in values:
        if value == 0:
            out.append("0")
        elif abs(value) <= 8:
            out.append("1" * abs(value) + "0" + ("0" if value > 0 else "1"))
        elif -128 <= value <= 127:
            out.append("1111111110" + f"{value & 255:08b}")
        else:
            out.append("1111111111" + f"{value & 65535:016b}")
    return _bits("".join(out))


def own_huffman(values: Sequence[int]) -> bytes:
    """Return values in the code of `OWN_TABLE`: 0 in one bit, else 10 and eight bits, or 11 and sixteen."""
    out = []
    for value in values:
        out.append("0" if value == 0 else f"10{value & 255:08b}" if -128 <= value <= 127 else f"11{value & 65535:016b}")
    return _bits("".join(out))


OWN_TABLE = struct.pack("<HH", 1, 3) + b"".join(
    struct.pack("<BBBhI", prefix, total, 1, 0, code) for prefix, total, code in ((1, 1, 0b0), (2, 10, 0b01), (2, 18, 0b11))
)
"""Section 2: one table of three codes, each with its first bit last."""


def _bits(text: str) -> bytes:
    text += "0" * (-len(text) % 8)
    return int(text or "0", 2).to_bytes(len(text) // 8, "big")


def differences(row: NDArray[Any], order: int) -> list[int]:
    x = row.astype(np.int64)
    if order == 1:
        return [int(x[0]), *np.diff(x).tolist()]
    if order == 2:
        return [int(x[0]), int(x[1]), *np.diff(x, n=2).tolist()]
    return [int(value) for value in x]


def scp(
    digital: Digital, leads: Sequence[str] = LEADS, *, step_nv: int = 5000, interval_us: int = 2000, order: int = 2,
    huffman: str = "default", person: Person | None = None, beat: Digital | None = None, fiducials: Sequence[int] = (),
    fiducial: int = 0, crc: bool = True, text: str = "Sinus rhythm", decimated: int = 1,
) -> bytes:  # fmt: skip
    """Return an SCP-ECG record; with `beat` (L, t), a reference beat is subtracted at `fiducials` (samples from 1).

    `decimated` is how many times longer the interval is that the rhythm states, as bimodal compression has it.
    """
    encode = {"default": default_huffman, "own": own_huffman, "": lambda v: np.array(v, dtype="<i2").tobytes()}[huffman]
    samples = digital.shape[1]
    sections: dict[int, bytes] = {1: scp_patient(person)}
    if huffman:
        sections[2] = struct.pack("<H", 19999) if huffman == "default" else OWN_TABLE
    flags = 0x04 | (len(leads) << 3) | (beat is not None)
    sections[3] = bytes([len(leads), flags]) + b"".join(
        struct.pack("<IIB", 1, samples, SCP_LEADS[lead]) for lead in leads
    )  # fmt: skip
    rhythm = digital.astype(np.int64).copy()
    if beat is not None:
        length = beat.shape[1]
        zones = [(at, at - fiducial + 1, at - fiducial + length) for at in fiducials]
        sections[4] = struct.pack("<HHH", length * interval_us // 1000, fiducial, len(zones)) + b"".join(
            struct.pack("<HIII", 0, first, at, last) for at, first, last in zones
        )  # fmt: skip
        coded = [encode(differences(row, order)) for row in beat]
        sections[5] = scp_leads(coded, step_nv, interval_us, order)
        for _, first, last in zones:
            rhythm[:, first - 1 : last] -= beat
    coded = [encode(differences(row, order)) for row in rhythm]
    sections[6] = scp_leads(coded, step_nv, decimated * interval_us, order, bimodal=decimated > 1)
    line = text.encode() + b"\0"
    sections[8] = struct.pack("<BHBBBBBB", 0, 2024, 1, 2, 10, 11, 12, 1) + struct.pack("<BH", 1, len(line)) + line
    return scp_record(sections, crc=crc)


def scp_leads(coded: Sequence[bytes], step_nv: int, interval_us: int, order: int, *, bimodal: bool = False) -> bytes:
    sizes = b"".join(struct.pack("<H", len(part)) for part in coded)
    return struct.pack("<HHBB", step_nv, interval_us, order, bimodal) + sizes + b"".join(coded)


def scp_patient(person: Person | None) -> bytes:
    tags = b""
    if person is not None:
        y, m, d = map(int, person.born.split("-"))
        for tag, value in (
            (0, person.last.encode() + b"\0"),
            (1, person.first.encode() + b"\0"),
            (2, person.number.encode() + b"\0"),
            (5, struct.pack("<HBB", y, m, d)),
            (8, b"\x02"),
            (20, person.physician.encode() + b"\0"),
        ):
            tags += struct.pack("<BH", tag, len(value)) + value
    tags += struct.pack("<BHHBB", 25, 4, 2024, 1, 2)
    return tags + struct.pack("<BH", 255, 0)


def scp_record(sections: Mapping[int, bytes], *, crc: bool = True, version: int = 20) -> bytes:
    """Return sections as a record: pointers, headers and checksums (CRC-CCITT), all little-endian."""

    def framed(number: int, body: bytes) -> bytes:
        body += b"\0" * (len(body) % 2)
        rest = struct.pack("<HIBB6s", number, 16 + len(body), version, version, b"SCPECG" if number == 0 else b"") + body
        return struct.pack("<H", binascii.crc_hqx(rest, 0xFFFF) if crc else 0) + rest

    parts = {number: framed(number, body) for number, body in sections.items()}
    first = 16 + 10 * 12
    pointers, at = struct.pack("<HII", 0, first, 7), 7 + first
    for number in range(1, 12):
        part = parts.get(number, b"")
        pointers += struct.pack("<HII", number, len(part), at if part else 0)
        at += len(part)
    whole = framed(0, pointers) + b"".join(parts[number] for number in sorted(parts))
    rest = struct.pack("<I", 6 + len(whole)) + whole
    return struct.pack("<H", binascii.crc_hqx(rest, 0xFFFF) if crc else 0) + rest
