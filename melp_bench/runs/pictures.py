"""Pictures of a pretraining in its checkpoint's folder: its curves, and where the sentences of some reports look.

They are drawn of a finished checkpoint; nothing depends on them, and what cannot be drawn is left out.
"""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from melp_bench.checkpoint import Manifest, read_manifest
from melp_bench.errors import NotApplicable
from melp_bench.home import atomic_write
from melp_bench.plugins import Catalogue
from melp_bench.runs.building import build_step, load_model
from melp_bench.runs.candidates import Candidate
from melp_bench.runs.training import LOG
from melp_bench.splits import holdout
from melp_bench.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES, ATTENTION = "curves.png", "attention-{}.png"
RECORDS = 3
"""Validation records whose attention is drawn."""
STEPS = 50
"""After so many steps of the last stage, at least: before that sentences look nowhere."""
SENTENCES = 2
"""A record is chosen if its report has so many, at least."""
STOP = re.compile(r"(?<!\d)\.|\.(?!\d)")
"""A full stop that ends a sentence: not the point of a decimal."""

log = logging.getLogger(__name__)


def draw_pictures(candidate: Candidate, store: Store, *, catalogue: Catalogue) -> list[Path]:
    """Draw the pictures of a candidate that was pretrained on `store`, and return their paths."""
    drawn = []
    for draw in (_draw_curves, _draw_attention):
        try:
            drawn += draw(candidate, store, catalogue)
        except NotApplicable as reason:
            log.info("no picture of attention of %s: %s", candidate.told, reason)
        except Exception as error:  # nothing depends on a picture, and hours may have gone into what it is of
            log.warning("a picture of %s could not be drawn: %s: %s", candidate.told, type(error).__name__, error)
    return drawn


def _draw_curves(candidate: Candidate, store: Store, catalogue: Catalogue) -> list[Path]:
    from melp_bench.pretrain.curves import curves_figure, read_log

    lines = read_log(candidate.folder / LOG) if (candidate.folder / LOG).is_file() else []
    if not lines:
        return []
    return [_written(curves_figure(lines, title=f"pretraining of {candidate.told}"), candidate.folder / CURVES)]


def _draw_attention(candidate: Candidate, store: Store, catalogue: Catalogue) -> list[Path]:
    """Draw where the sentences of some validation records look, by the last stage's objective.

    Raises:
        NotApplicable: the model's sentences attend to nothing whose place in time is known.
    """
    from melp_bench.pretrain.attention import looks_of
    from melp_bench.pretrain.attention_plot import plot_looks

    if candidate.recipe.text is None or not candidate.recipe.stages:
        raise NotApplicable("needs reports")
    manifest = read_manifest(candidate.folder)
    if manifest.pretraining["best_step"] < STEPS:
        raise NotApplicable(f"needs at least {STEPS} steps")
    model, manifest = load_model(candidate.folder, catalogue)
    step = build_step(candidate.recipe.stages[-1], catalogue, model, _classes(manifest, store))
    positions = _chosen(store)
    text, spec = model.text_encoder, model.encoder.spec
    if text is None or not len(positions):
        raise NotApplicable(f"needs validation records whose reports have {SENTENCES} sentences")
    looks = looks_of(step, store.batch(positions, spec), text.tokenize([store.reports[i] for i in positions.tolist()]))
    drawn = []
    for row, position in enumerate(positions.tolist()):
        real = looks.mask[row]
        signal, names = store.signal(position), sentences_of(store.reports[position], int(real.sum()))
        time, segments = (one[row][real].double().numpy() for one in (looks.time, looks.segments))
        title = f"{candidate.told}: where each sentence looks · record {store.record_ids[position]}"
        figure = plot_looks(signal, names, time, segments, seconds=spec.seconds, title=title)
        drawn.append(_written(figure, candidate.folder / ATTENTION.format(row + 1)))
    return drawn


def _classes(manifest: Manifest, store: Store) -> int:
    labels = manifest.pretraining.get("labels")
    return len(store.task(labels).classes) if isinstance(labels, str) and labels in store.tasks else 0


def _chosen(store: Store) -> NDArray[np.int64]:
    """Return the positions of the first validation records whose reports have several sentences."""
    (part,) = holdout(store.folds)
    several = (i for i in part.validation.tolist() if len(_parts(store.reports[i])) >= SENTENCES)
    return np.array([position for position, _ in zip(several, range(RECORDS), strict=False)], dtype=np.int64)


def sentences_of(report: str, number: int) -> list[str]:
    """Return the `number` sentences of a report; by number where it is not parted as the text encoder parts it."""
    parts = _parts(report)
    return parts if len(parts) == number else [f"sentence {place}" for place in range(1, number + 1)]


def _parts(report: str) -> list[str]:
    return [part.strip() for part in STOP.split(report) if re.search(r"\w", part)]


def _written(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, whole or not at all, and return its path."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    atomic_write(path, content.getvalue())
    return path
