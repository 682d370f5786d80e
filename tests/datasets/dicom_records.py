"""A writer of DICOM 12-lead ECG waveforms; what it writes is known to the last unit.

Shapes: L leads, T samples; `digital` is (L, T), `sensitivity` a unit's size.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from vendor_files import Person

from melp_bench.leads import LEADS

pydicom = pytest.importorskip("pydicom", reason="pip install 'melp-bench[vendor]'")


def dicom(
    digital: np.ndarray, leads: tuple[str, ...] = LEADS, *, bits: int = 16, form: str = "SS", sensitivity: str | None = "5",
    correction: str | None = "1", baseline: str | None = "0", unit: str = "uV", rate: str = "500", naming: str = "scp",
    label: str = "RHYTHM", before: tuple[pydicom.Dataset, ...] = (),
) -> pydicom.Dataset:  # fmt: skip
    """Return a 12-lead ECG waveform with one group behind those of `before`."""
    from pydicom.dataset import Dataset

    numbers = {"I": 1, "II": 2, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64} | {f"V{n}": n + 2 for n in range(1, 7)}
    group = Dataset()
    group.MultiplexGroupLabel, group.WaveformOriginality = label, "ORIGINAL"
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = digital.shape
    group.SamplingFrequency = rate
    channels = []
    for lead in leads:
        channel, source = Dataset(), Dataset()
        source.CodingSchemeDesignator = "SCPECG" if naming == "scp" else "MDC"
        source.CodeValue = {
            "scp": f"5.6.3-9-{numbers[lead]}", "mdc": f"2:{numbers[lead]}", "text": f"MDC_ECG_LEAD_{lead.upper()}"
        }.get(naming, "x")  # fmt: skip
        source.CodeMeaning = f"Lead {lead}, of the chest" if naming == "meaning" else "unused"
        channel.ChannelSourceSequence = [source]
        if naming == "label":
            channel.ChannelLabel = lead
        if sensitivity is not None:
            units = Dataset()
            units.CodeValue, units.CodingSchemeDesignator, units.CodeMeaning = unit, "UCUM", unit
            channel.ChannelSensitivity, channel.ChannelSensitivityUnitsSequence = sensitivity, [units]
        if correction is not None:
            channel.ChannelSensitivityCorrectionFactor = correction
        if baseline is not None:
            channel.ChannelBaseline = baseline
        channel.WaveformBitsStored = bits
        channels.append(channel)
    group.ChannelDefinitionSequence = channels
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = bits, form
    kind = {(8, "SB"): "i1", (8, "UB"): "u1", (16, "SS"): "<i2", (16, "US"): "<u2", (32, "SL"): "<i4"}[bits, form]
    group.WaveformData = digital.T.astype(kind).tobytes()
    whole = Dataset()
    whole.SOPClassUID, whole.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.3"
    whole.Modality, whole.PatientAge, whole.PatientSex = "ECG", "042Y", "F"
    whole.WaveformSequence = [*(one.WaveformSequence[0] for one in before), group]
    return whole


def written(dataset: pydicom.Dataset, *, implicit: bool = False, preamble: bool = True) -> bytes:
    """Return a file's bytes."""
    file = BytesIO()
    if preamble:
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
        dataset.save_as(file, enforce_file_format=True)
    else:
        dataset.save_as(file, implicit_vr=implicit, little_endian=True)
    return file.getvalue()


def dicom_of(person: Person, digital: np.ndarray) -> bytes:
    """Return the file of someone, who is named in it as are those who worked on it."""
    from pydicom.dataset import Dataset

    whole, text = dicom(digital, naming="meaning"), Dataset()
    text.UnformattedTextValue = f"Normal ECG of {person.first}\r\nReviewed by: Dr. {person.physician}"
    whole.WaveformAnnotationSequence = [text]
    whole.PatientID, whole.PatientName = person.number, f"{person.last}^{person.first}"
    whole.PatientBirthDate, whole.PatientSex = person.born.replace("-", ""), person.sex
    del whole.PatientAge
    whole.ReferringPhysicianName, whole.AcquisitionDateTime = person.physician, "20240102101112"
    return written(whole)
