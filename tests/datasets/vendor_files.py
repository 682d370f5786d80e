"""Writers of the formats of ECG carts, from their published descriptions; what they write is known to the last unit.

Shapes: L leads, T samples; `digital` is int16 (L, T), `step` microvolts of a unit.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.leads import LEADS
from melp_plugins.datasets.synthetic import Synthetic

EIGHT = ("I", "II", *LEADS[6:])
Digital = NDArray[np.int16]


@dataclass(frozen=True)
class Person:
    """Someone whom no store may know."""

    number: str = "MRN7719364"
    first: str = "Wilhelmina"
    last: str = "Vanderquist"
    born: str = "1931-07-23"
    sex: str = "F"
    physician: str = "Okonkwo"

    @property
    def secrets(self) -> tuple[str, ...]:
        y, m, d = self.born.split("-")
        dates = (self.born, f"{y}{m}{d}", f"{m}-{d}-{y}", f"{d}{m}{y}", f"{d}-JUL-{y}", f"{d}.{m}.{y}")
        return (self.number, self.number.removeprefix("MRN"), self.first, self.last, self.physician, *dates)


def heart(seconds: float = 3.0, rate_hz: float = 500.0, step: float = 5.0, seed: int = 0) -> Digital:
    """Return twelve leads of a made heart (12, T), limb leads by Einthoven and Goldberger to half a unit."""
    made = Synthetic(num_records=1, seed=seed)
    signal = made.signal(None, next(iter(made.infos(None))))  # type: ignore[arg-type]
    own = np.arange(round(seconds * rate_hz)) / rate_hz
    time = np.arange(signal.millivolts.shape[1]) / signal.rate_hz
    x = np.stack([np.interp(own, time, row) for row in signal.millivolts])
    return np.rint(x * 1000 / step).astype(np.int16)


def rows(digital: Digital, leads: Sequence[str]) -> Digital:
    return digital[[LEADS.index(lead) for lead in leads]]


# ------------------------------------------------------------------------------------------------------------ GE MUSE


def muse_waveform(
    kind: str, digital: Digital, leads: Sequence[str], *, rate: str = "500", step: str = "5", units: str = "MICROVOLTS",
    crc: bool = True, more: str = "", exponent: str = "0",
) -> str:  # fmt: skip
    """Return a <Waveform> of restecg.dtd."""
    parts = []
    for lead, row in zip(leads, digital, strict=True):
        data = row.astype("<i2").tobytes()
        check = f"<LeadDataCRC32>{zlib.crc32(data)}</LeadDataCRC32>" if crc else ""
        gain = f"<LeadAmplitudeUnitsPerBit>{step}</LeadAmplitudeUnitsPerBit>" if step else ""
        unit = f"<LeadAmplitudeUnits>{units}</LeadAmplitudeUnits>" if units else ""
        text = "\n".join(base64.encodebytes(data).decode().split())
        parts.append(
            f"<LeadData><LeadByteCountTotal>{len(data)}</LeadByteCountTotal><LeadTimeOffset>0</LeadTimeOffset>"
            f"<LeadSampleCountTotal>{len(row)}</LeadSampleCountTotal>{gain}{unit}<LeadSampleSize>2</LeadSampleSize>"
            f"<LeadOff>FALSE</LeadOff>{more}{check}<LeadID>{lead}</LeadID><WaveFormData>{text}</WaveFormData></LeadData>"
        )
    return (
        f"<Waveform><WaveformType>{kind}</WaveformType><NumberofLeads>{len(leads)}</NumberofLeads><SampleBase>{rate}</SampleBase>"
        f"<SampleExponent>{exponent}</SampleExponent>{''.join(parts)}</Waveform>"
    )


def muse(
    waveforms: str, *, person: Person | None = None, statements: Sequence[str] = (), encoding: str = "ISO-8859-1"
) -> bytes:
    """Return a MUSE file."""
    who = ""
    if person is not None:
        y, m, d = person.born.split("-")
        who = (
            f"<PatientDemographics><PatientID>{person.number}</PatientID><DateofBirth>{m}-{d}-{y}</DateofBirth>"
            f"<PatientAge>93</PatientAge><AgeUnits>YEARS</AgeUnits><Gender>FEMALE</Gender>"
            f"<PatientLastName>{person.last}</PatientLastName><PatientFirstName>{person.first}</PatientFirstName>"
            f"</PatientDemographics><TestDemographics><AcquisitionDate>01-02-2024</AcquisitionDate>"
            f"<AcquisitionTime>10:11:12</AcquisitionTime><OverreaderLastName>{person.physician}</OverreaderLastName>"
            f"<ReferringMDLastName>{person.physician}</ReferringMDLastName></TestDemographics>"
        )
    said = "".join(
        f"<DiagnosisStatement><StmtFlag>ENDSLINE</StmtFlag><StmtText>{text}</StmtText></DiagnosisStatement>"
        for text in statements
    )
    return (
        f'<?xml version="1.0" encoding="{encoding}"?>\n<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n<RestingECG><MuseInfo>'
        f"<MuseVersion>8.0.2.10132</MuseVersion></MuseInfo>{who}<RestingECGMeasurements><VentricularRate>61</VentricularRate>"
        f"<PRInterval>158</PRInterval><QTInterval>402</QTInterval></RestingECGMeasurements>"
        f"<Diagnosis><Modality>RESTING</Modality>{said}</Diagnosis>{waveforms}</RestingECG>"
    ).encode(encoding if encoding.upper() != "UTF-16" else "utf-16")


# ----------------------------------------------------------------------------------------------------------- HL7 aECG


def aecg_series(
    code: str, digital: Digital, leads: Sequence[str], *, step: str = "5", unit: str = "uV", origin: str = "0",
    increment: tuple[str, str] = ("0.002", "s"), inner: str = "", element: str = "series", p: str = "",
) -> str:  # fmt: skip
    """Return a series with one sequence set; `p` is the namespace's prefix with its colon."""
    scale = f'<{p}scale value="{step}" unit="{unit}"/>' if step else ""
    sequences = "".join(
        f'<{p}component><{p}sequence><{p}code code="MDC_ECG_LEAD_{lead.upper()}" codeSystem="2.16.840.1.113883.6.24"/>'
        f'<{p}value xsi:type="SLIST_PQ"><{p}origin value="{origin}" unit="{unit}"/>{scale}'
        f"<{p}digits>{' '.join(map(str, row))}</{p}digits></{p}value></{p}sequence></{p}component>"
        for lead, row in zip(leads, digital.tolist(), strict=True)
    )
    return (
        f'<{p}{element}><{p}code code="{code}"/><{p}component><{p}sequenceSet><{p}component><{p}sequence>'
        f'<{p}code code="TIME_RELATIVE"/><{p}value xsi:type="GLIST_PQ"><{p}head value="0" unit="s"/>'
        f'<{p}increment value="{increment[0]}" unit="{increment[1]}"/></{p}value></{p}sequence></{p}component>'
        f"{sequences}</{p}sequenceSet></{p}component>{inner}</{p}{element}>"
    )


