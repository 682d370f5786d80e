"""The store: what goes in comes out, whatever happens on the way."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal as signals
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from made_waves import Waves, content, wave

from melp_bench.components import Dataset, RecordInfo, Signal
from melp_bench.errors import UnknownName, UserError
from melp_bench.signal import LEADS, Scaling, SignalSpec, conform
from melp_bench.splits import hash_fold
from melp_bench.store import Store, open_store, prepare, reader, store_path, verify, verify_source

FOLDS_OF = [4, 2, 5]  # of "1", "15709" and "p0": SHA-256, first eight bytes, modulo ten; a split that moves is a broken promise


def make(root: Path, dataset: Dataset | None = None, **changes: object) -> Store:
    return prepare(dataset or Waves(), name="waves", source=None, root=root, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make(tmp_path_factory.mktemp("stores") / "waves")


def test_every_record_is_in_the_index_or_in_quarantine(finished: Store) -> None:
    bad = pq.read_table(finished.root / "quarantine.parquet").to_pydict()
    assert sorted([*finished.record_ids.tolist(), *bad["record_id"]]) == sorted(f"r{n}" for n in range(60))
    assert bad["record_id"] == [f"r{n}" for n in range(6, 60, 7)]
    assert set(bad["code"]) == {"made-bad"}
    assert finished.manifest.quarantined == {"made-bad": 8}


def test_a_record_comes_back_within_half_a_step(finished: Store) -> None:
    for position, record in enumerate(finished.record_ids):
        had, got = wave(int(record[1:])), finished.signal(position)
        bound = np.abs(had.millivolts).max(axis=1, keepdims=True) / 65534 + 1e-6
        assert (np.abs(got.millivolts - had.millivolts) <= bound).all()
        assert (got.rate_hz, got.leads) == (had.rate_hz, had.leads)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are listed in /proc, which is Linux's")
def test_a_store_keeps_few_of_its_shards_open_and_reads_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "s", Waves(count=90)).root
    monkeypatch.setattr(reader, "OPEN_SHARDS", 2)
    store, plain = open_store(root), open_store(root)
    shards = [str(path.resolve()) for path in (root / "shards").iterdir()]
    assert len(shards) == len(store.manifest.shards) > 4
    plain._shard = cache(plain._shard.__wrapped__)
    before = open_among(shards)
    order = np.random.default_rng(3).permutation(len(store)).tolist()
    found = [store.signal(position).millivolts for position in order]
    assert open_among(shards) - before == 2
    for position, millivolts in zip(order, found, strict=True):
        np.testing.assert_array_equal(millivolts, plain.signal(position).millivolts)
    assert open_among(shards) - before == 2 + len(shards)


def open_among(files: list[str]) -> int:
    """Return how many of the files this process has open, each as often as it is."""
    held = [str(link.resolve()) for link in Path("/proc/self/fd").iterdir()]
    return sum(name in files for name in held)


def test_values_in_the_sources_own_steps_come_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    digital = rng.integers(-32767, 32768, (12, 1000))
    steps = tuple((1 / rng.uniform(3000, 9000, 12)).tolist())
    record = Signal((digital * np.array(steps)[:, None]).astype(np.float32), 500.0, LEADS, steps)
    store = make(tmp_path / "s", Waves(count=2, signals={0: record}))
    got = store.signal(0).millivolts
    assert np.array_equal(np.rint(got / np.array(steps)[:, None]), digital)
    assert np.allclose(got, record.millivolts, rtol=2e-7, atol=0)


@pytest.mark.parametrize("scaling", list(Scaling))
def test_a_mixed_batch_is_its_records_conformed_one_by_one(finished: Store, scaling: Scaling) -> None:
    spec = SignalSpec(rate_hz=250, seconds=4, scaling=scaling)
    positions = np.random.default_rng(1).permutation(len(finished))[:20]
    batch = finished.batch(positions, spec)
    assert batch.shape == (20, 12, 1000)
    for row, position in enumerate(positions.tolist()):
        record = finished.signal(position)
        alone = conform(torch.from_numpy(record.millivolts)[None], rate_hz=record.rate_hz, leads=record.leads, spec=spec)
        assert torch.allclose(batch[row], alone[0], atol=2e-5)


def test_a_batch_does_not_change_the_store(finished: Store) -> None:
    spec = SignalSpec(rate_hz=500, seconds=2, scaling=Scaling.ZSCORE_LEAD)
    assert torch.equal(finished.batch([2, 8], spec), finished.batch([2, 8], spec))
    assert verify(finished).problems == ()
    assert verify_source(finished, Waves(), None, sample=None).problems == ()


def test_labels_are_by_name_and_eligible_records_carry_one(finished: Store) -> None:
    numbers = np.array([int(record[1:]) for record in finished.record_ids])
    assert np.array_equal(finished.labels("parity"), np.stack([numbers % 2 == 0, numbers % 2 == 1], axis=1))
    assert finished.eligible("third").all()
    assert np.array_equal(finished.eligible("rare"), numbers % 3 == 0)
    with pytest.raises(UnknownName, match=r"no task 'partiy'; did you mean 'parity'"):
        finished.labels("partiy")


def test_metadata_comes_back(finished: Store) -> None:
    n = int(finished.record_ids[10][1:])
    assert finished.patient_ids[10] == f"p{n // 2}"
    assert finished.reports[10] == f"report {n}"
    assert finished.ages[10] == 20.0 + n
    assert finished.sexes[10] == "FM"[n % 2]
    assert finished.tasks == dict(Waves().tasks)


def test_folds_follow_the_patient_and_nothing_else(finished: Store) -> None:
    assert finished.folds.tolist() == [hash_fold(patient) for patient in finished.patient_ids.tolist()]
    counts = np.bincount([hash_fold(f"patient {n}") for n in range(10_000)], minlength=11)
    assert counts[0] == 0
    assert (np.abs(counts[1:] - 1000) < 5 * np.sqrt(900)).all()
    assert [hash_fold(key) for key in ("1", "15709", "p0")] == FOLDS_OF


def test_a_store_survives_pickling(finished: Store) -> None:
    other = pickle.loads(pickle.dumps(finished))
    assert torch.equal(other.batch([0], SignalSpec(seconds=1)), finished.batch([0], SignalSpec(seconds=1)))


def test_two_workers_make_what_one_makes(finished: Store, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    store = make(tmp_path / "two", workers=2, progress=lambda done, total: steps.append((done, total)))
    assert content(store.root) == content(finished.root)
    assert steps[0] == (0, 60)
    assert steps[-1] == (60, 60)


@pytest.mark.parametrize("moment", range(12))
@pytest.mark.parametrize("after", [False, True])
def test_a_run_killed_at_any_moment_goes_on_to_the_same_bytes(
    finished: Store, tmp_path: Path, moment: int, after: bool
) -> None:
    root = tmp_path / "killed"
    child = os.fork()
    if child == 0:
        _die_at(moment, after=after)
        make(root)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)  # of 12 renames: the plan, 4 shards and their rows, index, quarantine, store.json
    make(root)
    assert content(root) == content(finished.root)


def _die_at(moment: int, *, after: bool) -> None:
    """Let this process kill itself at its rename number `moment`, just before or just after it."""
    count, rename = iter(range(1000)), Path.replace

    def dying(self: Path, target: Path) -> Path:
        last = next(count) == moment
        if last and not after:
            os.kill(os.getpid(), signals.SIGKILL)
        moved = rename(self, target)
        if last:
            os.kill(os.getpid(), signals.SIGKILL)
        return moved

    Path.replace = dying  # type: ignore[method-assign]


def test_ctrl_c_keeps_the_finished_shards(finished: Store, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done >= 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "s", progress=interrupt)
    done: list[int] = []
    make(tmp_path / "s", progress=lambda at, total: done.append(at))
    assert done[0] == 32
    assert content(tmp_path / "s") == content(finished.root)


def test_a_finished_store_is_not_made_again_unless_asked(tmp_path: Path) -> None:
    calls: list[int] = []
    make(tmp_path / "s")
    make(tmp_path / "s", progress=lambda done, total: calls.append(done))
    assert calls == []
    make(tmp_path / "s", progress=lambda done, total: calls.append(done), fresh=True)
    assert calls[-1] == 60


def test_the_fingerprint_changes_with_signals_labels_and_options_and_with_nothing_else(finished: Store, tmp_path: Path) -> None:
    changed = wave(3)
    changed.millivolts[0, 5] += 0.1
    other = replace(next(iter(Waves().infos(Path()))), statements=frozenset({"odd"}))
    prints = {
        make(tmp_path / "a", Waves(signals={3: changed})).fingerprint,
        make(tmp_path / "b", Waves(infos={0: other})).fingerprint,
        make(tmp_path / "c", options={"rate": 100}).fingerprint,
        finished.fingerprint,
    }
    assert len(prints) == 4
    assert make(tmp_path / "elsewhere").fingerprint == finished.fingerprint


def test_a_store_of_an_older_format_says_what_to_do(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    fields = json.loads((store.root / "store.json").read_text())
    del fields["data"]  # which format 2 does not have
    (store.root / "store.json").write_text(json.dumps(fields | {"format": 2}))
    with pytest.raises(UserError, match=r"^store .* has format 2, this version reads \d; prepare it again"):
        open_store(store.root)
    assert make(tmp_path / "s").fingerprint == store.fingerprint


def test_another_rule_of_doubts_makes_the_same_data_and_no_row_goes_unwatched(
    finished: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("melp_bench.store.pack.quality_flags", lambda *_: ("odd-scale: V1",))
    store = make(tmp_path / "s")
    assert store.quality_flags[0] == ("odd-scale: V1",)
    assert store.quality_flags[0] != finished.quality_flags[0]
    assert store.fingerprint == finished.fingerprint
    shutil.copyfile(finished.root / "index.parquet", store.root / "index.parquet")
    assert verify(store).problems == ("index.parquet: the rows are not those that were written",)


def test_verify_finds_a_flipped_bit_a_lost_shard_and_a_changed_row(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    shard = store.root / "shards" / "00001.i16"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert verify(store).problems == ("shards/00001.i16: the samples are not those that were written",)
    shard.unlink()
    assert "No such file" in verify(store).problems[0]
    shard.write_bytes(whole)
    table = pq.read_table(store.root / "index.parquet")
    pq.write_table(table.slice(1), store.root / "index.parquet")
    assert verify(store).problems == ("index.parquet: the rows are not those that were written",)


def test_verify_finds_native_records_that_changed(finished: Store) -> None:
    changed = wave(0)
    changed.millivolts[0, 5] += 0.1
    found = verify_source(finished, Waves(signals={0: changed}), None)
    assert found.problems == ("record 'r0': the source now has other samples, leads or another rate",)


BAD = {
    "no-known-lead": Signal(wave(0).millivolts[:2], 100.0, ("vx", "resp")),
    "duplicate-lead": Signal(wave(0).millivolts, 100.0, ("i", *LEADS[:11])),
    "wrong-shape": Signal(wave(0).millivolts[:11], 100.0),
    "bad-rate": Signal(wave(0).millivolts, float("nan")),
    "too-short": Signal(wave(0).millivolts[:, :50], 100.0),
    "all-zero": Signal(np.zeros((12, 500), np.float32), 100.0),
    "flat": Signal(np.ones((12, 500), np.float32), 100.0),
    "infinite-samples": Signal(np.where(np.eye(12, 500) > 0, np.inf, 1.0).astype(np.float32), 100.0),
    "missing-samples": Signal(np.where(np.arange(500) < 6, np.nan, wave(0).millivolts[:, :1]).astype(np.float32), 100.0),
    "implausible-amplitude": Signal(wave(0).millivolts * 1e6, 100.0),
}


@pytest.mark.parametrize("code", BAD)
def test_a_record_that_cannot_be_used_is_quarantined_under_its_reason(code: str, tmp_path: Path) -> None:
    store = make(tmp_path / "s", Waves(count=3, signals={1: BAD[code]}))
    assert store.record_ids.tolist() == ["r0", "r2"]
    assert store.manifest.quarantined == {code: 1}


def test_a_flat_lead_is_counted_and_few_missing_samples_are_bridged(tmp_path: Path) -> None:
    x = np.array(wave(0).millivolts)
    x[4] = 0.0
    x[2, 50:60] = np.nan
    store = make(tmp_path / "s", Waves(count=2, signals={0: Signal(x, 100.0)}))
    row = pq.read_table(store.root / "index.parquet").to_pylist()[0]
    assert (row["flat_leads"], row["missing_samples"]) == (1, 10)
    line = np.interp(np.arange(50, 60), [49, 60], x[2, [49, 60]])
    assert np.allclose(store.signal(0).millivolts[2, 50:60], line, atol=1e-4)


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b", "C:\\x", "..\\x", "a\0b"])
def test_a_path_out_of_the_source_is_never_opened(path: str, tmp_path: Path) -> None:
    store = make(tmp_path / "s", Waves(count=2, infos={0: RecordInfo("r0", path=path)}))
    assert store.manifest.quarantined == {"unsafe-path": 1}


def test_a_record_that_no_one_foresaw_does_not_end_the_run(tmp_path: Path) -> None:
    store = make(tmp_path / "s", Waves(count=2, infos={0: RecordInfo("x0")}))  # int("x0") raises ValueError
    assert store.manifest.quarantined == {"unexpected": 1}


@pytest.mark.parametrize(
    ("infos", "said"),
    [
        ({0: RecordInfo("r0", "p", fold=1), 1: RecordInfo("r1", "p", fold=2)}, "patient 'p' is in the folds 1 and 2"),
        ({0: RecordInfo("r1")}, "'r1' twice"),
        ({0: RecordInfo("r0", fold=11)}, "fold 11"),
    ],
)
def test_records_that_contradict_each_other_are_the_users_to_mend(
    infos: dict[int, RecordInfo], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        make(tmp_path / "s", Waves(infos=infos))


def test_a_source_without_a_usable_record_is_an_error_with_reasons(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="all-zero 1"):
        make(tmp_path / "s", Waves(count=1, signals={0: BAD["all-zero"]}))


def test_a_store_that_cannot_be_written_is_an_error_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        make(tmp_path / "file" / "store")


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match=r"'thesis.txt' and no store"):
        make(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_an_unfinished_or_broken_store_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished store"):
        open_store(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(UserError, match="not readable"):
        open_store(tmp_path)
    (tmp_path / "store.json").unlink()
    store = make(tmp_path)
    path = store.root / "shards" / "00000.i16"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match="shard"):
        open_store(tmp_path).signal(0)


def test_stores_of_different_options_lie_in_different_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path))
    paths = {store_path("waves", options) for options in ({}, {"a": 1}, {"a": 2}, {"b": 1})}
    assert len(paths) == 4
    assert store_path("waves", {"a": 1, "b": 2}) == store_path("waves", {"b": 2, "a": 1})
    assert all(path.parent == tmp_path / "stores" for path in paths)
    with pytest.raises(UserError, match="cannot name a folder"):
        store_path("../waves", {})


def test_the_manifest_holds_no_path_time_or_machine(finished: Store) -> None:
    text = (finished.root / "store.json").read_text()
    assert str(finished.root) not in text
    assert json.loads(text)["num_records"] == len(finished)
