"""What is asked of every dataset.

Shapes: L leads, T samples.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from melp_bench.components import BadRecord, Dataset, RecordInfo, Signal
from melp_bench.errors import NotApplicable, UserError
from melp_bench.lead_identity import lead_identity, lead_slopes
from melp_bench.lead_names import known_lead
from melp_bench.signal import canonical_lead
from melp_bench.splits import FOLDS
from melp_bench.testing.verdict import Broken, demand

MOST_INFOS = 20_000
SIGNALS = 12
WRONG_LEADS = 0.5
"""Largest share of records whose limb leads may not be what they are called; in a wrong order it is about all."""


@dataclass(frozen=True)
class DatasetSubject:
    """A dataset and the folder of its native files; None where it needs one and none was given."""

    dataset: Dataset
    source: Path | None

    @cached_property
    def infos(self) -> list[RecordInfo]:
        """The first records' infos; slow for a large source, so asked for once."""
        return self.read_infos()

    def read_infos(self) -> list[RecordInfo]:
        """Return the first records' infos, read again."""
        if self.source is None:
            raise NotApplicable("needs --from DIR, the folder of its native files")
        return list(itertools.islice(self.dataset.infos(self.source), MOST_INFOS))

    @cached_property
    def signals(self) -> list[tuple[RecordInfo, Signal]]:
        """Signals of records spread evenly over the source; what the dataset itself calls bad is left out."""
        chosen = self.infos[:: max(1, len(self.infos) // SIGNALS)][:SIGNALS]
        read = []
        for info in chosen:
            try:
                read.append((info, self.dataset.signal(self.source or Path(), info)))
            except BadRecord:
                continue
        if chosen and not read:
            raise Broken(f"all of {len(chosen)} records are BadRecord")
        return read


def dataset_subject(build: Callable[[], Dataset], source: Path | None) -> DatasetSubject:
    """Return the subject of a dataset's checks; generated records need no source."""
    dataset = build()
    if not isinstance(dataset, Dataset):
        raise TypeError(f"build returned {type(dataset).__name__!r}; wanted a melp_bench.Dataset")
    if source is not None and not source.is_dir():
        raise UserError(f"no folder {str(source)!r}; give the folder of the native files")
    return DatasetSubject(dataset, source if source is not None or dataset.reads_files else Path())


def _tasks(subject: DatasetSubject) -> str:
    if subject.source is not None:
        _ = subject.infos  # a dataset whose table names the classes knows them then
    tasks = subject.dataset.tasks
    if not tasks and subject.source is None:
        raise NotApplicable("its tasks are known once its table is read; needs --from DIR")
    if not tasks and not any(info.statements for info in subject.infos):
        raise NotApplicable("its source says nothing of its records: a corpus for pretraining on signals")
    demand(bool(tasks), "it has no task")
    for name, task in tasks.items():
        demand(task.name == name, f"task {name!r} calls itself {task.name!r}")
        demand(bool(task.classes), f"task {name!r} has no class")
        empty = [c for c, members in task.members.items() if not members]
        demand(not empty, f"task {name!r}: no statement makes {empty} positive")
    return ", ".join(f"{name} ({len(task.classes)})" for name, task in tasks.items())


def _prompts(subject: DatasetSubject) -> str:
    covered = []
    for name, task in subject.dataset.tasks.items():
        strange = sorted(set(task.prompts) - set(task.classes))
        demand(not strange, f"task {name!r} has prompts for {strange}, which are none of its classes")
        if not task.prompts:
            continue
        missing = [c for c in task.classes if not any(p.strip() for p in task.prompts.get(c, ()))]
        demand(not missing, f"task {name!r} has prompts, but none for {missing}")
        covered.append(name)
    if not covered:
        raise NotApplicable("no task has prompts, so none can be scored zero-shot")
    return ", ".join(covered)


def _about(subject: DatasetSubject) -> str:
    missing = [name for name in ("version", "licence", "citation") if not str(getattr(subject.dataset, name, "")).strip()]
    demand(not missing, f"it does not state its {', '.join(missing)}")
    return f"version {subject.dataset.version}, {subject.dataset.licence}"


def _ids(subject: DatasetSubject) -> str:
    infos = subject.infos
    demand(bool(infos), "it has no record")
    repeated = [i for i, n in Counter(info.record_id for info in infos).items() if n > 1]
    demand(not repeated, f"{len(repeated)} record ids repeat, the first is {repeated[:1]}")
    for info in infos:
        path = PurePosixPath(info.path or "")
        demand(
            not path.is_absolute() and ".." not in path.parts,
            f"record {info.record_id!r} lies outside the source: {info.path!r}",
        )
        demand(info.age is None or 0 <= info.age <= 130, f"record {info.record_id!r} has the age {info.age!r}")
        demand(info.sex in (None, "F", "M"), f"record {info.record_id!r} has the sex {info.sex!r}; wanted 'F', 'M' or None")
    return f"{len(infos)} records"


def _deterministic(subject: DatasetSubject) -> str:
    infos, again = subject.infos, subject.read_infos()
    differ = [a.record_id for a, b in zip(infos, again, strict=False) if a != b]
    demand(len(infos) == len(again) and not differ, f"{len(infos)} infos, then {len(again)}; the first to differ: {differ[:1]}")
    for info, signal in subject.signals[:3]:
        second = subject.dataset.signal(subject.source or Path(), info)
        same = np.array_equal(signal.millivolts, second.millivolts, equal_nan=True)
        demand(same and signal.leads == second.leads, f"record {info.record_id!r} has another signal when read again")
    return f"{len(infos)} infos, {len(subject.signals[:3])} signals"


def _folds(subject: DatasetSubject) -> str:
    infos, official = subject.infos, subject.dataset.has_official_folds
    given = [info for info in infos if info.fold is not None]
    if not official:
        demand(not given, f"has_official_folds is False, but record {given[0].record_id if given else ''!r} has a fold")
        patients = len({info.patient_id or info.record_id for info in infos})
        return f"no official folds: split by the id of {patients} patients"
    demand(len(given) == len(infos), f"{len(infos) - len(given)} of {len(infos)} records have no fold")
    wrong = sorted({info.fold for info in given if info.fold is not None} - set(FOLDS))
    demand(not wrong, f"folds {wrong}; wanted 1 to 10")
    folds_of: dict[str, set[int | None]] = {}
    for info in given:
        folds_of.setdefault(info.patient_id or info.record_id, set()).add(info.fold)
    split = {patient: folds for patient, folds in folds_of.items() if len(folds) > 1}
    demand(
        not split, f"{len(split)} of {len(folds_of)} patients are in several folds, the first {next(iter(split.items()), None)}"
    )
    return f"{len(folds_of)} patients in {len({i.fold for i in given})} folds"


def _labels(subject: DatasetSubject) -> str:
    seen = Counter(itertools.chain.from_iterable(info.statements for info in subject.infos))
    if not seen and not subject.dataset.tasks:
        raise NotApplicable("its source says nothing of its records")
    demand(bool(seen), "no record carries a statement")
    notes, labelled = [], 0  # a packaging may lack the labels of a task, none lacks all
    for name, task in subject.dataset.tasks.items():
        counts = {c: sum(bool(members & info.statements) for info in subject.infos) for c, members in task.members.items()}
        occurring = sum(n > 0 for n in counts.values())
        notes.append(f"{name}: {occurring} of {len(counts)} classes occur")
        labelled += occurring > 0
    demand(labelled > 0, f"none of {len(subject.infos)} records is positive of any class of {', '.join(subject.dataset.tasks)}")
    known = frozenset().union(*(m for task in subject.dataset.tasks.values() for m in task.members.values()))
    unknown = sorted(set(seen) - known)
    return "; ".join(notes) + (f"; no task asks for {', '.join(unknown[:6])}" if unknown else "")


def _leads(subject: DatasetSubject) -> str:
    named: set[str] = set()
    for info, signal in subject.signals:
        who = f"record {info.record_id!r}"
        demand(signal.millivolts.ndim == 2, f"{who} is {signal.millivolts.shape}; wanted (leads, samples)")
        demand(signal.millivolts.dtype == np.float32, f"{who} is {signal.millivolts.dtype}; wanted float32")
        demand(
            len(signal.leads) == len(signal.millivolts),
            f"{who} has {len(signal.leads)} names for {len(signal.millivolts)} leads",
        )
        names = [_standard_lead(lead) for lead in signal.leads]
        demand(len(set(names)) == len(names), f"{who} names a lead twice: {list(signal.leads)}")
        demand(50 <= signal.rate_hz <= 5000, f"{who} has a rate of {signal.rate_hz!r} Hz")
        named |= set(names)
    return f"{len(named)} leads in {len(subject.signals)} records"


def _standard_lead(name: str) -> str:
    """Return the standard lead that a store takes a name for.

    Raises:
        UserError: none.
    """
    known = known_lead(name)
    return canonical_lead(name) if known is None else known[0]


def _millivolts(subject: DatasetSubject) -> str:
    low, high = [], []
    for info, signal in subject.signals:
        who, finite = f"record {info.record_id!r}", np.isfinite(signal.millivolts)
        demand(finite.mean() > 0.5, f"{who}: only {finite.mean():.0%} of its samples are there")
        bound = float(np.quantile(np.abs(signal.millivolts[finite]), 0.999))
        spread = float(np.median(np.nanmax(signal.millivolts, axis=1) - np.nanmin(signal.millivolts, axis=1)))
        demand(bound < 20, f"{who} reaches {bound:.3g} mV; is its unit microvolt?")
        demand(spread > 0.02, f"{who}: its leads span {spread:.3g} mV; is its unit volt?")
        low.append(spread)
        high.append(bound)
    return f"leads span {np.median(low):.2g} mV, the largest reaches {max(high):.3g} mV" if high else "no signal"


def _einthoven(subject: DatasetSubject) -> str:
    wrong = []
    for info, signal in subject.signals:
        signs = np.array([-1.0 if (known_lead(lead) or ("", 1))[1] < 0 else 1.0 for lead in signal.leads])
        upright = np.nan_to_num(signal.millivolts.astype(np.float64)) * signs[:, None]
        leads = tuple(_standard_lead(lead) for lead in signal.leads)
        found = lead_identity(lead_slopes(upright, leads, signal.rate_hz))
        if found.code != "unchecked-leads":
            wrong.append("" if found.code == "ok" else f"record {info.record_id!r}: {found.detail or found.code}")
    if not wrong:
        raise NotApplicable("no record has five limb leads")
    share = sum(bool(words) for words in wrong) / len(wrong)
    demand(share <= WRONG_LEADS, f"{share:.0%} of the records have limb leads under wrong names, {max(wrong)}")
    return f"limb leads are what they are called in {1 - share:.0%} of {len(wrong)} records"


DATASET_CHECKS: dict[str, Callable[[DatasetSubject], str]] = {
    "it states version, licence and citation": _about,
    "every class has statements": _tasks,
    "prompts cover whole tasks": _prompts,
    "record ids and paths are safe and unique": _ids,
    "infos and signals are the same when read again": _deterministic,
    "no patient is in two folds": _folds,
    "statements become labels": _labels,
    "leads are known": _leads,
    "millivolts are plausible": _millivolts,
    "II = I + III": _einthoven,
}
