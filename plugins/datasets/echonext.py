"""EchoNext: 100,000 ECGs of 10 s at 250 Hz of 36,286 patients with what an echocardiogram found; the publisher's split.

Data: Elias and Finer, EchoNext: A Dataset for Detecting Echocardiogram-Confirmed Structural Heart Disease from ECGs, PhysioNet
(2025); paper: Poterucha et al., Detecting structural heart disease from electrocardiograms using AI, Nature (2025). Reads
`echonext_metadata_100k.csv` and the arrays `EchoNext_SPLIT_waveforms.npy` of (N, 1, 2500, 12), whose rows are the table's rows
of that split in its order. PhysioNet asks for a signed agreement and a login.

- The publisher's train is folds 1 to 8 by patient, its val fold 9, its test fold 10. `no_split` are earlier ECGs of patients
  of val and test; they are left out, since training on them would be training on the tested patients.
- A flag is 0 also where the echocardiogram did not measure the quantity: a negative is "no finding", not "measured and normal".
- Samples are not millivolts: the publisher removed the baseline by a median filter, clipped, and standardised with a mean and
  deviation that it does not state. A unit is taken as 0.2 mV (`unit_millivolts`), which is what the same steps leave of
  PTB-XL's records (0.19 mV), and each record is flagged `unit-estimated`: voltage criteria mean little here.

Written from the descriptions of PhysioNet and of others who have the files; none was at hand. The release names no leads: that
they are in the usual order is others' finding, by Einthoven's law.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

import melp_bench as mb
from melp_bench.records import stated
from melp_bench.splits import TEST_FOLD, VALIDATION_FOLD, hash_fold
from melp_plugins.datasets.cells import UnreadCells, sex, truth, years
from melp_plugins.datasets.folders import files_below
from melp_plugins.datasets.tables import read_table
from melp_plugins.datasets.task_tables import read_tasks

_TABLE = "echonext_metadata_100k.csv"
_LEFT_OUT = "no_split"
_SPLITS = ("train", "val", "test", _LEFT_OUT)
_MEASURED = ("ventricular_rate", "atrial_rate", "pr_interval", "qrs_duration", "qt_corrected")
_RATE_HZ = 250.0
_SHAPE = (1, 2500, 12)


class EchoNext(mb.Dataset):
    """EchoNext; `unit_millivolts` is what one unit of its standardised samples is taken for."""

    version = "1.1.0"
    licence = "PhysioNet Restricted Health Data License 1.5.0"
    citation = (
        "Elias and Finer, EchoNext (2025), PhysioNet doi:10.13026/r9pp-3y42 (of 1.0.0); "
        "Poterucha et al., Nature (2025), doi:10.1038/s41586-025-09227-0"
    )
    homepage = "https://physionet.org/content/echonext/1.1.0/"
    download = mb.Download("https://physionet.org/files/echonext/1.1.0/", always=(_TABLE, "LICENSE.txt"))
    has_official_folds = True
    num_records = 82_543

    def __init__(self, *, unit_millivolts: float = 0.2) -> None:
        if not (math.isfinite(unit_millivolts) and unit_millivolts > 0):
            raise mb.UserError(f"unit_millivolts is {unit_millivolts!r}; wanted a positive number")
        self.unit_millivolts = unit_millivolts

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """Structural heart disease at all, and the findings that it is made of."""
        return read_tasks("echonext_tasks.toml")

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record of the publisher's three parts."""
        tables = files_below(source, _TABLE)
        if not tables:
            raise mb.UserError(f"no {_TABLE} in {str(source)!r}; --from wants the folder that holds it")
        folder, unread = tables[0].parent.relative_to(source), UnreadCells()
        flags = sorted(s for task in self.tasks.values() for some in task.members.values() for s in some if " " not in s)
        rows_of: Counter[str] = Counter()
        for row, place in read_table(tables[0], ("ecg_key", "patient_key", "split", *flags)):
            split = row["split"]
            if split not in _SPLITS or not stated(row["ecg_key"]) or not stated(row["patient_key"]):
                raise mb.UserError(f"{place}: split is {split[:20]!r}; wanted a whole row, with one of {', '.join(_SPLITS)}")
            number = rows_of[split]
            rows_of[split] += 1
            if split == _LEFT_OUT:
                continue
            yield mb.RecordInfo(
                record_id=row["ecg_key"],
                patient_id=row["patient_key"],
                statements=frozenset(flag if truth(row[flag], flag, place) else f"no {flag}" for flag in flags),
                age=unread.read(years, "age_at_ecg", row.get("age_at_ecg", "")),
                sex=unread.read(sex, "sex", row.get("sex", "")),
                fold=_fold(split, row["patient_key"]),
                path=(folder / f"EchoNext_{split}_waveforms.npy").as_posix() + f"#{number}",
                measurements=_measurements(row),
            )
        left = rows_of[_LEFT_OUT]
        told = [f"{left:,} ECGs of the part {_LEFT_OUT} are left out: their patients validate or are tested"]
        self.remarks = [*(told if left else []), *unread.remarks()]

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal, its unit estimated."""
        name, _, row = (info.path or "").rpartition("#")
        path = source / name
        if not path.is_file():
            raise mb.BadRecord("missing-file", path.name)
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise mb.BadRecord("unreadable-samples", f"{path.name!r}: {error}") from error
        if array.shape[1:] != _SHAPE or array.dtype.kind != "f":
            raise mb.BadRecord("wrong-shape", f"{path.name!r} is {array.dtype} of {array.shape}; wanted (N, 1, 2500, 12)")
        if int(row) >= len(array):
            raise mb.BadRecord("missing-samples", f"{path.name!r} has {len(array):,} rows, no row {row}")
        millivolts = np.asarray(array[int(row), 0].T, dtype=np.float32) * np.float32(self.unit_millivolts)  # (L, T)
        return mb.Signal(np.ascontiguousarray(millivolts), _RATE_HZ, quality_flags=("unit-estimated",))


def _fold(split: str, patient: str) -> int:
    """Return the fold of a part; patients of train are spread over the folds that train by their ids."""
    if split == "train":
        return 1 + (hash_fold(patient) - 1) % (VALIDATION_FOLD - 1)
    return VALIDATION_FOLD if split == "val" else TEST_FOLD


def _measurements(row: Mapping[str, str]) -> dict[str, float]:
    """Return what the electrocardiograph measured, per minute and in ms."""
    cells = {name: stated(row.get(name, "")) for name in _MEASURED}
    return {name: float(cell) for name, cell in cells.items() if re.fullmatch(r"\d+(\.\d+)?", cell)}


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer EchoNext."""
    return [
        mb.Entry(
            name="echonext",
            build=EchoNext,
            summary=f"{EchoNext.num_records:,} standardised ECGs with echocardiographic findings, the publisher's split",
            source=EchoNext.homepage,
            license=EchoNext.licence,
        )
    ]
