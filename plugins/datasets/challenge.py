"""Records as the PhysioNet/Computing in Cardiology Challenges package them: WFDB headers with SNOMED CT codes after `Dx:`.

Challenge: Reyna et al., Will Two Do? Varying Dimensions in Electrocardiography (2021), physionet.org/content/challenge-2021. A
folder is searched at any depth; a header counts where its name has the form of the dataset's, so that the folder of one source
and the folder of all sources may both be given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import melp_bench as mb
from melp_plugins.datasets.cells import UnreadCells, sex, years
from melp_plugins.datasets.folders import files_below
from melp_plugins.datasets.wfdb_files import comments, read_wfdb


def challenge_download(part: str) -> mb.Download:
    """Return where PhysioNet serves the records that the challenge of 2021 has of one source."""
    return mb.Download("https://physionet.org/files/challenge-2021/1.0.3/", only=(f"training/{part}",), always=("LICENSE.txt",))


def headers(source: Path, pattern: str, wanted: str) -> Iterator[Path]:
    """Yield the headers below `source` whose stem matches `pattern`, sorted; `wanted` says what they are, for the error.

    Raises:
        UserError: there is none.
    """
    found = [path for path in files_below(source, "*.hea") if re.fullmatch(pattern, path.stem)]
    if not found:
        raise mb.UserError(f"no header of {wanted} in {str(source)!r}; --from wants the folder that holds them, at any depth")
    yield from found


def challenge_infos(source: Path, pattern: str, wanted: str, unread: UnreadCells) -> Iterator[mb.RecordInfo]:
    """Yield the records below `source`; a record's id is its header's name.

    Fields that are not understood are counted in `unread`.

    Raises:
        UserError: there is none.
    """
    for path in headers(source, pattern, wanted):
        yield header_info(source, path, unread)


def header_info(source: Path, path: Path, unread: UnreadCells) -> mb.RecordInfo:
    """Return what a header's comments say: age, sex and codes."""
    fields = header_fields(path)
    codes = (code.strip() for code in fields.get("dx", "").split(","))
    return mb.RecordInfo(
        record_id=path.stem,
        statements=frozenset(code for code in codes if re.fullmatch(r"\d{4,18}", code)),
        age=unread.read(years, "age", fields.get("age", "")),
        sex=unread.read(sex, "sex", fields.get("sex", "")),
        path=path.relative_to(source).with_suffix("").as_posix(),
    )


def header_fields(path: Path) -> dict[str, str]:
    """Return a header's comments of the form "name: value", names in lower case; the first of a name counts."""
    fields: dict[str, str] = {}
    for line in comments(path):
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().casefold(), value.strip())
    return fields


def read_with_erratum(source: Path, path: str, *, erratum: float, gain: float = 1000.0) -> mb.Signal:
    """Return the record; leads whose header says `erratum` units per millivolt are read with `gain`, which is meant.

    The 2020 release of the challenge had headers with 4880/mV (Georgia), 200/mV (PTB-XL) and 2000000/mV (PTB) for samples of
    1000/mV; its organisers corrected them in 2021.
    """
    signal = read_wfdb(source, path)
    steps = signal.steps or ()
    if not steps or any(abs(step * erratum - 1) > 1e-6 for step in steps):
        return signal
    scale = erratum / gain
    return replace(
        signal, millivolts=signal.millivolts * scale, steps=tuple(step * scale for step in steps), repairs=("gain-erratum",)
    )
