"""`melp-bench pretrain-text`: a BERT goes on guessing hidden words, in reports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from melp_bench.cli.options import num_workers
from melp_bench.cli.run import Device, Workers, quiet_console

if TYPE_CHECKING:
    from melp_bench.cli.screen import Screen
    from melp_bench.runs.text_training import Reports


def pretrain_text(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A folder or file of reports (.txt, .jsonl, .parquet), or a dataset.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="M", help="hf:owner/name or a local folder; without it a new BERT.")
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="By default $MELP_BENCH_HOME/text/...")] = None,
    field: Annotated[str | None, typer.Option(help="The column of a report in .jsonl and .parquet; report or text.")] = None,
    vocabulary: Annotated[
        Literal["keep", "extend", "train"],
        typer.Option(help="keep the model's, extend it by words it breaks into pieces, or train a new one."),
    ] = "extend",
    words: Annotated[int, typer.Option(min=0, help="Words to add at most; of a new vocabulary, its size.")] = 2000,
    steps: Annotated[int, typer.Option(min=1)] = 2000,
    batch_size: Annotated[int, typer.Option(min=1, help="Reports per step, over all ranks.")] = 64,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 5e-5,
    max_tokens: Annotated[int, typer.Option(min=4, help="Tokens of a report that are read.")] = 128,
    layers: Annotated[int, typer.Option(min=1, help="Of a new BERT.")] = 4,
    width: Annotated[int, typer.Option(min=64, help="Of a new BERT; a multiple of 64.")] = 256,
    validate_every: Annotated[int, typer.Option(min=1, help="Steps; the best weights are kept.")] = 200,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    resume: Annotated[
        bool, typer.Option("--resume/--restart", help="Go on with a run that was stopped, or throw it away and begin again.")
    ] = True,
    device: Device = "auto",
    workers: Workers = 0,
) -> None:
    """Continue (or begin) masked-language-model training on reports; perplexity on held-out reports, before and after.

    Of a dataset folds 1-8 are learned from and 9 is held out; of files one report in 20.
    """
    from melp_bench.cli.screen import Screen
    from melp_bench.home import home
    from melp_bench.pretrain.loop import Budget
    from melp_bench.runs.text_training import TextPlan
    from melp_bench.runs.text_training import pretrain_text as train
    from melp_bench.runs.training import make_fabric

    screen = Screen(quiet_console())
    fabric = make_fabric(device, "auto")
    with fabric.rank_zero_first():
        reports = _reports(source, field, screen, num_workers(workers))
    plan = TextPlan(
        model=model,
        vocabulary=vocabulary if model else "train",
        words=words,
        layers=layers,
        width=width,
        max_tokens=max_tokens,
        budget=Budget(steps=steps, batch_size=batch_size, seed=seed, validate_every=validate_every),
        learning_rate=learning_rate,
    )
    folder = to or home() / "text" / f"{reports.corpus}-{plan.identity(reports)[:12]}"
    record = train(plan, reports, folder, fabric=fabric, listener=screen, restart=not resume)
    before, after = record["perplexity"]["before"], record["perplexity"]["after"]
    counts = record["reports"]
    screen.say(f"reports     {counts['train']:,} to learn from, {counts['held_out']:,} held out")
    screen.say(f"perplexity  {before:.2f} before, {after:.2f} after, on hidden words of held-out reports")
    screen.say(f"text model  {folder}")
    screen.say(f'next        a recipe with [text] name = "hf", options = {{ model = "{folder}", causal = true }}')


def _reports(source: str, field: str | None, screen: Screen, workers: int) -> Reports:
    """Return the reports of files, or of a dataset's folds 1 to 9."""
    import numpy as np

    from melp_bench.plugins import discover
    from melp_bench.pretrain.texts import read_reports, split_by_text
    from melp_bench.protocol import DatasetUse
    from melp_bench.runs.stores import open_one
    from melp_bench.runs.text_training import Reports
    from melp_bench.splits import holdout

    datasets = discover().datasets
    if source in datasets and not Path(source).exists():
        store = open_one(datasets[source], DatasetUse(dataset=source), screen, workers)
        told = np.array([bool(report.strip()) for report in store.reports])
        (part,) = holdout(store.folds)
        return Reports(store.reports, part.train[told[part.train]], part.validation[told[part.validation]], corpus=source)
    texts = read_reports(Path(source), field)
    return Reports(texts, *split_by_text(texts), corpus=Path(source).stem or "reports")
