"""GE MUSE XML, HL7 aECG, Philips Sierra XML, SCP-ECG, EDF, ISHNE and MFER through `ecgdatakit`, with nothing completed.

The library reads formats and leaves to its caller what it only warns of. Here a wrong checksum, a recording cut short, a gap, a
lead without gain, unit or rate is a reason to refuse the record; so are leads of several rates or lengths. Rates that it rounds
to whole hertz are taken as the file states them. Its XML goes through defusedxml (Sierra: expat without entities), so that
entities, expanding or external, are refused. What identifies people goes into `Identity` and no further.

Formats: restecg.dtd (GE); ANSI/HL7 V3 ECG R1-2004; EN 1064 and ISO 11073-91064; Philips Sierra ECG schema 1.03 and 1.04;
www.edfplus.info/specs; Badilini, The ISHNE Holter Standard Output File Format, A.N.E. 3:263 (1998); ISO 22077-1.
"""

from __future__ import annotations

import importlib
import math
import re
import struct
import warnings
from collections.abc import Collection, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import melp_bench as mb
from melp_bench.lead_names import known_lead
from melp_plugins.datasets.cells import sex
from melp_plugins.datasets.ecg_file import ECGFile, Identity, age_at, exact_step, kept_age, unknown_leads

READERS = {
    "muse": ("ge_muse_xml", "GEMuseXMLParser"),
    "aecg": ("hl7_aecg", "HL7aECGParser"),
    "sierra": ("sierra_xml", "SierraXMLParser"),
    "scp": ("scp_ecg", "SCPECGParser"),
    "edf": ("edf", "EDFParser"),
    "ishne": ("ishne_holter", "ISHNEHolterParser"),
    "mfer": ("mfer", "MFERParser"),
}
"""Kind -> module and class of the library."""
EXTRA = "pip install 'melp-bench[vendor]'"
_MILLIVOLT = {"nV": 1e-6, "uV": 1e-3, "mV": 1.0, "V": 1e3}
_DERIVED_LIMB = ("III", "aVR", "aVL", "aVF")
_REFUSED = (
    (re.compile(r"truncated(?!, ignored)|shorter than|missing sample|incomplete|no waveform data|odd number"), "truncated"),
    (re.compile(r"has gaps|without a gap"), "discontinuous"),
    (re.compile(r"using the MFER default"), "bad-rate"),
    (re.compile(r"\bis -1\b"), "truncated"),
)
"""What the library warns of and reads all the same."""
_FLAGGED = (
    (re.compile(r"dditional|only the first|not loaded|after frame"), "other-waveforms"),
    (re.compile(r"was not applied"), "offset-not-applied"),
)
_FALSE = ("", "false", "0", "no")


def read_with_ecgdatakit(path: Path, kind: str, leads: Collection[str] = ()) -> ECGFile:
    """Return what a file says; channels that are no standard lead, nor one of `leads` by name, are left out.

    Raises:
        BadRecord: it cannot be read, or does not state what its samples mean.
        UserError: the library is not installed.
    """
    parser, checksum_warning, library_error = _library(kind)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            record = parser().parse(path)
        except OSError:
            raise
        except library_error as error:
            code = "unsupported-format" if "Unsupported" in type(error).__name__ else "unreadable-samples"
            raise mb.BadRecord(code, _without_values(str(error), path)) from error
        except Exception as error:  # a broken file meets the library anywhere, with any exception there is
            raise mb.BadRecord("unreadable-samples", f"{type(error).__name__} in its {kind} content") from error
    flags = _judged([(str(one.message), one.category) for one in caught], checksum_warning, path, kind)
    signal = _signal(record, kind, leads, flags)
    identity = _identity(record)
    expert = record.annotations.get("machine_interpretation", "").splitlines()
    told = [" ".join(filter(None, pair)) for pair in record.interpretation.statements]
    acquired = record.recording.date
    age = record.patient.age
    if age is None:
        age = age_at(identity.born, acquired.date() if acquired is not None else None)
    return ECGFile(
        signal=signal,
        identity=identity,
        age=kept_age(age),
        sex=sex(record.patient.sex),
        lines=told or expert,
        measurements=_measurements(record.measurements),
    )


