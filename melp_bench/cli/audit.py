"""`melp-bench data audit`: the literature's label files against the statements that stand in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from melp_bench.label_files import Audit, LabelFiles, Layout

ALL = "all"


def audit(
    task: Annotated[str, typer.Argument(metavar="DATASET[/TASK]", help="csn, ptb-xl, ptb-xl/sub, ...")],
    published_splits: Annotated[
        Path,
        typer.Option("--published-splits", metavar="DIR", help="The folder finetune/data_split of the published label files."),
    ],
    every: Annotated[bool, typer.Option("--all", help="Show classes without a wrong label, too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.csv", help="Write the counts as CSV.")] = None,
) -> None:
    """Count true and false labels per class in the published label files, and find columns that changed places."""
    from rich.console import Console

    from melp_bench.home import atomic_write
    from melp_bench.label_files import audit as check
    from melp_bench.label_files.layout import layouts_of

    found = [check(files) for files in _read(published_splits, layouts_of(task), whole="/" in task)]
    if out is not None:
        atomic_write(out, _csv(found))
    if json:
        from melp_bench.canonical import canonical_json

        typer.echo(canonical_json([one.as_json() for one in found]))
        return
    console = Console()
    for one in found:
        _show(console, one, every=every)
    if out is not None:
        console.print(f"counts  {out}", markup=False, highlight=False, soft_wrap=True)


def _read(folder: Path, layouts: Sequence[Layout], *, whole: bool) -> list[LabelFiles]:
    """Return the files of every layout; of a dataset without a task named, of those tasks whose training file is there."""
    from melp_bench.label_files import read_files

    there = [layout for layout in layouts if (folder / layout.file("train")).is_file()]
    return [read_files(folder, layout) for layout in (layouts if whole or not there else there)]


def _show(console: Console, one: Audit, *, every: bool) -> None:
    from rich.text import Text

    from melp_bench.cli.tables import print_whole

    def say(text: str) -> None:
        console.print(Text(text), soft_wrap=True)

    parts = one.files.parts
    rows = ", ".join(f"{part} {len(file):,}" for part, file in parts.items())
    console.print(Text(one.files.layout.name, "bold"))
    say(f"{len(one.classes)} classes, {sum(len(file) for file in parts.values()):,} rows ({rows})")
    for file in parts.values():
        say(f"{file.sha256[:16]}  {_WORDS[file.verified]:<13}  {file.path}")
    if not one.counts:
        say("the files state nothing beside their labels: nothing to compare the columns with")
    else:
        _show_counts(console, one, every=every)
    if not one.moved:
        say("every file has its label columns in the same order")
        return
    print_whole(console, _moved_table(one))
    say(f"{len(one.moved)} of {len(one.classes)} label columns changed places between the files; read by position,")
    say(
        ", ".join(f"{n:,} of {len(parts[part]):,} rows of {part}" for part, n in one.misread_rows.items() if n)
        + " have wrong labels"
    )


_WORDS = {"published": "as published", "stated": "as stated", "unknown": "not known"}


def _show_counts(console: Console, one: Audit, *, every: bool) -> None:
    from rich.text import Text

    from melp_bench.cli.tables import print_whole

    wrong = {name: total for name in one.classes if (total := one.total(name)).false or total.missed}
    if wrong or every:
        names = one.classes if every else wrong
        print_whole(console, _counts_table(one, sorted(names, key=lambda name: (-one.total(name).false, name))))
    rows = sum(len(file) for file in one.files.parts.values())
    false, missed = (sum(getattr(one.total(name), kind) for name in one.classes) for kind in ("false", "missed"))
    if not wrong:
        console.print(Text("every label is what the statements beside it say"))
        return
    console.print(Text(f"{sum(one.wrong_rows.values()):,} of {rows:,} rows carry a false positive"))
    console.print(Text(f"{false:,} false positives in {len(wrong)} classes; {one.within:,} are names within other names"))
    if missed:
        console.print(Text(f"{missed:,} statements are not marked in their column"))


def _counts_table(one: Audit, names: Sequence[str]) -> Table:
    """Return true / false positives by class and part; 80 columns."""

    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title="true / false positives of the label columns", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("class", style="bold", overflow="fold", max_width=20)
    for part in (ALL, *one.counts):
        table.add_column(part, justify="right", no_wrap=True)
    for name in names:
        cells = [one.total(name), *(counts[name] for counts in one.counts.values())]
        table.add_row(Text(name), *(Text(f"{c.true:,} / {c.false:,}", "red" if c.false > c.true else "") for c in cells))
    return table


def _moved_table(one: Audit) -> Table:
    """Return the positions at which the files name different classes."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = "label columns by position, with true / false positives as read"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("column", justify="right")
    for part in one.files.parts:
        table.add_column(part, overflow="fold")
    for moved in one.moved:
        cells = []
        for part, name in moved.names.items():
            counts = moved.read.get(part)
            cells.append(Text(name + (f"  {counts.true:,} / {counts.false:,}" if counts else "")))
        table.add_row(str(moved.position + 1), *cells)
    return table


def _csv(found: Sequence[Audit]) -> str:
    """Return a row per task, part and class."""
    import csv
    import io

    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["task", "part", "class", "true_positives", "false_positives", "missed"])
    for one in found:
        for part, counts in one.counts.items():
            writer.writerows([one.files.layout.name, part, name, c.true, c.false, c.missed] for name, c in counts.items())
    return text.getvalue()
