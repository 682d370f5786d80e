"""`melp-bench import` and `melp-bench export`: published files to our checkpoints, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from melp_bench.errors import UserError

if TYPE_CHECKING:
    from melp_bench.components import ECGEncoder
    from melp_bench.plugins import Catalogue
    from melp_bench.published.folder import Imported, Text
    from melp_bench.registry import Entry


def import_file(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A published file, or hf:owner/name[/file]; #NAME: that part of it.")
    ],
    family: Annotated[str, typer.Option("--family", "-f", metavar="ENCODER", help="The encoder it was published as.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="By default $MELP_BENCH_HOME/checkpoints/FAMILY-SHA256.")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="MODEL",
            help="Import the text tower too, for zero-shot; its configuration and tokenizer are those of this model of the "
            "hub (hf:owner/name) or local folder.",
        ),
    ] = None,
) -> None:
    """Import a published checkpoint, every key of it used or named; nothing in the file is run."""
    from rich.console import Console

    from melp_bench.home import home
    from melp_bench.plugins import discover
    from melp_bench.published.folder import import_checkpoint, import_path, published_form

    catalogue, console = discover(), Console()
    entry = catalogue.ecg_encoders[family]
    tower = text_for(catalogue, entry, text) if text else None
    folder = to or import_path(file, entry, home() / "checkpoints", tower)
    made = import_checkpoint(file, entry, folder, tower)
    for line in _account(made):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    left_out = published_form(entry).text
    if left_out is not None and tower is None and left_out.keys.anchor in made.unused:
        hint = f"the text tower was left out; for zero-shot add  --text {left_out.model}"
        console.print(hint, markup=False, highlight=False, soft_wrap=True)
    console.print(f"checkpoint  {folder}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"next        melp-bench run PROTOCOL --model {folder}", markup=False, highlight=False, soft_wrap=True)


def export_file(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint folder, imported or trained here.")],
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The file to write.")],
    form: Annotated[
        Literal["safetensors", "onnx"],
        typer.Option("--format", help="safetensors under the published names, or the ECG encoder as an ONNX graph."),
    ] = "safetensors",
) -> None:
    """Write a checkpoint under its published names, or its ECG encoder as a graph that was checked with onnxruntime."""
    from rich.console import Console

    from melp_bench.checkpoint import read_manifest
    from melp_bench.plugins import discover
    from melp_bench.published.export import export_checkpoint

    console, catalogue = Console(), discover()
    entry = catalogue.ecg_encoders[read_manifest(checkpoint).recipe.encoder.name]
    if form == "onnx":
        from melp_bench.published.onnx import export_onnx
        from melp_bench.runs.building import load_model

        model, _ = load_model(checkpoint, catalogue)
        worst = export_onnx(model.encoder, to)
        lines = [f"checked     onnxruntime against PyTorch on 3 records: largest difference {worst:.1e}"]
    else:
        lines = [f"lacks       {what}" for what in export_checkpoint(checkpoint, entry, to)]
        if lines:
            lines.append("load it in the published code with strict=False")
    for line in [*lines, f"written     {to}"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def text_for(catalogue: Catalogue, entry: Entry[ECGEncoder], model: str) -> Text:
    """Return the text encoder that a published text tower goes into, with the configuration and tokenizer of `model`.

    Raises:
        UserError: the entry's published files hold no text tower that we know.
    """
    from melp_bench.published.folder import Text, published_form

    tower = published_form(entry).text
    if tower is None:
        raise UserError(f"published {entry.name!r} files hold no text tower that we know; leave out --text")
    return Text(catalogue.text_encoders[tower.component], model, catalogue.heads[tower.heads])


def _account(made: Imported) -> list[str]:
    """Return what became of the keys, with one line per reason for those that are not used."""
    from melp_bench.published.family import by_reason

    used = len(made.encoder.weights) + (len(made.text.weights) if made.text else 0)
    first = f"used        {used} keys" + (f", {len(made.text.weights)} of them of the text tower" if made.text else "")
    return [first, *(f"unused      {line}" for line in by_reason(made.unused | made.part.beside))]