def aecg(series: str, *, p: str = "", person: Person | None = None) -> bytes:
    """Return an aECG document."""
    space = 'xmlns="urn:hl7-org:v3"' if not p else f'xmlns:{p[:-1]}="urn:hl7-org:v3"'
    who = ""
    if person is not None:
        who = (
            f"<{p}componentOf><{p}timepointEvent><{p}componentOf><{p}subjectAssignment><{p}subject><{p}trialSubject>"
            f'<{p}id extension="{person.number}"/><{p}subjectDemographicPerson><{p}name>{person.first} {person.last}</{p}name>'
            f'<{p}administrativeGenderCode code="F"/><{p}birthTime value="{person.born.replace("-", "")}"/>'
            f"</{p}subjectDemographicPerson></{p}trialSubject></{p}subject></{p}subjectAssignment></{p}componentOf>"
            f"</{p}timepointEvent></{p}componentOf>"
        )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><{p}AnnotatedECG {space} xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f'<{p}effectiveTime><{p}low value="20240102101112"/></{p}effectiveTime>{who}'
        f"<{p}component>{series}</{p}component></{p}AnnotatedECG>"
    ).encode()


# ------------------------------------------------------------------------------------------------------- Philips Sierra


def sierra(
    digital: Digital, leads: Sequence[str] = LEADS, *, form: str = "XLI", version: str = "1.04", resolution: str = "5",
    person: Person | None = None, seconds: float | None = None,
) -> bytes:  # fmt: skip
    """Return a Sierra file, its samples as `XLI`, `Base64` or `Plain`."""
    if form == "XLI":
        data = base64.b64encode(b"".join(xli_chunk(row) for row in limb_residuals(digital, leads))).decode()
    elif form == "Base64":
        data = base64.b64encode(digital.astype("<i2").tobytes()).decode()
    else:
        data = " ".join(map(str, digital.ravel().tolist()))
    length = round(1000 * (digital.shape[1] / 500 if seconds is None else seconds))
    method = 'compression="XLI" ' if form == "XLI" else ""
    encoding = "Plain" if form == "Plain" else "Base64"
    who = person or Person("", "", "", "", "")
    gain = f"<resolution>{resolution}</resolution>" if resolution else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><restingecgdata xmlns="http://www3.medical.philips.com"><documentinfo>'
        f"<documenttype>SierraECG</documenttype><documentversion>{version}</documentversion></documentinfo>"
        f'<dataacquisition date="2024-01-02" time="10:11:12"><signalcharacteristics><samplingrate>500</samplingrate>{gain}'
        f"<signaloffset>0</signaloffset><signalsigned>True</signalsigned>"
        f"<numberchannelsallocated>{len(leads)}</numberchannelsallocated><numberchannelsvalid>{len(leads)}</numberchannelsvalid>"
        f"<acquisitiontype>STD-12</acquisitiontype></signalcharacteristics><acquirer><referringclinician>{who.physician}"
        f"</referringclinician></acquirer></dataacquisition><patient><generalpatientdata><patientid>{who.number}</patientid><name>"
        f"<lastname>{who.last}</lastname><firstname>{who.first}</firstname></name><age><dateofbirth>{who.born}</dateofbirth></age>"
        f"<sex>Female</sex></generalpatientdata></patient><interpretations><interpretation><statement><statementcode>SR"
        f"</statementcode><leftstatement>Sinus rhythm</leftstatement></statement></interpretation></interpretations><waveforms>"
        f'<parsedwaveforms dataencoding="{encoding}" {method}durationperchannel="{length}" numberofleads="{len(leads)}" '
        f'leadlabels="{" ".join(leads)}" samplespersecond="500">{data}</parsedwaveforms></waveforms></restingecgdata>'
    ).encode()


