"""`melp-bench probe` and `predict`: a probe kept with a checkpoint, and new record files scored by it and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melp_bench.cli.components import OptionsFlag
from melp_bench.cli.options import Device, Settings, key_values, settings
from melp_bench.cli.stores import find_store
from melp_bench.errors import UserError

if TYPE_CHECKING:
    from melp_bench.runs.loaded import LoadedModel

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A checkpoint folder, ENCODER@FILE, or an encoder with weights of its own.")
]


def probe(
    model: Model,
    task: Annotated[str, typer.Argument(metavar="DATASET/TASK", help="A task of a prepared dataset, or of a store by name.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="By default in the checkpoint's folder, in probes/.")
    ] = None,
    evaluation: Annotated[str, typer.Option("--evaluation", metavar="NAME", help="What fits the probe.")] = "linear_probe",
    option: OptionsFlag = None,
    change: Settings = None,
    device: Device = "auto",
) -> None:
    """Fit a probe of a task on its training records (folds 1-8, chosen on 9), and keep it for `predict`."""
    from rich.console import Console

    from melp_bench.cli.screen import Screen
    from melp_bench.plugins import discover
    from melp_bench.runs.loaded import load
    from melp_bench.runs.probes import fit_probe, probe_path, write_probe
    from melp_bench.store import open_store

    dataset, slash, name = task.partition("/")
    if not slash or not name:
        raise UserError(f"task {task!r} is not DATASET/TASK, as ptb-xl/super")
    store, options = open_store(find_store(dataset)), key_values(option)
    loaded, screen = load(model, settings=settings(change), device=device), Screen(Console())
    if out is None and loaded.folder is None:
        raise UserError(f"{loaded.name!r} has no checkpoint folder to keep a probe in; say where with --out FILE")
    with screen.stage(f"embed {loaded.name}", "rec") as advance:
        made, header = fit_probe(
            loaded,
            store,
            name,
            discover(),
            evaluation=evaluation,
            options=options,
            advance=lambda done, total: advance(done, total, ""),
        )
    path = out or probe_path(_folder(loaded), header)
    write_probe(path, made, header)
    known = [area for area in header.validation_auroc.values() if area is not None]
    mean = f", macro AUROC {sum(known) / len(known):.3f} on validation" if known else ""
    screen.say(f"probe     {path}, {len(header.classes)} classes{mean}")
    screen.say(f"next      melp-bench predict {model} RECORD.hea" + (f" --probe {path}" if out else ""))


def predict(
    model: Model,
    records: Annotated[list[Path], typer.Argument(metavar="RECORD...", help="Record files, such as a WFDB header.")],
    probe: Annotated[
        Path | None, typer.Option("--probe", metavar="FILE", help="A kept probe; by default the only one of the checkpoint.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where pictures, page and table go.")] = Path("predictions"),
    reader: Annotated[
        str | None,
        typer.Option("--reader", metavar="DATASET", help="The dataset that reads the files; by default any that can."),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", metavar="KEY=VALUE", help="An option of the reader, as leads=X=V1.")
    ] = None,
    change: Settings = None,
    device: Device = "auto",
) -> None:
    """Score record files by a kept probe; each is drawn on ECG paper, and all are on one HTML page.

    Exit status 1 if a record could not be scored; the page says why.
    """
    from rich.console import Console

    from melp_bench.cli.screen import Screen
    from melp_bench.plugins import discover
    from melp_bench.runs.loaded import load
    from melp_bench.runs.predicting import Predictor, file_readers
    from melp_bench.runs.prediction_pages import PAGE, write_predictions
    from melp_bench.runs.probes import read_probe

    catalogue, screen = discover(), Screen(Console())
    loaded = load(model, settings=settings(change), device=device)
    fitted, header = read_probe(probe or _only_probe(loaded), loaded)
    readers = file_readers(catalogue, reader, key_values(option))
    predictor, scored = Predictor(loaded, fitted, header, catalogue), []
    with screen.stage("predict", "rec") as advance:
        for number, path in enumerate(records, 1):
            scored.append(predictor.score(path, readers))
            advance(number, len(records), "")
    write_predictions(scored, loaded, header, out)
    for record in scored:
        best = ", ".join(f"{name} {score:.2f}" for name, score in list((record.scores or {}).items())[:4])
        screen.say(f"{record.path}  {best or f'not scored: {record.reason}'}")
    screen.say(f"page      {out / PAGE}")
    if any(record.scores is None for record in scored):
        raise typer.Exit(1)


def _only_probe(model: LoadedModel) -> Path:
    """Return the one probe that is kept with the checkpoint.

    Raises:
        UserError: there is none, or there are several.
    """
    from melp_bench.runs.probes import kept_probes

    found = kept_probes(model)
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{model.name!r} has {len(found)} probes; name one with --probe: {', '.join(map(str, found))}")
    raise UserError(f"{model.name!r} has no kept probe; make one: melp-bench probe {model.folder or model.name} DATASET/TASK")


def _folder(model: LoadedModel) -> Path:
    if model.folder is None:
        raise UserError(f"{model.name!r} has no checkpoint folder")
    return model.folder
