"""Every check finds the fault it is there for, in a component that is sound but for that one fault."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.testing import Verdict, check_component
from melp_bench.testing.small import SIZES, SmallEncoder


def broken(kind: str, build: Any, source: Path | None = None) -> dict[str, str]:
    """Return what the suite finds broken, by property."""
    verdicts: list[Verdict] = check_component(kind, mb.Entry("faulty", build, ""), source=source)
    return {v.property: v.detail for v in verdicts if v.ok is False}


# ----------------------------------------------------------------------------------------------------------- encoders


class MixesNeighbours(SmallEncoder):
    def forward(self, signal: Tensor) -> mb.Features:
        return super().forward(signal - signal.mean(dim=0, keepdim=True))


class Random(SmallEncoder):
    def forward(self, signal: Tensor) -> mb.Features:
        return super().forward(signal + 0.1 * torch.randn_like(signal))


class DividesByZero(SmallEncoder):
    def forward(self, signal: Tensor) -> mb.Features:
        return super().forward(signal / signal.std(dim=-1, keepdim=True))


class Counts(SmallEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, signal: Tensor) -> mb.Features:
        self.calls += 1
        return super().forward(signal)


class CarriesUnused(SmallEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(3, 3)


class DeafToV6(SmallEncoder):
    def forward(self, signal: Tensor) -> mb.Features:
        return super().forward(torch.cat([signal[:, :11], torch.zeros_like(signal[:, 11:])], dim=1))


class Overwrites(SmallEncoder):
    def forward(self, signal: Tensor) -> mb.Features:
        with torch.no_grad():
            signal.mul_(0.5)
        return super().forward(signal)


class Squeezes(SmallEncoder):
    def forward(self, signal: Tensor) -> mb.Features:
        features = super().forward(signal)
        return features.apply({n: t.squeeze() for n, t in features.present().items()})


class LiesAboutWidth(SmallEncoder):
    @property
    def embedding_width(self) -> int:
        return self.width + 1


class Blind(SmallEncoder):
    def forward(self, signal: Tensor) -> mb.Features:
        return super().forward(signal * 0)


class GrowsByBuild(SmallEncoder):
    builds: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        GrowsByBuild.builds += 1
        self.layers.append(nn.Linear(self.width, self.width))
        if GrowsByBuild.builds > 1:
            self.layers.append(nn.Linear(self.width, self.width))


class OddSpec(SmallEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.spec = replace(self.spec, leads=("I", "I", *mb.LEADS[2:]))


@pytest.mark.parametrize(
    ("encoder", "property_name"),
    [
        (MixesNeighbours, "neighbours do not matter"),
        (MixesNeighbours, "padding does not matter"),
        (MixesNeighbours, "a batch of one is a batch"),
        (Random, "eval() is deterministic and changes no state"),
        (Counts, "eval() is deterministic and changes no state"),
        (DividesByZero, "flat and extreme records give finite features"),
        (CarriesUnused, "gradient reaches every lead and parameter"),
        (DeafToV6, "gradient reaches every lead and parameter"),
        (Overwrites, "features have the declared widths"),
        (Squeezes, "a batch of one is a batch"),
        (LiesAboutWidth, "features have the declared widths"),
        (Blind, "two records have different features"),
        (GrowsByBuild, "weights survive a strict round trip"),
        (OddSpec, "its spec is sane"),
        (lambda: nn.Linear(2, 2), "it builds"),
    ],
)
def test_a_faulty_ecg_encoder_is_found_out(encoder: Any, property_name: str) -> None:
    found = broken("ECG encoder", encoder)
    assert property_name in found
    assert found[property_name]


def test_a_sound_ecg_encoder_passes_every_check() -> None:
    verdicts = check_component("ECG encoder", mb.Entry("sound", SmallEncoder, ""))
    assert all(v.ok for v in verdicts), verdicts
    assert len(verdicts) == 12


# --------------------------------------------------------------------------------------------------------- objectives


class Contrast(mb.Objective):
    """InfoNCE; sound."""

    scale = "rhythm"

    def __init__(self, sizes: mb.Sizes) -> None:
        super().__init__()

    def forward(self, ecg: mb.Features, text: mb.Features) -> Tensor | tuple[Tensor, int]:
        logits = 10 * F.normalize(ecg.record, dim=-1) @ F.normalize(text.record, dim=-1).T
        return F.cross_entropy(logits, torch.arange(len(logits)))


class OneSided(Contrast):
    def forward(self, ecg: mb.Features, text: mb.Features) -> Tensor:
        return super().forward(ecg, text.apply({"record": text.record.detach()}))


class Backwards(Contrast):
    def forward(self, ecg: mb.Features, text: mb.Features) -> Tensor:
        return -super().forward(ecg, text)


class PerRecord(Contrast):
    def forward(self, ecg: mb.Features, text: mb.Features) -> Tensor:
        return super().forward(ecg, text) + ecg.record.mean(dim=1)


class Ordered(Contrast):
    def forward(self, ecg: mb.Features, text: mb.Features) -> Tensor:
        weight = torch.arange(len(ecg.record), dtype=torch.float32)
        return super().forward(ecg, text) + (weight @ ecg.record.square().mean(dim=1)) / len(weight)


class ReadsPadding(Contrast):
    def forward(self, ecg: mb.Features, text: mb.Features) -> Tensor:
        return super().forward(ecg, text) + text.segments.mean()


class NoBatchOfOne(Contrast):
    def forward(self, ecg: mb.Features, text: mb.Features) -> Tensor:
        return super().forward(ecg, text) + ecg.record.std(dim=0).mean()


class AsksForRank(Contrast):
    def forward(self, ecg: mb.Features, rank: int) -> Tensor:  # type: ignore[override]
        return ecg.record.sum()


class NoScale(Contrast):
    scale = "heart"


@pytest.mark.parametrize(
    ("objective", "property_name"),
    [
        (OneSided, "gradient reaches every input and parameter"),
        (Backwards, "true pairs cost less than shuffled ones"),
        (PerRecord, "the loss is finite and zero-dim"),
        (Ordered, "the order of the pairs does not matter"),
        (ReadsPadding, "what lies under a mask does not matter"),
        (NoBatchOfOne, "the loss is finite and zero-dim"),
        (AsksForRank, "it builds"),
        (NoScale, "it declares its scale and what it needs"),
    ],
)
def test_a_faulty_objective_is_found_out(objective: Any, property_name: str) -> None:
    found = broken("objective", objective)
    assert property_name in found
    assert found[property_name]


def test_a_sound_objective_passes_every_check() -> None:
    assert broken("objective", Contrast) == {}


def test_sizes_given_to_objectives_are_all_different() -> None:
    widths = (SIZES.shared, SIZES.embedding, SIZES.ecg_tokens, SIZES.text_tokens, SIZES.classes)
    assert len(set(widths)) == len(widths)


# ----------------------------------------------------------------------------------------------------------- datasets


class Twelve(mb.Dataset):
    """Twelve generated records of six patients, each patient in one fold; sound."""

    version, licence, citation, generated, has_official_folds = "1", "CC0", "nobody", True, True
    prompts: ClassVar[Mapping[str, tuple[str, ...]]] = {"fast": ("a fast heart",), "slow": ("a slow heart",)}

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        return {"rate": mb.Task("rate", {"fast": frozenset({"STACH"}), "slow": frozenset({"SBRAD"})}, self.prompts)}

    def infos(self, source: Path) -> Iterable[mb.RecordInfo]:
        for i in range(12):
            code = ("STACH", "SBRAD")[i % 2]
            yield mb.RecordInfo(f"r{i}", f"p{i // 2}", frozenset({code}), age=50.0, sex="F", fold=1 + i // 2)

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        millivolts = np.random.default_rng(int(info.record_id[1:])).normal(0, 0.3, (12, 500)).astype(np.float32)
        one, two = millivolts[0], millivolts[1]
        millivolts[2:6] = two - one, -(one + two) / 2, one - two / 2, two - one / 2  # III, aVR, aVL, aVF
        return mb.Signal(millivolts, 100.0)


class SplitsPatients(Twelve):
    def infos(self, source: Path) -> Iterable[mb.RecordInfo]:
        return (replace(info, fold=1 + i % 10) for i, info in enumerate(super().infos(source)))


class Repeats(Twelve):
    def infos(self, source: Path) -> Iterable[mb.RecordInfo]:
        return (replace(info, record_id="same") for info in super().infos(source))


class Escapes(Twelve):
    def infos(self, source: Path) -> Iterable[mb.RecordInfo]:
        return (replace(info, path="../../etc/passwd") for info in super().infos(source))


class Microvolts(Twelve):
    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        one = super().signal(source, info)
        return replace(one, millivolts=one.millivolts * 1000)


class WrongOrder(Twelve):
    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        return replace(super().signal(source, info), leads=("II", "I", *mb.LEADS[2:]))


class StrangeLead(Twelve):
    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        return replace(super().signal(source, info), leads=("pleth", *mb.LEADS[1:]))


class Unsteady(Twelve):
    reads = 0

    def infos(self, source: Path) -> Iterable[mb.RecordInfo]:
        self.reads += 1
        return (replace(info, report=f"read {self.reads}") for info in super().infos(source))


class HalfPrompted(Twelve):
    prompts: ClassVar[Mapping[str, tuple[str, ...]]] = {"fast": ("a fast heart",)}


class Mislabelled(Twelve):
    def infos(self, source: Path) -> Iterable[mb.RecordInfo]:
        return (replace(info, statements=frozenset({"OTHER"})) for info in super().infos(source))


@pytest.mark.parametrize(
    ("dataset", "property_name"),
    [
        (SplitsPatients, "no patient is in two folds"),
        (Repeats, "record ids and paths are safe and unique"),
        (Escapes, "record ids and paths are safe and unique"),
        (Microvolts, "millivolts are plausible"),
        (WrongOrder, "II = I + III"),
        (StrangeLead, "leads are known"),
        (Unsteady, "infos and signals are the same when read again"),
        (HalfPrompted, "prompts cover whole tasks"),
        (Mislabelled, "statements become labels"),
    ],
)
def test_a_faulty_dataset_is_found_out(dataset: Any, property_name: str) -> None:
    assert property_name in broken("dataset", dataset)


def test_a_sound_dataset_passes_every_check() -> None:
    assert broken("dataset", Twelve) == {}


def test_a_measured_dataset_without_its_files_is_skipped_and_says_what_it_needs() -> None:
    class Measured(Twelve):
        generated = False

    verdicts = check_component("dataset", mb.Entry("measured", Measured, ""))
    assert any(v.ok is None and "needs --from" in v.detail for v in verdicts)
    assert not any(v.ok is False for v in verdicts)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(mb.UnknownName, match="'organ'"):
        check_component("organ", mb.Entry("sound", SmallEncoder, ""))
