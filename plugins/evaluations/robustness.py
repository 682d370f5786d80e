"""Robustness: a linear probe fitted on clean records, scored on the same test records after something went wrong with them.

The probe is that of `linear_probe` on all training labels; it never sees a disturbed record. What can go wrong is told in
`disturbances`. It is done to twelve leads in millivolts at 500 Hz, before the encoder's own preparation, as it would be in the
clinic: filters and scaling see the disturbance too. An encoder that reads a record by crops is given its first 10 s.

Two kinds are poorer records rather than disturbed ones: `low-rate` is the record resampled to a lower rate, from which the
encoder's preparation has to make its own (a level above the rate at which the records lie in their store loses nothing), and
`short-record` its first seconds, which are completed as the encoder completes any short record.

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
from melp_plugins.evaluations.disturbances import EXCHANGED, NOISES, add_noise, exchange_electrodes, lose_leads, mains
from melp_plugins.evaluations.pooling import pooled
from melp_plugins.evaluations.probe import USUAL, fit
from melp_plugins.evaluations.probing import fit_details, problems_of, require_seeds, scorer

RAW = mb.SignalSpec(rate_hz=500.0)
KINDS = (*NOISES, "missing-leads", *EXCHANGED, "low-rate", "short-record")
BATCH = 64


class Robustness(mb.Evaluation):
    """One row per task, disturbance and level; its score is the mean over the seeds."""

    version = 2
    label = "robustness"
    metrics = ("auroc", "auprc")

    def __init__(
        self,
        *,
        disturbances: tuple[str, ...] = KINDS,
        snr_db: tuple[float, ...] = (24.0, 18.0, 12.0, 6.0, 0.0, -6.0),
        missing_leads: tuple[int, ...] = (1, 3, 6),
        rates_hz: tuple[float, ...] = (250.0, 100.0),
        seconds: tuple[float, ...] = (5.0, 2.5),
        mains_hz: float = 50.0,
        seeds: tuple[int, ...] = (0, 1, 2),
        patience: int = USUAL.patience,
    ) -> None:
        """Check the options.

        Raises:
            UserError: a disturbance is unknown, a number of leads, a rate or a length makes no sense, or there is no seed.
        """
        for name in disturbances:
            if name not in KINDS:
                raise mb.UserError(f"evaluation 'robustness' knows no {name!r}{nearest(name, KINDS)} Known: {', '.join(KINDS)}")
        if not all(0 < count <= len(RAW.leads) for count in missing_leads):
            raise mb.UserError(
                f"evaluation 'robustness' has missing_leads = {list(missing_leads)}; wanted 1 to {len(RAW.leads)}"
            )
        for option, levels, most in (("rates_hz", rates_hz, RAW.rate_hz), ("seconds", seconds, RAW.seconds)):
            if not all(0 < level <= most for level in levels):
                raise mb.UserError(
                    f"evaluation 'robustness' has {option} = {list(levels)}; wanted more than 0 and at most {most:g}"
                )
        self.disturbances, self.snr_db, self.missing_leads = disturbances, snr_db, missing_leads
        self.rates_hz, self.seconds = rates_hz, seconds
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
        levels: dict[str, list[tuple[float, str]]] = {
            "missing-leads": [(count, "of 12") for count in self.missing_leads],
            "low-rate": [(rate, "Hz") for rate in self.rates_hz],
            "short-record": [(length, "s") for length in self.seconds],
        }
        return levels.get(name, [(1, "")])

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
        raw = replace(raw, rate_hz=level) if name == "low-rate" else raw
        raw = replace(raw, seconds=min(level, raw.seconds)) if name == "short-record" else raw
        signals = self._disturb(context.signals(task, positions, raw), task.record_ids[positions].tolist(), name, level)
        return context.embed_native(signals, rate_hz=raw.rate_hz, leads=raw.leads)

    def _disturb(self, signals: Tensor, record_ids: list[str], name: str, level: float) -> Tensor:
        """Return disturbed `signals` (n, 12, T) in millivolts; those of another rate or length are what they shall be."""
        if name in ("low-rate", "short-record"):
            return signals
        if name == "missing-leads":
            return lose_leads(signals, record_ids, int(level))
        if name in EXCHANGED:
            return exchange_electrodes(signals, RAW.leads, name)
        noise = partial(mains, mains_hz=self.mains_hz) if name == "mains" else NOISES[name]
        return add_noise(signals, record_ids, noise, snr_db=level, rate_hz=RAW.rate_hz)


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return robustness."""
    return [
        mb.Entry(
            "robustness",
            Robustness,
            "a linear probe fitted on clean records, scored under noise, lost leads, exchanged electrodes, low rates",
            "https://arxiv.org/abs/1903.12261",
            "MIT",
        )
    ]