def _library(kind: str) -> tuple[Any, type[Warning], type[Exception]]:
    """Return the library's parser, its warning of a wrong checksum, and what its errors are."""
    module, name = READERS[kind]
    try:
        errors = importlib.import_module("ecgdatakit.exceptions")
        parser = getattr(importlib.import_module(f"ecgdatakit.parsing.parsers.{module}"), name)
    except ImportError as error:
        raise mb.UserError(f"files of this kind are read with ecgdatakit, which is not installed: {EXTRA}") from error
    return parser, errors.ChecksumWarning, errors.ECGDataKitError


def _judged(caught: Sequence[tuple[str, type[Warning]]], checksum_warning: type[Warning], path: Path, kind: str) -> list[str]:
    """Return the flags of a record for what the library warned of.

    Raises:
        BadRecord: one is a reason not to use it.
    """
    flags = []
    for text, category in caught:
        plain = _without_values(text, path)
        if issubclass(category, checksum_warning):
            if kind != "scp" or _states_checksum(path):
                raise mb.BadRecord("checksum-mismatch", plain)
            flags.append("checksum-not-stated")
        for pattern, code in _REFUSED:
            if pattern.search(plain):
                raise mb.BadRecord(code, plain)
        flags += [code for pattern, code in _FLAGGED if pattern.search(plain)]
    return list(dict.fromkeys(flags))


def _states_checksum(path: Path) -> bool:
    """Return True if an SCP-ECG record or a section of it has a checksum other than 0, which a tool writes that has none."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<I", content, 10)
    starts = [0, 6]
    for at in range(22, min(6 + length, len(content)) - 9, 10):
        _, size, index = struct.unpack_from("<HII", content, at)
        if size and 0 < index < len(content):
            starts.append(index - 1)
    return any(content[at : at + 2] != b"\0\0" for at in starts)


def _without_values(text: str, path: Path) -> str:
    """Return a message of the library without the path and what it quotes from the file, which may name a person."""
    text = text.replace(str(path), "the file").replace(path.name, "the file")
    return re.sub(r"'[^']*'|\"[^\"]*\"|\d{4,}\S*", "...", " ".join(text.split()))[:200]


# -------------------------------------------------------------------------------------------------------- waveforms


def _signal(record: Any, kind: str, wanted: Collection[str], flags: list[str]) -> mb.Signal:
    leads = [(_own_name(lead.label), lead) for lead in record.leads]
    if not leads:
        raise mb.BadRecord("missing-samples", "the file holds no rhythm strip")
    if kind == "mfer" and record.raw_metadata.get("sampling_rate_stated") is False:
        raise mb.BadRecord("bad-rate", "no sampling interval is stated")
    rates = dict(zip((id(lead) for _, lead in leads), _rates(record, kind), strict=True))
    chosen = [(name, lead) for name, lead in leads if known_lead(name) is not None or name in wanted]
    if not chosen:
        names = ", ".join(repr(name[:20]) for name, _ in leads[:16])
        raise mb.BadRecord("no-known-lead", f"has the leads {names}")
    if len({rates[id(lead)] for _, lead in chosen}) > 1:
        raise mb.BadRecord("several-rates", "its leads have several sampling rates")
    if len({len(lead.samples) for _, lead in chosen}) > 1 or any("start_sample" in lead.annotations for _, lead in chosen):
        raise mb.BadRecord("wrong-shape", "its leads have several lengths or begin at different times")
    if kind == "sierra":
        _check_sierra(record, [name for name, _ in leads])
    scaled = [_scale(name, lead, kind) for name, lead in chosen]
    millivolts = np.stack([lead.samples * step + zero for (_, lead), (step, zero) in zip(chosen, scaled, strict=True)])
    if kind == "ishne":  # the format's own sign of a lead that was off
        for row, (_, lead) in enumerate(chosen):
            millivolts[row][lead.samples == -(2**15)] = np.nan
    flags += unknown_leads([name for name, _ in leads], [name for name, _ in chosen])
    off = [name for name, lead in chosen if lead.annotations.get("LeadOff", "").casefold() not in _FALSE]
    if off:
        flags.append(f"lead-off: {', '.join(off)}")
    return mb.Signal(
        millivolts.astype(np.float32),
        rates[id(chosen[0][1])],
        tuple(name for name, _ in chosen),
        tuple(exact_step(step, zero) for step, zero in scaled),
        quality_flags=tuple(flags),
    )


def _own_name(label: str) -> str:
    """Return the name in the file: the library tells the second "V1" apart as "V1_2"."""
    twice = re.fullmatch(r"(.+)_\d+", label)
    return twice[1] if twice and known_lead(twice[1]) is not None else label


def _rates(record: Any, kind: str) -> list[float]:
    """Return each lead's rate, not rounded."""
    meta, leads = record.raw_metadata, record.leads
    rates = [float(lead.sampling_rate) for lead in leads]
    if kind == "aecg":
        rates = [float(meta["rhythm_time"]["sampling_rate_exact"])] * len(leads)
    elif kind == "scp":
        rates = [1e6 / meta["rhythm_sample_interval_us"]] * len(leads)
    elif kind == "mfer":
        rates = [float(rate) for rate in meta["sampling_rates"]]
    elif kind == "edf":
        exact = meta.get("exact_sampling_rates", {})
        rates = [float(exact.get(lead.label, lead.sampling_rate)) for lead in leads]
    return [round(rate) if math.isclose(rate, round(rate), rel_tol=1e-9) else rate for rate in rates]


