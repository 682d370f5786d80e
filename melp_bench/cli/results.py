"""`melp-bench results`: what rows say, checked against the predictions they were measured on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from melp_bench.errors import UserError

app = typer.Typer(help="Check result rows against their predictions.", no_args_is_help=True, rich_markup_mode=None)

Results = Annotated[
    Path | None,
    typer.Option("--results", metavar="DIR", help="Folder of result rows; by default $MELP_BENCH_HOME/leaderboard/results."),
]


def results_folder(given: Path | None) -> Path:
    """Return the folder of rows that was given, or the usual one.

    Raises:
        UserError: there is none.
    """
    from melp_bench.home import home

    folder = given or home() / "leaderboard" / "results"
    if not folder.is_dir():
        raise UserError(f"no folder of results at {str(folder)!r}; `melp-bench run demo` makes one, or give --results DIR")
    return folder


@app.command("verify", short_help="Recompute every score from the saved predictions.")
def verify(results: Results = None) -> None:
    """Recompute every score and interval from the predictions kept beside it; exit with 2 if one does not come out."""
    from collections import Counter

    from melp_bench.board.escape import plain
    from melp_bench.plugins import discover
    from melp_bench.runs.verification import verify_results

    folder = results_folder(results)
    found = verify_results(folder, discover())
    for line in found.passed_over:
        typer.echo(f"passed over  {plain(line)}")
    for line in found.left_out:
        typer.echo(f"left out     {plain(line)}")
    for check in found.checks:
        if check.state in ("refused", "other code"):
            typer.echo(f"{check.state:<12} {plain(check)}")
    counts = Counter(check.state for check in found.checks)
    typer.echo(f"{len(found.checks)} rows: {', '.join(f'{n} {state}' for state, n in sorted(counts.items())) or 'none'}")
    refused, absent = counts["refused"], counts["absent"]
    if refused or found.left_out:
        raise UserError(
            f"{refused} rows do not agree with their predictions and {len(found.left_out)} files are damaged, "
            f"in {str(folder)!r}; delete them and run again"
        )
    if absent:
        raise UserError(
            f"the predictions of {absent} rows are not in {str(folder)!r}, so that nothing is known of these rows; "
            "run their protocol to make them again"
        )


@app.command("compare", short_help="Compare two models class by class, by DeLong's test.")
def compare(
    first: Annotated[str, typer.Argument(metavar="MODEL", help="A model, as the board names it.")],
    second: Annotated[str, typer.Argument(metavar="MODEL", help="The one it is compared with.")],
    results: Results = None,
) -> None:
    """Compare the AUROC of every class wherever both models were scored on the same records, from their predictions.

    Intervals are of a class alone; p-values are adjusted for the classes of a measurement (Holm).
    """
    from melp_bench.board.escape import plain
    from melp_bench.runs.comparison import compare_models

    found = compare_models(results_folder(results), first, second)
    for measurement, classes in found.items():
        typer.echo(plain(f"{measurement}: AUROC of {first} minus {second}"))
        for one in classes:
            known = one.difference
            verdict = "they differ" if one.adjusted_p < 0.05 else "not separable"
            numbers = f"{known.value:+.3f} [{known.low:+.3f}, {known.high:+.3f}]  p {one.adjusted_p:.3f}"
            typer.echo(f"  {plain(one.name)}  {one.positives} of {one.records}  {numbers}  {verdict}")


@app.command("similarity", short_help="Say how alike models are, from their features.")
def similarity(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR DIR...", help="Folders that `melp-bench embed` wrote.")],
) -> None:
    """Compare the embeddings of models on the same records: linear CKA, 1 where they differ by rotation and size alone.

    Of a larger dataset 2,000 records are taken, by their ids; intervals are of a jackknife over patients.
    """
    from melp_bench.board.escape import plain
    from melp_bench.runs.similarity import compare_features

    for pair in compare_features(folders):
        found = pair.similarity
        numbers = f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
        typer.echo(f"{numbers}  {plain(pair.first)} and {plain(pair.second)}, {pair.records:,} records")


@app.command("worst", short_help="Draw the records of a task that models score worst.")
def worst(
    task: Annotated[str, typer.Argument(metavar="TASK", help="As the board names it: ptb-xl/super.")],
    results: Results = None,
    model: Annotated[list[str] | None, typer.Option("--model", "-m", metavar="M", help="Only of these models.")] = None,
    measurement: Annotated[
        str,
        typer.Option("--by", metavar="EVALUATION", help="linear_probe 100 %, ...; by default what most models have."),
    ] = "",
    number: Annotated[int, typer.Option("--number", "-n", min=1, max=100, help="How many records.")] = 12,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="By default worst/TASK beside the results.")] = None,
) -> None:
    """List the records of TASK that models score worst, and draw them on ECG paper where their store is here."""
    from melp_bench.board.escape import plain
    from melp_bench.runs.candidates import file_name
    from melp_bench.runs.worst_records import find_store_of, worst_records, write_worst_records

    folder = results_folder(results)
    found = worst_records(folder, task, measurement=measurement, models=tuple(model or ()), number=number)
    for record in found.records:
        true = ", ".join(line.name for line in record.classes if line.is_true) or "no class"
        typer.echo(plain(f"{record.error:.3f}  {record.record_id}  {true}"))
    page = write_worst_records(found, find_store_of(found.fingerprint), out or folder.parent / "worst" / file_name(task))
    typer.echo(f"page   {page}")
