"""Several stores as one corpus: each record as its own store has it, and every fact of all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import melp_bench as mb
from melp_bench.canonical import digest
from melp_bench.checkpoint import Manifest
from melp_bench.errors import UnknownName, UserError
from melp_bench.evaluations import TaskRecords
from melp_bench.plugins import discover
from melp_bench.pretrain.source import PretrainSource
from melp_bench.progress import Silence
from melp_bench.protocol import Pretrain, Protocol
from melp_bench.recipe import load_recipe
from melp_bench.runs.candidates import Candidate, candidate
from melp_bench.runs.corpora import corpus_of, data_of, parts_of
from melp_bench.runs.overlap import OverlapCheck
from melp_bench.runs.references import parse
from melp_bench.runs.tasks import task_records
from melp_bench.store import Store, prepare
from melp_bench.store.joined import JoinedStore

CATALOGUE = discover()


class Numbers(mb.Dataset):
    """Records that are their own number; classes, rate and reports as asked."""

    version, licence, citation, generated = "1", "CC0-1.0", "none", True

    def __init__(self, count: int, *, rate_hz: float = 100.0, told: bool = True, classes: tuple[str, ...] = ("A", "B")) -> None:
        self.count, self.rate_hz, self.told, self.classes = count, rate_hz, told, classes

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        return {"all": mb.Task("all", {name: frozenset({name}) for name in self.classes}, keep_unlabelled=True)}

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        for i in range(self.count):
            labels, report = frozenset({self.classes[i % len(self.classes)]}), f"number {i}." if self.told else ""
            yield mb.RecordInfo(f"r{i}", f"p{i // 2}", statements=labels, report=report, fold=i // 2 % 10 + 1)

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        number, time = int(info.record_id[1:]), np.arange(int(2 * self.rate_hz)) / self.rate_hz
        return mb.Signal(np.tile(np.sin(time * (1 + number)), (12, 1)).astype(np.float32), self.rate_hz)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    root = tmp_path_factory.mktemp("stores")
    made = {
        "one": Numbers(30),
        "two": Numbers(24, rate_hz=50.0),
        "silent": Numbers(22, told=False),
        "other": Numbers(22, classes=("A", "C")),
    }
    return {name: prepare(dataset, name=name, source=None, root=root / name) for name, dataset in made.items()}


def budget(*aliases: str) -> Pretrain:
    return Pretrain(dataset=list(aliases), steps=2, batch_size=4)


SPEC = mb.SignalSpec(rate_hz=50, seconds=1)


def test_a_record_of_several_stores_is_the_record_of_its_own(stores: dict[str, Store]) -> None:
    one, two = stores["one"], stores["two"]
    both = corpus_of(budget("one", "two"), stores)
    assert isinstance(both, JoinedStore)
    assert (len(both), both.name, both.generated) == (54, "one + two", True)
    mixed = [3, 40, 29, 30, 53, 0]
    found = both.batch(mixed, SPEC)
    for row, position in enumerate(mixed):
        store, local = (one, position) if position < 30 else (two, position - 30)
        assert np.array_equal(found[row].numpy(), store.batch([local], SPEC)[0].numpy())
        assert both.reports[position] == store.reports[local]
        assert both.folds[position] == store.folds[local]
        assert np.array_equal(both.labels("all")[position], store.labels("all")[local])
        assert np.array_equal(both.signal(position).millivolts, store.signal(local).millivolts)
    assert len(set(both.record_ids.tolist())) == 54
    assert len(set(both.patient_ids.tolist())) == len(set(one.patient_ids.tolist())) + len(set(two.patient_ids.tolist()))
    assert both.refusal(SPEC) is None
    assert both.refusal(SPEC, np.array([1, 50])) is None


def test_pretraining_reads_the_training_folds_of_every_store(stores: dict[str, Store]) -> None:
    both = corpus_of(budget("one", "two"), stores)
    source = PretrainSource(both, SPEC, None, both.labels("all"))
    assert set(both.folds[source.train]) == set(range(1, 9))
    assert {int(position >= 30) for position in source.train} == {0, 1} == {int(p >= 30) for p in source.validation}
    assert (source.train < 30).sum() in source.bounds, "no shard is of two stores"


def test_labels_are_there_where_all_stores_have_the_task_with_its_classes(stores: dict[str, Store]) -> None:
    assert list(corpus_of(budget("one", "two"), stores).tasks) == ["all"]
    with pytest.raises(UnknownName, match=r"dataset 'one \+ other' has no task 'all'"):
        corpus_of(budget("one", "other"), stores).labels("all")


def asked(recipe: str, stores: dict[str, Store], root: Path, *aliases: str) -> Candidate:
    given: dict[str, Any] = {"settings": {}, "pretrain": budget(*aliases), "stores": stores, "checkpoints": root}
    return candidate(parse(recipe, CATALOGUE), CATALOGUE, **given)


def test_one_alias_has_its_key_however_it_is_written_and_several_have_all_fingerprints(
    stores: dict[str, Store], tmp_path: Path
) -> None:
    alone = asked("random-init", stores, tmp_path, "one").identity
    assert Pretrain(dataset=["one"], steps=2) == Pretrain(dataset="one", steps=2)
    simclr = asked("simclr", stores, tmp_path, "one").identity
    assert simclr["data"] == stores["one"].fingerprint
    assert "dataset" not in simclr["budget"]
    assert "data" not in alone
    both = asked("simclr", stores, tmp_path, "one", "two")
    assert both.identity["data"] == [stores["one"].fingerprint, stores["two"].fingerprint]
    assert both.identity["data"] == data_of(corpus_of(budget("one", "two"), stores))
    turned = asked("simclr", stores, tmp_path, "two", "one")
    assert len({digest(c) for c in (simclr, both.identity, turned.identity)}) == 3


@pytest.mark.parametrize("aliases", [("silent",), ("one", "silent")])
def test_a_dataset_without_reports_is_refused_where_reports_are_read(
    stores: dict[str, Store], tmp_path: Path, aliases: tuple[str, ...]
) -> None:
    with pytest.raises(UserError, match=r"stage '\w+' of 'merl' reads reports, and no record of silent has one; pretrain"):
        asked("merl", stores, tmp_path, *aliases)
    assert asked("simclr", stores, tmp_path, *aliases).recipe.name == "simclr"


def test_a_protocol_names_several_datasets_each_once() -> None:
    rule = {"name": "rule", "revision": 1, "summary": "", "datasets": {"a": {"dataset": "x"}}, "evaluations": []}
    with pytest.raises(ValueError, match=r"uses \['b'\]"):
        Protocol.model_validate(rule | {"pretrain": {"dataset": ["a", "b"], "steps": 1}})
    for wrong in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="each once"):
            Pretrain(dataset=wrong, steps=1)


def task(stores: dict[str, Store], name: str) -> TaskRecords:
    rule = {"name": "rule", "revision": 1, "summary": "", "datasets": {name: {"dataset": name}}, "evaluations": []}
    return task_records(f"{name}/all", Protocol.model_validate(rule), stores, {})


def test_the_facts_of_a_row_look_into_every_store(stores: dict[str, Store]) -> None:
    check = OverlapCheck(stores, Silence())
    both = corpus_of(budget("one", "two"), stores)
    names = [part.name for part in parts_of(both)]
    given = Manifest(
        recipe=load_recipe("random-init"), weights_sha256="0" * 64, corpora=names, pretraining={"data": data_of(both)}
    )
    facts = check.facts(given, stores["two"], task(stores, "two"))
    assert (facts["corpus"], facts["checked"]) == ("one + two", True)
    assert facts["found"] >= 0
    gone = given.model_copy(update={"pretraining": {"data": [stores["one"].fingerprint, "f" * 64]}})
    assert check.facts(gone, stores["two"], task(stores, "two"))["reason"] == "the pretraining corpus is not prepared here"