def _scale(name: str, lead: Any, kind: str) -> tuple[float, float]:
    """Return millivolts of one unit of a lead, and of its zero."""
    if lead.resolution_unit not in _MILLIVOLT:
        code = "unknown-unit" if lead.resolution_unit or lead.adc_resolution_unit else "bad-gain"
        raise mb.BadRecord(code, f"lead {name[:20]!r} states no gain in a unit of voltage: its amplitudes mean nothing")
    step, zero = (float(value) * _MILLIVOLT[lead.resolution_unit] for value in (lead.resolution, lead.offset))
    turned = kind == "edf"  # whose physical maximum may lie below the minimum
    if not (math.isfinite(step) and math.isfinite(zero)) or step == 0 or (step < 0 and not turned):
        raise mb.BadRecord("bad-gain", f"lead {name[:20]!r} has the gain {lead.resolution!r}; wanted a positive number")
    return step, zero


def _check_sierra(record: Any, names: Sequence[str]) -> None:
    """Refuse compressed limb leads that are not in the one order in which they are stored as differences from I and II."""
    compressed = (record.recording.acquisition.signal.compression or "").upper() == "XLI"
    if compressed and tuple(names[:6]) != mb.LEADS[:6] and any(name in _DERIVED_LIMB for name in names):
        raise mb.BadRecord("unsupported-format", "compressed limb leads in an order of their own")


# ---------------------------------------------------------------------------------------------------------- patients


def _identity(record: Any) -> Identity:
    patient, recording, meta = record.patient, record.recording, record.raw_metadata
    names = [patient.first_name, patient.last_name, *(str(meta.get(key, "")) for key in _NAMES)]
    others = [recording.technician, recording.referring_physician, record.interpretation.interpreter]
    others += [str(value) for key, value in meta.items() if _TELLS.search(key.casefold()) and isinstance(value, str)]
    born = patient.birth_date
    return Identity(
        number=patient.patient_id,
        names=tuple(name for name in names if name),
        born=date(born.year, born.month, born.day) if born is not None else None,
        others=tuple(name for name in others if name),
    )


_NAMES = ("patient_middle_name", "patient_name_phonetic", "second_last_name", "patient_birth_name")
_TELLS = re.compile(r"physician|mdid|mdlastname|mdfirstname|investigator|performer|clinician|secondaryid|accession|order")


def _measurements(measured: Any) -> dict[str, float]:
    return {name: float(value) for name, value in _fields(measured) if value is not None and math.isfinite(value)}


def _fields(measured: Any) -> Iterator[tuple[str, float | None]]:
    for name in (
        "heart_rate",
        "rr_interval",
        "pr_interval",
        "qrs_duration",
        "qt_interval",
        "qtc_bazett",
        "qtc_fridericia",
        "p_axis",
        "qrs_axis",
        "t_axis",
        "qrs_count",
    ):
        yield name, getattr(measured, name)