def limb_residuals(digital: Digital, leads: Sequence[str]) -> NDArray[np.int64]:
    """Return what Sierra stores: III, aVR, aVL and aVF as what I and II do not foretell of them."""
    x = digital.astype(np.int64)
    if tuple(leads[:6]) != LEADS[:6]:
        return x
    i, ii, iii = x[0], x[1], x[2]
    stored = x.copy()
    stored[2] = ii - i - iii
    stored[3] = -x[3] - (i + ii) // 2
    stored[4] = (i - iii) // 2 - x[4]
    stored[5] = (ii + iii) // 2 - x[5]
    return stored


def xli_chunk(row: NDArray[np.int64]) -> bytes:
    """Return a lead as XLI: second differences, high bytes before low bytes, in LZW of codes of 10 bits."""
    x = row.tolist()
    codes = x[:2]
    misses = [2 * x[n - 1] - x[n - 2] - x[n] for n in range(2, len(x))]
    start = misses[0]  # in the chunk's header; each code, less 64, is the miss of the sample behind its own
    codes += [miss + 64 for miss in misses[1:]] + [64]
    words = np.array(codes, dtype=np.int64).astype(np.int16).view(np.uint16)
    body = lzw(bytes((words >> 8).astype(np.uint8)) + bytes((words & 255).astype(np.uint8)))
    return struct.pack("<iHh", len(body), 0, start) + body


def lzw(data: bytes, bits: int = 10) -> bytes:
    """Return `data` in LZW, most significant bit first, codes of one width, a table that is full stays."""
    table = {bytes([n]): n for n in range(256)}
    most, codes, word = (1 << bits) - 2, [], b""
    for value in data:
        longer = word + bytes([value])
        if longer in table:
            word = longer
            continue
        codes.append(table[word])
        if len(table) <= most:
            table[longer] = len(table)
        word = bytes([value])
    codes.append(table[word])
    codes.append((1 << bits) - 1)
    text = "".join(f"{code:0{bits}b}" for code in codes)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


# ------------------------------------------------------------------------------------------------------------ SCP-ECG

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
    fiducial: int = 0, crc: bool = True, text: str = "Sinus rhythm",
) -> bytes:  # fmt: skip
    """Return an SCP-ECG record; with `beat` (L, t), a reference beat is subtracted at `fiducials` (samples from 1)."""
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
    sections[6] = scp_leads(coded, step_nv, interval_us, order)
    line = text.encode() + b"\0"
    sections[8] = struct.pack("<BHBBBBBB", 0, 2024, 1, 2, 10, 11, 12, 1) + struct.pack("<BH", 1, len(line)) + line
    return scp_record(sections, crc=crc)


def scp_leads(coded: Sequence[bytes], step_nv: int, interval_us: int, order: int) -> bytes:
    sizes = b"".join(struct.pack("<H", len(part)) for part in coded)
    return struct.pack("<HHBB", step_nv, interval_us, order, 0) + sizes + b"".join(coded)


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


# ------------------------------------------------------------------------------------------------ EDF, ISHNE and MFER


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
