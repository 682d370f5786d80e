"""Robustness: a linear probe fitted on clean records, scored on the same test records after something went wrong with them.

The probe is that of `linear_probe` on all training labels; it never sees a disturbed record. What can go wrong is told in
`disturbances`. It is done to twelve leads in millivolts at 500 Hz, before the encoder's own preparation, as it would be in the
clinic: filters and scaling see the disturbance too. An encoder that reads a record by crops is given its first 10 s.

Shapes: n records asked for, L leads, T samples, P embedding channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.registry import nearest
from melp_bench.splits import Positions
from melp_plugins.evaluations.disturbances import NOISES, add_noise, exchange_arms, lose_leads, mains
from melp_plugins.evaluations.pooling import pooled
from melp_plugins.evaluations.probe import USUAL, fit
from melp_plugins.evaluations.probing import fit_details, problems_of, require_seeds, scorer

RAW = mb.SignalSpec(rate_hz=500.0)
KINDS = (*NOISES, "missing-leads", "arm-reversal")
BATCH = 64


class Robustness(mb.Evaluation):
    """One row per task, disturbance and level; its score is the mean over the seeds."""

    version = 1
    label = "robustness"
    metrics = ("auroc", "auprc")

    def __init__(
        self,
        *,
        disturbances: tuple[str, ...] = KINDS,
        snr_db: tuple[float, ...] = (20.0, 10.0, 0.0),
        missing_leads: tuple[int, ...] = (1, 3, 6),
        mains_hz: float = 50.0,
        seeds: tuple[int, ...] = (0, 1, 2),
        patience: int = USUAL.patience,
    ) -> None:
        """Check the options.

        Raises:
            UserError: a disturbance is unknown, a number of leads makes no sense, or there is no seed.
        """
        for name in disturbances:
            if name not in KINDS:
                raise mb.UserError(f"evaluation 'robustness' knows no {name!r}{nearest(name, KINDS)} Known: {', '.join(KINDS)}")
        if not all(0 < count <= len(RAW.leads) for count in missing_leads):
            raise mb.UserError(
                f"evaluation 'robustness' has missing_leads = {list(missing_leads)}; wanted 1 to {len(RAW.leads)}"
            )
        self.disturbances, self.snr_db, self.missing_leads = disturbances, snr_db, missing_leads
        self.mains_hz, self.seeds = mains_hz, require_seeds(seeds, "robustness")
        self.fitting = replace(USUAL, patience=patience)

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per task, disturbance and level."""
        shared = {**asdict(self.fitting), "seeds": list(self.seeds)}
        for task in tasks:
            for name in self.disturbances:
                for level, unit in self._levels(name):
                    options = {**shared, "disturbance": name, "level": level}
                    options |= {"mains_hz": self.mains_hz} if name == "mains" else {}
                    yield mb.Measurement(task, (task,), f"{name} {level:g} {unit}" if unit else name, options)

    def _levels(self, name: str) -> list[tuple[float, str]]:
        if name in NOISES:
            return [(level, "dB") for level in self.snr_db]
        return [(count, "of 12") for count in self.missing_leads] if name == "missing-leads" else [(1, "")]

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return the logits on disturbed test records of probes fitted on clean ones, one set per seed.

        Raises:
            NotApplicable: a part of the split is empty.
        """
        task, name = context.task(measurement.task), str(measurement.options["disturbance"])
        problems = problems_of(task, 1.0, self.seeds)
        clean = context.features(task).embedding
        probes = fit(clean, task.labels, problems, self.fitting)
        disturbed = torch.zeros_like(clean)
        for start in range(0, len(task.scored), BATCH):
            positions = task.scored[start : start + BATCH]
            disturbed[positions] = self._embed(context, task, positions, name, float(measurement.options["level"]))
        details = {**fit_details(task, 1.0, self.seeds, problems, probes), "disturbance": name}
        return pooled(
            task,
            scorer(problems, probes, clean),
            kind="logit",
            scales_differ=True,
            details=details,
            tested=scorer(problems, probes, disturbed),
        )

    def _embed(self, context: mb.Context, task: mb.TaskRecords, positions: Positions, name: str, level: float) -> Tensor:
        """Return the embeddings (n, P) of disturbed records, prepared as the encoder asks after they were disturbed."""
        spec = context.model.encoder.spec
        raw = replace(RAW, seconds=max(RAW.seconds, spec.seconds) if spec.crops else spec.seconds)
        signals = self._disturb(context.signals(task, positions, raw), task.record_ids[positions].tolist(), name, level)
        return context.embed_native(signals, rate_hz=raw.rate_hz, leads=raw.leads)

    def _disturb(self, signals: Tensor, record_ids: list[str], name: str, level: float) -> Tensor:
        """Return disturbed `signals` (n, 12, T) in millivolts."""
        if name == "missing-leads":
            return lose_leads(signals, record_ids, int(level))
        if name == "arm-reversal":
            return exchange_arms(signals, RAW.leads)
        noise = partial(mains, mains_hz=self.mains_hz) if name == "mains" else NOISES[name]
        return add_noise(signals, record_ids, noise, snr_db=level, rate_hz=RAW.rate_hz)


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return robustness."""
    return [
        mb.Entry(
            "robustness",
            Robustness,
            "a linear probe fitted on clean records, scored under noise, lost leads and exchanged electrodes",
            "https://arxiv.org/abs/1903.12261",
            "MIT",
        )
    ]
