"""The embedded corpus: records and reports made from physiology, any number of them, nothing stored.

Record i is a pure function of (seed, i): `case` draws patient, rhythm, diagnoses and intervals; `rhythm` the beats;
`morphology` and `heart` the dipole; `electrodes` the recording; `report` the sentences. Statements are SCP codes as in PTB-XL,
so that its tasks apply unchanged. It proves pipelines and allows pretraining without data; its rows are never ranked with
real ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

import melp_bench as mb
from melp_plugins.datasets import scp
from melp_plugins.datasets.synthetic.case import CaseParameters, draw
from melp_plugins.datasets.synthetic.electrodes import record
from melp_plugins.datasets.synthetic.heart import dipole
from melp_plugins.datasets.synthetic.report import write_report
from melp_plugins.datasets.synthetic.rhythm import MARGIN_S

__all__ = ["Synthetic", "draw", "melp_datasets", "simulate"]


def simulate(case: CaseParameters, *, rate_hz: float, seconds: float) -> mb.Signal:
    """Return the signal of a case drawn for `seconds`: twelve leads in millivolts at `rate_hz`."""
    rng = np.random.default_rng([case.seed, 5, case.index])
    num = round((seconds + 2 * MARGIN_S) * rate_hz)
    vector = dipole(case.heart, case.events, num, rate_hz, rng)
    return mb.Signal(record(vector, case.recording, seconds, rate_hz, rng), rate_hz)


class Synthetic(mb.Dataset):
    """A physiological ECG-report generator with PTB-XL's statements."""

    version = "7"
    licence = "MIT"
    citation = "McSharry et al. 2003; Sameni et al. 2007; Dower et al. 1980"
    homepage = ""
    generated = True
    has_official_folds = False

    def __init__(self, *, num_records: int = 4000, seed: int = 0, rate_hz: float = 500.0, seconds: float = 10.0) -> None:
        if num_records < 1:
            raise mb.UserError(f"num_records is {num_records}; give at least 1")
        if seed < 0:
            raise mb.UserError(f"seed is {seed}; give 0 or more")
        if not 100 <= rate_hz <= 4000:
            raise mb.UserError(f"rate_hz is {rate_hz}; give 100 to 4000")
        if not 5 <= seconds <= 120:
            raise mb.UserError(f"seconds is {seconds}; give 5 to 120")
        self.num_records, self.seed, self.rate_hz, self.seconds = num_records, seed, rate_hz, seconds

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """PTB-XL's tasks."""
        return scp.tasks()

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record; `source` is not read."""
        for index in range(self.num_records):
            case = draw(self.seed, index, self.seconds)
            yield mb.RecordInfo(
                record_id=f"s{self.seed}-{index:06d}",
                patient_id=f"s{self.seed}-p{case.patient.number:06d}",
                statements=case.statements,
                report=write_report(case),
                age=case.patient.age,
                sex=case.patient.sex,
            )

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal, made anew from (seed, i); `source` is not read."""
        case = draw(self.seed, self._index(info.record_id), self.seconds)
        return simulate(case, rate_hz=self.rate_hz, seconds=self.seconds)

    def _index(self, record_id: str) -> int:
        seed, _, index = record_id.removeprefix("s").partition("-")
        if seed != str(self.seed) or not index.isdecimal():
            raise mb.UserError(f"record {record_id!r} is not of this corpus; wanted s{self.seed}-000000 and so on")
        return int(index)


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer the corpus."""
    return [
        mb.Entry(
            name="synthetic",
            build=Synthetic,
            summary="Physiological ECG-report generator with PTB-XL's statements; no data needed",
            source="https://doi.org/10.1109/TBME.2003.808805",
            license="MIT",
        )
    ]
