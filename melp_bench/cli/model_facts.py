"""What is known of a model beside its size: what its pretraining spoils, what papers report, what a checkpoint is of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from melp_bench.errors import UserError

if TYPE_CHECKING:
    from melp_bench.plugins import Catalogue

Facts = list[tuple[str, str]]


def contaminated(corpora: Sequence[str]) -> str:
    """Return which tasks of which shipped protocols read a dataset that is among `corpora`, a line per protocol."""
    from melp_bench.board.leakage import seen_among
    from melp_bench.protocol import load_protocol, protocol_names

    lines = []
    for name in protocol_names() if corpora else ():
        protocol = load_protocol(name)
        seen = {alias for alias, use in protocol.datasets.items() if seen_among(corpora, (alias, use.dataset))}
        tasks = dict.fromkeys(task for use in protocol.evaluations for task in use.single_tasks)
        if spoilt := [task for task in tasks if task.partition("/")[0] in seen]:
            lines.append(f"{name}: {', '.join(spoilt)}")
    return "\n".join(lines) if lines or not corpora else "no task of a protocol that is shipped"


def reported(name: str) -> str:
    """Return what papers report of a method, in percent, a line per source, evaluation and setting; "" where none does."""
    from melp_bench.board.reported import reported_of

    lines: dict[str, list[str]] = {}
    for cell in reported_of(name):
        words = f"{cell.method}, {cell.evaluation.replace('_', ' ')} {cell.setting}".strip()
        value = f"{cell.task} {100 * cell.value:.1f}" + (" (doubtful)" if cell.suspected else "")
        lines.setdefault(f"{words} by {cell.source}", []).append(value)
    return "\n".join(f"{head}: {', '.join(values)}" for head, values in lines.items())


def checkpoint_of(name: str, catalogue: Catalogue) -> Path | None:
    """Return the checkpoint folder that a name is of: the folder itself, or ENCODER@FILE once it was imported; else None.

    Raises:
        UserError: the file was not imported, or there is none.
    """
    from melp_bench.checkpoint import is_checkpoint
    from melp_bench.home import home
    from melp_bench.published.folder import import_path
    from melp_bench.runs.references import published_reference

    if is_checkpoint(Path(name)):
        return Path(name)
    if (published := published_reference(name, catalogue)) is None:
        return None
    folder = import_path(published.file, published.encoder, home() / "checkpoints")
    if not is_checkpoint(folder):
        command = f"melp-bench import {published.file} --family {published.encoder.name}"
        raise UserError(f"{published.file!r} was not imported yet, which says whether it fits; do: {command}")
    return folder


def describe_checkpoint(folder: Path, catalogue: Catalogue) -> Facts:
    """Return the facts of a checkpoint: what it is of, what it wants and costs, what it has seen and what that spoils.

    Raises:
        UserError: the checkpoint is damaged, or its components are not installed.
    """
    from melp_bench.checkpoint import read_manifest
    from melp_bench.runs.loaded import load
    from melp_bench.runs.probes import kept_probes
    from melp_bench.throughput.cost import gflops_per_record, num_parameters

    manifest = read_manifest(folder)
    loaded = load(str(folder), device="cpu", catalogue=catalogue)
    encoder, entry, recipe = loaded.model.encoder, catalogue.ecg_encoders[manifest.recipe.encoder.name], manifest.recipe
    made, source = manifest.pretraining, manifest.source
    trained = (
        f"{made['steps']} steps of {made['batch_size']} from {made['dataset']}, seed {made['seed']}" if "steps" in made else ""
    )
    named = made.get("dataset", [])
    own = [named] if isinstance(named, str) else list(named)
    others = [corpus for corpus in manifest.corpora if corpus not in own]
    return [
        ("encoder", entry.name + "".join(f" {key}={value}" for key, value in recipe.encoder.options.items())),
        ("text encoder", recipe.text.name if recipe.text else "none"),
        ("wants", f"{encoder.spec}; {' '.join(encoder.spec.leads)}"),
        ("parameters", f"{num_parameters(encoder):,}"),
        ("GFLOPs per record", f"{gflops_per_record(encoder):.3g}"),
        ("weights", f"SHA-256 {manifest.weights_sha256}"),
        ("imported from", " ".join(source.values())),
        ("pretrained", trained),
        ("corpora", ", ".join(manifest.corpora) or "none: it has seen no data"),
        ("said by", _said_by(encoder.corpora_source, entry.source, imported=bool(source), seen=bool(manifest.corpora))),
        ("contaminates", "\n".join(filter(None, [_own_folds(own), contaminated(others)]))),
        ("reported", reported(entry.name) if source else ""),
        ("licence", entry.license_note),
        ("probes", "\n".join(path.name for path in kept_probes(loaded))),
    ]


def _own_folds(own: Sequence[str]) -> str:
    """Return what a pretraining here means for tests on the same dataset."""
    return (
        f"tests on {' and '.join(own)} no more than folds 1-8 do, which it saw; a run looks for their recordings" if own else ""
    )


def _said_by(claim: str, paper: str, *, imported: bool, seen: bool) -> str:
    """Return who says what a checkpoint has seen."""
    if not seen:
        return ""
    return claim or paper if imported else "this checkpoint, which was pretrained on them here"
