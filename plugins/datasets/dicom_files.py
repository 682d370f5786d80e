"""DICOM waveforms (PS3.3 C.10.9) through `pydicom`: the rhythm strip of a file, its groups and channels read strictly.

A channel is by its coded source (PS3.16 CID 3001: SCP-ECG, MDC), its meaning or its label; its millivolts are sample x
sensitivity x correction + baseline, in the unit that it states. A group labelled as median or representative beat is no rhythm
strip; of several others the one with most standard leads is read, then the longest. Files without preamble and with implicit
types are read; deflated ones are refused, for a small one may hold any amount.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import melp_bench as mb
from melp_bench.lead_names import known_lead
from melp_plugins.datasets.cells import sex, years
from melp_plugins.datasets.ecg_file import ECGFile, Identity, age_at, exact_step, kept_age, unknown_leads

EXTRA = "pip install 'melp-bench[vendor]'"
_TYPES = {(8, "SB"): "i1", (8, "UB"): "u1", (16, "SS"): "i2", (16, "US"): "u2", (32, "SL"): "i4", (32, "UL"): "u4"}
_MILLIVOLT = {"uv": 1e-3, "\u03bcv": 1e-3, "microvolt": 1e-3, "mv": 1.0, "millivolt": 1.0, "v": 1e3, "volt": 1e3, "nv": 1e-6}
_CODES = {1: "I", 2: "II", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF", 65: "-aVR"} | {n + 2: f"V{n}" for n in range(1, 7)}
"""Numbers of leads in SCP-ECG and MDC, which are the same."""
_MEDIAN = re.compile(r"median|representative|average|template", re.IGNORECASE)
_MOST_CHANNELS, _MOST_SAMPLES = 64, 100_000_000
_DEFLATED = "1.2.840.10008.1.2.1.99"
_PEOPLE = (
    "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "PhysiciansOfRecord", "RequestingPhysician",
    "NameOfPhysiciansReadingStudy", "AccessionNumber", "StudyID", "OtherPatientIDs",
)  # fmt: skip


def read_dicom(path: Path, leads: Collection[str] = ()) -> ECGFile:
    """Return what a file says; channels that are no standard lead, nor one of `leads` by name, are left out.

    Raises:
        BadRecord: it cannot be read, or does not state what its samples mean.
        UserError: the library is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise mb.UserError(f"DICOM files are read with pydicom, which is not installed: {EXTRA}") from error
    with path.open("rb") as file:
        bare = file.read(132)[128:] != b"DICM"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if not bare and str(pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID", "")) == _DEFLATED:
                raise mb.BadRecord("unsupported-format", "a deflated DICOM file; write it anew without compression")
            dataset = pydicom.dcmread(path, force=bare)
            return _content(dataset, leads)
        except (OSError, mb.BadRecord):
            raise
        except Exception as error:  # values are decoded where they are touched, and fail with any exception there is
            raise mb.BadRecord("unreadable-samples", f"{type(error).__name__} in its DICOM content") from error


def _content(dataset: Any, leads: Collection[str]) -> ECGFile:
    groups = list(dataset.get("WaveformSequence") or ())
    strips = [group for group in groups if not _MEDIAN.search(str(group.get("MultiplexGroupLabel") or ""))]
    if not strips:
        what = "only median beats" if groups else "no waveform"
        raise mb.BadRecord("missing-samples", f"the file holds {what}; wanted a rhythm strip")
    signals, refusal = [], None
    for group in strips:
        try:
            signals.append(_signal(group, dataset, leads))
        except mb.BadRecord as error:
            refusal = refusal or error
    if not signals:
        raise refusal or mb.BadRecord("missing-samples", "the file holds no rhythm strip")
    best = max(signals, key=lambda one: (sum(known_lead(name) is not None for name in one.leads), one.millivolts.shape[1]))
    if len(strips) > 1:
        best = mb.Signal(
            best.millivolts, best.rate_hz, best.leads, best.steps, quality_flags=(*best.quality_flags, "other-waveforms")
        )
    identity = _identity(dataset)
    age = years(str(dataset.get("PatientAge") or ""))
    if age is None:
        age = age_at(identity.born, _taken(dataset))
    annotations = list(dataset.get("WaveformAnnotationSequence") or ())
    lines = [str(one.UnformattedTextValue) for one in annotations if one.get("UnformattedTextValue")]
    return ECGFile(
        signal=best,
        identity=identity,
        age=kept_age(age),
        sex=sex(str(dataset.get("PatientSex") or "")),
        lines=[line for text in lines for line in text.splitlines()],
        measurements=_measurements(annotations),
    )


# -------------------------------------------------------------------------------------------------------- waveforms


def _signal(group: Any, dataset: Any, wanted: Collection[str]) -> mb.Signal:
    """Return a multiplex group as a signal."""
    digital = _digital(group, dataset)  # (T, L)
    rate_hz = _number(group.get("SamplingFrequency"))
    if rate_hz is None or rate_hz <= 0:
        raise mb.BadRecord("bad-rate", "the file states no sampling frequency")
    channels = list(group.get("ChannelDefinitionSequence") or ())
    if len(channels) != digital.shape[1]:
        raise mb.BadRecord("wrong-shape", f"{len(channels)} channels are defined, {digital.shape[1]} are stored")
    names = [_lead_name(channel) for channel in channels]
    rows = [row for row, name in enumerate(names) if known_lead(name) is not None or name in wanted]
    if not rows:
        raise mb.BadRecord("no-known-lead", f"has the leads {', '.join(repr(name[:20]) for name in names[:16])}")
    scales = [_scale(names[row], channels[row]) for row in rows]
    millivolts = np.stack([digital[:, row] * step + zero for row, (step, zero) in zip(rows, scales, strict=True)])
    padding = group.get("WaveformPaddingValue")
    if isinstance(padding, bytes) and len(padding) >= digital.dtype.itemsize:
        stands_for_none = np.frombuffer(padding[: digital.dtype.itemsize], digital.dtype)[0]
        millivolts[(digital[:, rows] == stands_for_none).T] = np.nan
    skews = [_number(channels[row].get("ChannelTimeSkew")) or 0.0 for row in rows]
    shifts = [_number(channels[row].get("ChannelSampleSkew")) or 0.0 for row in rows]
    late = [abs(skew * rate_hz + shift) for skew, shift in zip(skews, shifts, strict=True)]
    flags = ["skewed-leads"] if max(late) >= 1 else []
    return mb.Signal(
        millivolts.astype(np.float32),
        rate_hz,
        tuple(names[row] for row in rows),
        tuple(exact_step(step, zero) for step, zero in scales),
        quality_flags=(*flags, *unknown_leads(names, [names[row] for row in rows])),
    )


def _digital(group: Any, dataset: Any) -> NDArray[Any]:
    """Return a group's samples (T, L), whose number and type it must state as they are."""
    count, samples = int(group.get("NumberOfWaveformChannels") or 0), int(group.get("NumberOfWaveformSamples") or 0)
    if not (0 < count <= _MOST_CHANNELS and 0 < samples <= _MOST_SAMPLES):
        raise mb.BadRecord("missing-samples", f"{count} channels of {samples} samples are stated")
    form = int(group.get("WaveformBitsAllocated") or 0), str(group.get("WaveformSampleInterpretation") or "")
    if form not in _TYPES:
        raise mb.BadRecord("unsupported-format", f"samples are of {form[0]} bits, {form[1] or 'no interpretation'!r}")
    data = bytes(group.get("WaveformData") or b"")
    kind = np.dtype(_TYPES[form]).newbyteorder("<" if _is_little_endian(dataset) else ">")
    wanted = count * samples * kind.itemsize
    if not wanted <= len(data) <= wanted + 1:  # a value of odd length has a byte behind it
        raise mb.BadRecord("truncated", f"{len(data)} bytes of samples are there; {wanted} are stated")
    return np.frombuffer(data[:wanted], kind).reshape(samples, count)


def _is_little_endian(dataset: Any) -> bool:
    encoding = getattr(dataset, "original_encoding", (None, None))
    return encoding[1] is not False


def _scale(name: str, channel: Any) -> tuple[float, float]:
    """Return millivolts of one unit of a channel, and of its zero."""
    sensitivity, correction = _number(channel.get("ChannelSensitivity")), channel.get("ChannelSensitivityCorrectionFactor")
    factor = 1.0 if correction in (None, "") else _number(correction)
    baseline = channel.get("ChannelBaseline")
    zero = 0.0 if baseline in (None, "") else _number(baseline)
    if not sensitivity or not factor or zero is None or sensitivity * factor < 0:
        raise mb.BadRecord("bad-gain", f"lead {name[:20]!r} states no sensitivity: its amplitudes mean nothing")
    unit = _first(channel, "ChannelSensitivityUnitsSequence")
    texts = [str(unit.get(key) or "").strip().casefold() for key in ("CodeValue", "CodeMeaning")] if unit is not None else []
    scale = next((_MILLIVOLT[text] for text in texts if text in _MILLIVOLT), None)
    if scale is None:
        raise mb.BadRecord("unknown-unit", f"lead {name[:20]!r} is in {(texts or ['no unit'])[0][:20]!r}; wanted uV, mV or V")
    return sensitivity * factor * scale, zero * scale


def _lead_name(channel: Any) -> str:
    """Return a channel's lead: by code, else by the code's meaning, else by its label."""
    source = _first(channel, "ChannelSourceSequence")
    meaning = str(source.get("CodeMeaning") or "").strip() if source is not None else ""
    if source is not None:
        value = str(source.get("CodeValue") or "").strip()
        number = re.fullmatch(r"(?:2:|5\.6\.3-9-)(\d{1,3})", value)
        if number and int(number[1]) in _CODES:
            return _CODES[int(number[1])]
        if known_lead(value) is not None:  # MDC_ECG_LEAD_V1
            return value
    label = str(channel.get("ChannelLabel") or "").strip()
    return next(
        (name for name in (meaning, meaning.partition(",")[0], label) if known_lead(name) is not None), meaning or label
    )


def _first(item: Any, name: str) -> Any:
    sequence = item.get(name)
    return sequence[0] if sequence else None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


# ---------------------------------------------------------------------------------------------------------- patients


def _identity(dataset: Any) -> Identity:
    people = [str(dataset.get(name) or "") for name in _PEOPLE]
    return Identity(
        number=str(dataset.get("PatientID") or ""),
        names=tuple(str(dataset.get(name) or "") for name in ("PatientName", "OtherPatientNames", "PatientBirthName")),
        born=_date(dataset.get("PatientBirthDate")),
        others=tuple(filter(None, people)),
    )


def _date(value: Any) -> date | None:
    text = str(value or "")[:8]
    try:
        return datetime.strptime(text, "%Y%m%d").date() if len(text) == 8 else None
    except ValueError:
        return None


def _taken(dataset: Any) -> date | None:
    names = ("AcquisitionDateTime", "AcquisitionDate", "ContentDate", "StudyDate")
    return next((day for name in names if (day := _date(dataset.get(name))) is not None), None)


def _measurements(annotations: Sequence[Any]) -> dict[str, float]:
    """Return numbers that the file states once, by what it calls them ("qt_interval"); those of single beats it repeats."""
    found: list[tuple[str, float]] = []
    for one in annotations:
        concept, number = _first(one, "ConceptNameCodeSequence"), one.get("NumericValue")
        value = _number(number[0] if isinstance(number, (list, tuple)) or type(number).__name__ == "MultiValue" else number)
        name = re.sub(r"\W+", "_", str(concept.get("CodeMeaning") or "").casefold()).strip("_") if concept is not None else ""
        if name and value is not None:
            found.append((name, value))
    times = Counter(name for name, _ in found)
    return {name: value for name, value in found if times[name] == 1}
