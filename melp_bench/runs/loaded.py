"""A model by its name, ready to embed signals of any rate and lead order: what `melp_bench.load` returns.

Shapes: B records, L leads, T samples, P channels of `embedding`, D channels of the other scales, Q segments or tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from melp_bench.canonical import digest
from melp_bench.checkpoint import is_checkpoint
from melp_bench.components import TextSource
from melp_bench.embedding import features_of
from melp_bench.errors import UserError
from melp_bench.features import Features
from melp_bench.home import home
from melp_bench.leads import LEADS
from melp_bench.model import Model
from melp_bench.plugins import Catalogue, discover
from melp_bench.published.folder import import_checkpoint, import_path
from melp_bench.recipe import Recipe, recipe_names
from melp_bench.runs.building import build_model, load_model
from melp_bench.runs.candidates import features_digest, is_untrained, recipe_of, use_code
from melp_bench.runs.references import CheckpointReference, PublishedReference, RecipeReference, has_own_weights, parse
from melp_bench.runs.resolution import recipe_content, resolve
from melp_bench.runs.training import choose_device, own_corpora
from melp_bench.runs.versions import FEATURES
from melp_bench.signal import Crops, SignalSpec
from melp_bench.windows import Windows, conform_windows, pooled

Scale = Literal["embedding", "record", "segments", "tokens"]
SCALES: tuple[Scale, ...] = get_args(Scale)
AT_ONCE = 64  # windows of one forward pass
SEED = 0  # of what a recipe that trains nothing draws at random


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model with its weights, in eval mode.

    Attributes:
        name: what a reader calls it.
        model: encoders and heads, on `device`.
        recipe: what it is made of.
        corpora: names of the datasets its weights have seen.
        identity: the digest of all that its features depend on besides the records: weights, options, code, versions.
        folder: of its checkpoint; None where it has none.
    """

    name: str
    model: Model
    recipe: Recipe
    corpora: tuple[str, ...]
    identity: str
    device: torch.device
    folder: Path | None = None

    @property
    def spec(self) -> SignalSpec:
        """The signal that it wants, to which any record is brought."""
        return self.model.encoder.spec

    def embed(
        self, signal: ArrayLike, rate_hz: float, leads: Sequence[str] = LEADS, *, scale: Scale = "embedding"
    ) -> NDArray[np.float32]:
        """Return features of `signal` in millivolts: (P,) of one record (L, T), (B, P) of a batch (B, L, T).

        `scale` is "embedding", which probes read, "record", in the space shared with reports, or "segments" or "tokens", with
        one more axis (Q, D), NaN where an entry is not real. Leads go by their names, in any order; a limb lead that lacks is
        derived from two others. A missing sample is NaN.

        Raises:
            UserError: the shape does not fit the leads, a lead that the encoder wants lacks, the scale is unknown or the
                model offers none such.
        """
        values = np.asarray(signal, dtype=np.float32)
        if values.ndim not in (2, 3) or values.shape[-2] != len(leads):
            wanted = f"({len(leads)} leads, samples), or a batch of such"
            raise UserError(f"the signal has the shape {values.shape}; wanted {wanted}")
        if values.size == 0:
            raise UserError(f"the signal has the shape {values.shape}: it holds no record, or none with a sample")
        if (reason := self.spec.refusal(leads)) is not None:
            raise UserError(f"{self.name!r} cannot read this signal: {reason}")
        batch = torch.from_numpy(np.ascontiguousarray(values if values.ndim == 3 else values[None])).to(self.device)
        windows = conform_windows(batch, rate_hz=rate_hz, leads=tuple(leads), spec=self.spec)
        found = np.stack(self.of_windows(windows, (scale,))[scale])
        return found if values.ndim == 3 else cast("NDArray[np.float32]", found[0])

    def of_windows(self, windows: Windows, scales: Sequence[Scale]) -> dict[Scale, Sequence[NDArray[np.float32]]]:
        """Return, by scale, the features of every record that `windows` are of: (P,) or, of segments and tokens, (Q, D).

        Those of one window stand after those of the window before.

        Raises:
            UserError: a scale is unknown, or the model offers none such.
        """
        parts: dict[Scale, list[Tensor]] = {scale: [] for scale in scales}
        with torch.inference_mode():
            for signals in torch.split(windows.signals, AT_ONCE):
                made = features_of(self.model, signals)
                for scale in scales:
                    parts[scale].append(self._scale(made, scale))
        return {scale: _by_record(_joined(parts[scale]), windows, self.spec.crops) for scale in scales}

    def _scale(self, made: Features, scale: Scale) -> Tensor:
        """Return one scale of the features of some windows, NaN where an entry is not real."""
        if scale not in SCALES:
            raise UserError(f"scale is {scale!r}; wanted one of {', '.join(SCALES)}")
        values: Tensor | None = getattr(made, scale)
        if values is None:
            raise UserError(
                f"{self.name!r} offers no {scale}; it has {', '.join(name for name in SCALES if name in made.present())}"
            )
        mask: Tensor | None = getattr(made, f"{scale}_mask", None)
        return values.float() if mask is None else values.float().masked_fill(~mask[..., None], torch.nan)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Return the features of several batches as one, those of fewer entries followed by NaN."""
    if parts[0].ndim == 2:
        return torch.cat(list(parts))
    longest = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, 0, 0, longest - part.shape[1]), value=torch.nan) for part in parts])


def _by_record(values: Tensor, windows: Windows, crops: Crops | None) -> Sequence[NDArray[np.float32]]:
    """Return what is known of each record from the features of its windows, (M, P) or (M, Q, D)."""
    if values.ndim == 2:
        whole = values if crops is None else pooled(values, windows.owners, crops.pool)
        return list(whole.cpu().numpy())
    order = torch.argsort(windows.owners, stable=True)
    counts = torch.bincount(windows.owners).tolist()
    return [part.flatten(0, 1).cpu().numpy() for part in torch.split(values[order], counts)]


def load(
    model: str, *, settings: Mapping[str, str] | None = None, device: str = "auto", catalogue: Catalogue | None = None
) -> LoadedModel:
    """Return a model with its weights by its name: a checkpoint folder, ENCODER@FILE, or an encoder that has its own weights.

    A published file is imported first, once. `settings` change a recipe that trains nothing: "encoder.model" -> "folder".

    Raises:
        UserError: it has no weights, as a recipe that is still to be pretrained; or a setting does not fit.
        UnknownName: it stands for nothing.
    """
    found, place = catalogue or discover(), torch.device(choose_device(device))
    if model in found.ecg_encoders and model not in recipe_names() and not has_own_weights(found.ecg_encoders[model]):
        raise UserError(
            f"{model!r} is an encoder without weights; give {model}@FILE, a checkpoint folder, or random-init+{model}"
        )
    reference = parse(model, found)
    if not isinstance(reference, RecipeReference) and settings:
        raise UserError(f"{model!r} has weights, and so its recipe is settled; leave out what is set")
    if isinstance(reference, RecipeReference):
        return _untrained(reference, found, settings or {}, place)
    folder = reference.folder if isinstance(reference, CheckpointReference) else _imported(reference)
    made, manifest = load_model(folder, found)
    ready = made.to(place).eval().requires_grad_(False)
    identity = features_digest(manifest, found)
    return LoadedModel(manifest.recipe.name, ready, manifest.recipe, tuple(manifest.corpora), identity, place, folder)


def _imported(reference: PublishedReference) -> Path:
    """Return the checkpoint folder of a published file, which is imported if that was not done before."""
    folder = import_path(reference.file, reference.encoder, home() / "checkpoints")
    if not is_checkpoint(folder):
        import_checkpoint(reference.file, reference.encoder, folder)
    return folder


def _untrained(
    reference: RecipeReference, catalogue: Catalogue, settings: Mapping[str, str], device: torch.device
) -> LoadedModel:
    """Return the model of a recipe without stages: an encoder as it is built."""
    recipe = resolve(recipe_of(reference), catalogue, settings)
    if not is_untrained(recipe):
        raise UserError(
            f"{recipe.name!r} is a recipe, and has no weights yet; pretrain it (melp-bench pretrain {reference.recipe}) "
            "and give the folder of its checkpoint"
        )
    part = recipe.encoder
    entry = catalogue.ecg_encoders[part.name]
    made = build_model(recipe, catalogue, TextSource(), SEED)
    depends = {
        "recipe": recipe_content(recipe),
        "code": use_code(recipe, catalogue),
        "files": entry.read_digests(part.options),
        "versions": FEATURES,
        "seed": SEED,
    }
    corpora = tuple(own_corpora(made, recipe, catalogue))
    ready = made.to(device).eval().requires_grad_(False)
    return LoadedModel(recipe.name, ready, recipe, corpora, digest(depends), device)
