"""Writers of the XML formats of ECG carts, from their published descriptions: GE MUSE, HL7 aECG, Philips Sierra.

What they write is known to the last unit. Shapes: L leads, T samples; `digital` is int16 (L, T), `step` microvolts of a unit.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from vendor_files import Digital, Person

from melp_bench.leads import LEADS

# ----------------------------------------------------------------------------------------------------------- GE MUSE


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
            f"<AcquisitionTime>10:11:12</AcquisitionTime><OverreaderLastName>Overbeck</OverreaderLastName>"
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


# ---------------------------------------------------------------------------------------------------------- HL7 aECG


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


# ---------------------------------------------------------------------------------------------------- Philips Sierra


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
