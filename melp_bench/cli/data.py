"""`melp-bench data`: native files to a store, and what a store holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melp_bench.cli.audit import audit
from melp_bench.cli.fetch import fetch
from melp_bench.cli.leakage import leakage
from melp_bench.cli.options import num_workers
from melp_bench.cli.stores import build_dataset, find_store, manifests
from melp_bench.errors import UserError

if TYPE_CHECKING:
    from melp_bench.store import Store

app = typer.Typer(help="Fetch, prepare, list, show and verify datasets.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="DATASET", help="A dataset, or the folder name of a store (see data list).")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", metavar="NAME=VALUE", help="An option of the dataset; may be repeated."),
]


app.command(short_help="Fetch a dataset's files, each checked.")(fetch)


@app.command(short_help="Read native files into a packed store, once.")
def prepare(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A dataset that a plugin offers.")],
    source: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="The folder with the dataset's native files.")
    ] = None,
    option: Options = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="ROLE=NAME", help="What a column of the table is: patient=patient_id; may be repeated."
        ),
    ] = None,
    lead: Annotated[
        list[str] | None,
        typer.Option("--lead", metavar="NAME=LEAD", help="What a lead of the files is: X=V1; may be repeated."),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that read; 0: one per core.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Read everything again, changed or not.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Make a store again that was read from another folder.")] = False,
) -> None:
    """Read native files once into a packed store; a run that was stopped goes on where it was."""
    from rich.console import Console

    from melp_bench.cli.screen import Screen
    from melp_bench.code_digest import code_digest
    from melp_bench.fetch import unfinished
    from melp_bench.plugins import discover
    from melp_bench.store import prepare as make
    from melp_bench.store import store_path

    built, resolved = build_dataset(dataset, option, {"columns": column, "leads": lead})
    root = store_path(dataset, resolved)
    had = [manifest for folder, manifest in manifests()[0] if folder == root]
    screen = Screen(Console())
    begun = unfinished(source) if source is not None else None
    if begun is not None:
        screen.say(f"a fetch into {begun} is not finished; to go on with it: melp-bench data fetch {dataset} --to {begun}")
    with screen.stage(f"prepare {dataset}", "rec") as advance:
        store = make(
            built,
            name=dataset,
            source=source,
            root=root,
            options=resolved,
            workers=num_workers(workers),
            progress=lambda done, total: advance(done, total, ""),
            fresh=fresh,
            replace=replace,
            tell=screen.say,
            code=code_digest(discover().datasets[dataset]),
        )
    bad = store.manifest.quarantined
    reasons = f" ({', '.join(f'{code} {count:,}' for code, count in bad.items())})" if bad else ""
    screen.say(f"{dataset}  {len(store):,} records, {sum(bad.values()):,} quarantined{reasons}")
    if had and had[0].fingerprint != store.fingerprint:
        screen.say(
            f"in place of another store of {had[0].num_records:,} records (hash {had[0].fingerprint[:8]}...) that was here"
        )
    if "missing-file" in bad:
        screen.say("files that arrive later are read by the same command")
    screen.say(f"store  {store.root}")
    screen.say(f"hash   {store.fingerprint}")


@app.command("list", short_help="List stores, and datasets that could be prepared.")
def list_stores() -> None:
    """List the stores that are prepared, and the datasets that could be."""
    from rich.console import Console

    from melp_bench.cli.census import stores_table
    from melp_bench.cli.tables import print_whole
    from melp_bench.home import home
    from melp_bench.plugins import discover

    console = Console()
    stores, broken = manifests()
    if stores:
        print_whole(console, stores_table(stores))
    else:
        console.print("no store yet", highlight=False)
    for reason in broken.values():
        console.print(reason, highlight=False, markup=False, soft_wrap=True)
    if begun := sorted(
        p.parent.name for p in (home() / "stores").glob("*/plan.json") if not (p.parent / "store.json").exists()
    ):
        told = f"unfinished: {', '.join(begun)}; the same `melp-bench data prepare` goes on"
        console.print(told, highlight=False, markup=False)
    prepared = {manifest.name for _, manifest in stores}
    waiting = [entry.name for entry in discover().datasets if entry.name not in prepared]
    if waiting:
        console.print(f"not prepared: {', '.join(waiting)}", highlight=False, markup=False)
        console.print("melp-bench data prepare DATASET --from DIR", highlight=False, markup=False, style="dim")


@app.command(short_help="Count what a store holds, list records, or draw one.")
def show(
    dataset: Name,
    option: Options = None,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="RECORD", help="Draw a record on ECG paper: its id, else its position.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where it goes: a drawing as .png, .svg or .pdf, a list as .csv."),
    ] = None,
    quarantine: Annotated[bool, typer.Option("--quarantine", help="List the records that could not be used, and why.")] = False,
    flags: Annotated[bool, typer.Option("--flags", help="List the records in which something looks wrong, and what.")] = False,
) -> None:
    """Count what a store holds: records, patients, ages, labels by fold, what could not be used."""
    from rich.console import Console

    from melp_bench.store import open_store

    console = Console()
    store = open_store(find_store(dataset, option))
    if quarantine + flags + (plot is not None) > 1:
        raise UserError("--quarantine, --flags and --plot are three things to show; give one of them")
    if quarantine or flags:
        from melp_bench.cli.store_records import flagged_records, quarantined_records, show_records

        show_records(console, quarantined_records(store) if quarantine else flagged_records(store), out)
        return
    if plot is None:
        from melp_bench.cli.census import print_census

        print_census(console, store)
        return
    path = _draw(store, plot, out)
    console.print(f"drawn  {path}", highlight=False, markup=False, soft_wrap=True)


@app.command(short_help="Compare a store with its digests or its source.")
def verify(
    dataset: Name,
    option: Options = None,
    source: Annotated[Path | None, typer.Option("--from", metavar="DIR", help="Compare with the native files, too.")] = None,
    sample: Annotated[int, typer.Option("--sample", min=1, help="Records to compare with their native files.")] = 100,
    every: Annotated[bool, typer.Option("--all", help="Compare every record.")] = False,
) -> None:
    """Read a store again and compare it with its digests; exit status 1 if anything differs.

    With --from, records are read from their native files again, too, which checks the files' own checksums; the files of these
    records are compared with the SHA256SUMS.txt of the folder, if it has one.
    """
    from rich.console import Console

    from melp_bench.cli.screen import Screen
    from melp_bench.plugins import discover
    from melp_bench.store import open_store, verify_source
    from melp_bench.store import verify as check

    store = open_store(find_store(dataset, option))
    screen = Screen(Console())
    with screen.stage(f"verify {dataset}", "shards") as advance:
        found = check(store, progress=lambda done, total: advance(done, total, ""))
    told = f"{found.num_shards:,} shards"
    problems = found.problems
    entry = discover().datasets[store.name] if source is not None or store.generated else None
    built = None if entry is None else entry.build(**entry.resolve(store.manifest.options))
    if built is not None and not problems and (source is not None or not built.reads_files):
        with screen.stage("read the source", "rec") as advance:
            native = verify_source(
                store, built, source, sample=None if every else sample, progress=lambda done, total: advance(done, total, "")
            )
        told += f", {native.num_native:,} records and {native.num_files:,} listed digests of the source"
        problems = native.problems
    for problem in problems:
        screen.say(f"differs  {problem}")
    if problems:
        raise typer.Exit(1)
    screen.say(f"{dataset}  {told}: all as they were")


@app.command(short_help="Describe a store in Croissant, for other tools.")
def croissant(
    dataset: Name,
    option: Options = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where it goes; by default croissant.json in the store.")
    ] = None,
) -> None:
    """Write what a store holds as Croissant 1.0 (JSON-LD): files with digests, columns as fields, licence and citation."""
    import json

    from melp_bench.home import atomic_write
    from melp_bench.store.croissant import croissant as described
    from melp_bench.store.layout import read_manifest

    root = find_store(dataset, option)
    path = out or root / "croissant.json"
    atomic_write(path, json.dumps(described(root, read_manifest(root)), indent=1, ensure_ascii=False) + "\n")
    typer.echo(f"described  {path}")


app.command(short_help="Audit the published label files.")(audit)
app.command(short_help="List recordings that two stores share.")(leakage)

# ----------------------------------------------------------------------------------------------------------------------


def _draw(store: Store, record: str, out: Path | None) -> Path:
    """Draw a record and return where it went."""
    import re

    from melp_bench.ecg_plot import plot_record
    from melp_bench.home import make_folder
    from melp_bench.registry import nearest

    ids = store.record_ids.tolist()
    if record in ids:
        position = ids.index(record)
    elif record.isdecimal() and int(record) < len(store):
        position = int(record)
    else:
        raise UserError(f"{store.name!r} has {len(store)} positions and no record {record!r}{nearest(record, ids)}")
    path = out or Path(f"{store.name}-{re.sub(r'[^A-Za-z0-9_-]', '_', ids[position])}.png")
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UserError(f"--out {str(path)!r} is no drawing; wanted a name that ends in .png, .svg or .pdf")
    make_folder(path.parent)
    age, sex = store.ages[position], {"F": "female", "M": "male"}.get(str(store.sexes[position]), "sex unknown")
    years = f"{age:.0f} years" if age == age else "age unknown"
    labels = ", ".join(sorted(store.statements[position]))
    figure = plot_record(
        store.signal(position),
        title=f"{store.name} · {ids[position]} · {years} · {sex} · fold {store.folds[position]}",
        footer=f"{store.reports[position]}\n{labels}",
    )
    figure.savefig(path)
    return path
