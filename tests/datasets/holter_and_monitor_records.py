"""Writers of EDF, ISHNE and MFER, from their published descriptions; what they write is known to the last unit.

Shapes: L leads, T samples; `digital` is int16 (L, T), `step` microvolts and `step_nv` nanovolts of a unit.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Sequence

from scp_ecg_records import SCP_LEADS
from vendor_files import Digital, Person

from melp_bench.leads import LEADS


def edf(
    digital: Digital, labels: Sequence[str], *, step: float = 5.0, unit: str = "uV", rate: int = 500, kind: str = "",
    gap: float = 0.0, patient: str = "X X X X", records: int | None = None,
) -> bytes:  # fmt: skip
    """Return an EDF of records of one second; `kind` EDF+C or EDF+D adds the signal of onsets, `gap` seconds in its middle."""
    count, seconds = len(labels), digital.shape[1] // rate
    onsets = [n + (gap if n >= seconds // 2 else 0.0) for n in range(seconds)]
    notes = 16 if kind else 0  # samples of a record's onset
    names = [*labels, "EDF Annotations"] if kind else list(labels)
    sizes = [rate] * count + [notes] * bool(kind)
    low, high = -32768, 32767
    physical = [(f"{low * step:.8g}", f"{high * step:.8g}")] * count + [("-1", "1")] * bool(kind)

    def column(values: Sequence[object], width: int) -> bytes:
        return b"".join(str(value).encode("latin-1").ljust(width)[:width] for value in values)

    every = len(names)
    head = b"0".ljust(8) + patient.encode().ljust(80) + b"Startdate 02-JAN-2024 X X X".ljust(80) + b"02.01.2410.11.12"
    head += str(256 * (every + 1)).encode().ljust(8) + kind.encode().ljust(44)
    head += str(seconds if records is None else records).encode().ljust(8) + b"1".ljust(8) + str(every).encode().ljust(4)
    head += column(names, 16) + column([""] * every, 80) + column([unit] * count + [""] * bool(kind), 8)
    head += column([low for low, _ in physical], 8) + column([high for _, high in physical], 8)
    head += column([low] * every, 8) + column([high] * every, 8) + column([""] * every, 80) + column(sizes, 8)
    head += column([""] * every, 32)
    body = b""
    for n, onset in enumerate(onsets):
        body += digital[:, n * rate : (n + 1) * rate].astype("<i2").tobytes()
        body += f"+{onset:g}\x14\x14\x00".encode().ljust(2 * notes, b"\0") if kind else b""
    return head + body


def ishne(
    digital: Digital, leads: Sequence[str], *, step_nv: int = 5000, rate: int = 500, person: Person | None = None
) -> bytes:
    """Return an ISHNE Holter file, its lead codes 5 to 16 for the twelve leads."""
    codes = [5 + LEADS.index(lead) for lead in leads] + [-9] * (12 - len(leads))
    who = person or Person("", "", "", "1-1-1", "X")
    y, m, d = map(int, who.born.split("-"))
    head = struct.pack("<iiiih", 0, digital.shape[1], 522, 522, 1)
    head += who.first.encode().ljust(40, b"\0") + who.last.encode().ljust(40, b"\0") + who.number.encode().ljust(20, b"\0")
    head += struct.pack("<hh3h3h3h3h", 2, 0, d if person else 0, m if person else 0, y if person else 0, 2, 1, 2024, 2, 1, 2024,
                        10, 11, 12)  # fmt: skip
    head += struct.pack("<h12h12h12h", len(leads), *codes, *[0] * 12, *[step_nv] * len(leads), *[0] * (12 - len(leads)))
    head += struct.pack("<h", 0) + b"digital".ljust(40, b"\0") + struct.pack("<h", rate)
    head = head.ljust(512, b"\0")
    assert len(head) == 512
    return b"ISHNE1.0" + struct.pack("<H", binascii.crc_hqx(head, 0xFFFF)) + head + digital.T.astype("<i2").tobytes()


MFER_LEADS = SCP_LEADS


def mfer(
    digital: Digital, leads: Sequence[str], *, step_nv: int = 5000, interval_us: int | None = 2000, big: bool = False,
    gain: bool = True, person: Person | None = None, block: int | None = None,
) -> bytes:  # fmt: skip
    """Return an MFER file (ISO 22077-1): definitions as tag, length and value, then the samples in blocks of each channel."""
    order = "big" if big else "little"

    def tag(code: int, value: bytes) -> bytes:
        long = bytes([len(value)]) if len(value) < 128 else b"\x84" + len(value).to_bytes(4, "big")
        return bytes([code]) + long + value

    def number(value: int, width: int) -> bytes:
        return value.to_bytes(width, order)

    length = block or digital.shape[1]
    out = b"\x40\x20" + b"MFR Standard 12 leads ECG".ljust(32)
    out += tag(1, b"\0" if big else b"\1") + tag(5, number(len(leads), 1)) + tag(4, number(length, 2))
    out += tag(6, number(digital.shape[1] // length, 2)) + tag(8, number(1, 2)) + tag(0x0A, b"\0")
    if interval_us is not None:
        out += tag(0x0B, b"\x01" + (-6).to_bytes(1, "big", signed=True) + number(interval_us, 2))
    if gain:
        out += tag(0x0C, b"\x00" + (-9).to_bytes(1, "big", signed=True) + number(step_nv, 2))
    for n, lead in enumerate(leads):
        value = tag(9, number(MFER_LEADS[lead], 2))
        out += bytes([0x3F, n, len(value)]) + value
    if person is not None:
        y, m, d = map(int, person.born.split("-"))
        out += tag(0x81, f"{person.last}^^{person.first}".encode()) + tag(0x82, person.number.encode())
        out += tag(0x83, bytes([0]) + number(0, 2) + number(y, 2) + bytes([m, d])) + tag(0x84, b"\x02")
        out += tag(0x85, number(2024, 2) + bytes([1, 2, 10, 11, 12]) + number(0, 2) + number(0, 2))
    blocks = digital.reshape(len(leads), -1, length).transpose(1, 0, 2)
    data = blocks.astype(">i2" if big else "<i2").tobytes()
    return out + b"\x1e\x84" + len(data).to_bytes(4, "big") + data + b"\x80\x00"
