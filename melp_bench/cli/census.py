"""Stores and censuses as tables that fit 80 columns."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from melp_bench.cli.tables import print_whole
from melp_bench.leads import LEADS
from melp_bench.splits import FOLDS
from melp_bench.store import Store
from melp_bench.store.census import Census, TaskCensus, census
from melp_bench.store.layout import StoreManifest


def stores_table(stores: list[tuple[Path, StoreManifest]]) -> Table:
    """Return one row per store."""
    table = Table(box=None, pad_edge=False)
    table.add_column("store", no_wrap=True)  # to be copied
    for name in ("records", "patients", "bad"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("hash", no_wrap=True)
    table.add_column("version, options", overflow="fold")
    for folder, manifest in stores:
        table.add_row(
            folder.name,
            f"{manifest.num_records:,}",
            f"{manifest.num_patients:,}",
            f"{sum(manifest.quarantined.values()):,}",
            manifest.fingerprint[:8],
            Text(
                " ".join(
                    [manifest.release or manifest.version, *(f"{name}={value}" for name, value in manifest.options.items())]
                )
            ),
        )
    return table


def print_census(console: Console, store: Store) -> None:
    """Print the census of a store."""
    manifest, counts = store.manifest, census(store)
    kind = "generated" if store.generated else "measured"
    console.print(Text.assemble((store.name, "bold"), f" {manifest.release or manifest.version} · {kind} · {manifest.licence}"))
    console.print(manifest.citation, style="dim", highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _facts(counts, store).items():
        table.add_row(name, Text(text))
    console.print(table)
    for task in counts.tasks:
        _print_task(console, task)


def _facts(counts: Census, store: Store) -> dict[str, str]:
    low, middle, high = counts.seconds
    most = "one record" if counts.most_per_patient == 1 else f"at most {counts.most_per_patient:,} records"
    ages = "unknown" if counts.ages is None else "median {1:.0f}, {0:.0f} to {2:.0f} years".format(*counts.ages)
    names = {"F": "female", "M": "male", "": "unknown"}
    folds = "official" if store.manifest.has_official_folds else "from the hash of the patient's id"
    return {
        "records": f"{counts.num_records:,}",
        "patients": f"{counts.num_patients:,}, {most} each",
        "rate": ", ".join(f"{rate:g} Hz {number:,}" for rate, number in counts.rates_hz.items()),
        "leads": _leads(counts.leads),
        "length": f"{low:g} s" if low == high else f"median {middle:g} s, {low:g} to {high:g} s",
        "age": ages + (f", {counts.unknown_ages:,} unknown" if counts.unknown_ages and counts.ages else ""),
        "sex": ", ".join(f"{names.get(sex, sex)} {number:,}" for sex, number in counts.sexes.items()),
        "reports": f"{counts.num_reports:,}",
        "folds": f"{' '.join(f'{number:,}' for number in counts.folds)} ({folds})",
        "verdict": _listed(counts.verdicts),
        "repaired": _listed(counts.repairs),
        "quality_flags": _listed(counts.quality_flags),
        "quarantined": _listed(counts.quarantined),
        "hash": store.fingerprint,
    }


def _leads(counts: dict[tuple[str, ...], int]) -> str:
    """Return how many records have which leads; the standard twelve go without their names."""
    named = {leads: "12" if leads == LEADS else f"{len(leads)} ({' '.join(leads)})" for leads in counts}
    if len(counts) == 1:
        return named[next(iter(counts))]
    return ", ".join(f"{named[leads]} {number:,}" for leads, number in counts.items())


def _number(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items()) or "none"


def _print_task(console: Console, task: TaskCensus) -> None:
    """Print positives by class and fold, most frequent first; classes without any in one line."""
    size = f"{task.num_records:,} records · {_number(len(task.classes), 'class', 'classes')}"
    console.print(Text.assemble("\n", (task.name, "bold"), f" · {size}"))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("class", no_wrap=True, min_width=9, max_width=22)
    table.add_column("all", justify="right", no_wrap=True)
    for fold in FOLDS:
        table.add_column(f"{fold}", justify="right", no_wrap=True, min_width=3)
    totals = task.positives.sum(axis=1)
    for row in sorted(range(len(task.classes)), key=lambda c: -int(totals[c])):
        if totals[row]:
            table.add_row(Text(task.classes[row]), f"{totals[row]}", *[f"{n}" if n else "·" for n in task.positives[row]])
    print_whole(console, table)
    none = [name for name, total in zip(task.classes, totals, strict=True) if not total]
    if none:
        console.print(f"without a positive: {', '.join(none)}", style="dim", highlight=False, markup=False)
