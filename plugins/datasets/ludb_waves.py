"""LUDB with the waves that cardiologists marked: onset, peak and offset of each P wave, QRS complex and T wave of one lead.

Paper: Kalyakulina et al., LUDB: A New Open-Access Validation Tool for Electrocardiogram Delineation Algorithms, IEEE Access
8:186181 (2020). Leads were marked one by one; the option says whose marks are read, lead II's as usual. The first and the last
beats of a record are mostly not marked: nothing is known outside the first onset and the last offset. Marks are measurements of
a record (see `wave_measurements`), and kinds that it has are statements: "wave: P". Signals and the rest are those of `ludb`,
whose records these are: what tells the datasets apart is what is said of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import melp_bench as mb
from melp_bench.leads import LEADS
from melp_bench.records import wave_measurements
from melp_plugins.datasets.annotated_segments import Annotation, read_annotations
from melp_plugins.datasets.ludb import LUDB

RATE_HZ = 500.0
KINDS = {"p": "P", "N": "QRS", "t": "T"}
PROMPTS = {"P": ("P wave", "P wave present"), "QRS": ("QRS complex", "QRS complex present"), "T": ("T wave", "T wave present")}


class LUDBWaves(LUDB):
    """LUDB and the marks of one lead."""

    version = "1.0.1 (uV), waves"

    def __init__(self, *, lead: str = "II") -> None:
        """Check the option.

        Raises:
            UserError: it is none of the twelve leads.
        """
        if lead not in LEADS:
            raise mb.UserError(f"dataset 'ludb-waves' has lead = {lead!r}; wanted one of {', '.join(LEADS)}")
        self.lead = lead

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """Which waves a record has, and, for `delineation`, where."""
        return {"waves": mb.Task("waves", {kind: frozenset({f"wave: {kind}"}) for kind in PROMPTS}, PROMPTS, True)}

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record with its waves.

        Raises:
            UserError: the table or a record's marks cannot be read.
        """
        for info in super().infos(source):
            waves = marked_waves(read_annotations(source / (info.path or ""), self.lead.lower()))
            kinds = frozenset(f"wave: {wave.kind}" for wave in waves)
            yield replace(info, statements=info.statements | kinds, measurements=wave_measurements(waves))

    def files(self, source: Path, info: mb.RecordInfo) -> Iterator[str]:
        """Yield the files of the signal, and that of the marks."""
        yield from super().files(source, info)
        yield f"{info.path}.{self.lead.lower()}"


def marked_waves(marks: list[Annotation]) -> list[mb.Wave]:
    """Return the waves of a lead's marks; an onset or offset that is not marked (in 14 of 4,874 of lead II) is the peak."""
    waves = []
    for place, mark in enumerate(marks):
        if mark.symbol not in KINDS:
            continue
        before, after = marks[place - 1] if place else None, marks[place + 1] if place + 1 < len(marks) else None
        onset = before.sample if before is not None and before.symbol == "(" else mark.sample
        offset = after.sample if after is not None and after.symbol == ")" else mark.sample
        waves.append(mb.Wave(KINDS[mark.symbol], onset / RATE_HZ, mark.sample / RATE_HZ, offset / RATE_HZ))
    return waves


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer LUDB with its waves."""
    return [
        mb.Entry(
            name="ludb-waves",
            build=LUDBWaves,
            summary="LUDB's 200 records with P waves, QRS complexes and T waves marked by cardiologists",
            source=LUDB.homepage,
            license=LUDB.licence,
        )
    ]
