"""`run` and `pretrain`: what is there is not made again, and whatever is stopped goes on."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_run import PROTOCOL, SMALL, call, stopped, write_protocol

import melp_bench as mb
from melp_bench.checkpoint import read_manifest
from melp_bench.plugins import discover
from melp_bench.results import read_results
from melp_bench.runs import pictures
from melp_bench.runs.candidates import Candidate
from melp_bench.store import open_store

INTERRUPTED = "melp-bench: interrupted; what was finished is kept, and the same command goes on from there\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a home in which the tiny protocol was run, undisturbed, and the protocol's file."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELP_BENCH_HOME", str(folder / "home"))
        protocol = write_protocol(folder)
        assert call("run", protocol, "-m", "melp", *SMALL) == 0
    return folder / "home", protocol


@pytest.fixture
def corpus_only(made: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home that holds nothing but the corpus."""
    home = tmp_path / "home"
    shutil.copytree(made[0] / "stores", home / "stores")
    monkeypatch.setenv("MELP_BENCH_HOME", str(home))
    return home


def digest_of_weights(home: Path) -> str:
    (checkpoint,) = (home / "checkpoints").iterdir()
    assert not (checkpoint / "state").exists()
    return read_manifest(checkpoint).weights_sha256


def kept_predictions(home: Path) -> dict[str, bytes]:
    folder = home / "leaderboard" / "results" / "predictions"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def scores(home: Path) -> dict[str, object]:
    return {row.key: row.outcome for row in read_results(home / "leaderboard" / "results")}


def test_every_row_has_a_score_its_facts_and_its_place(made: tuple[Path, str]) -> None:
    rows = list(read_results(made[0] / "leaderboard" / "results"))
    assert sorted((row.evaluation, row.setting) for row in rows) == [
        ("linear_probe", "100 %"),
        ("linear_probe", "20 %"),
        ("linear_probe", "50 %"),
        ("zero_shot", ""),
    ]
    for row in rows:
        assert row.generated
        assert row.status == "scored"
        assert row.facts["records_per_second"] > 0
        assert row.facts["corpora"] == ["synthetic"]
        assert row.facts["pretraining"]["best_step"] in row.facts["pretraining"]["history"]["step"]
    assert (made[0] / "leaderboard" / "index.html").is_file()


def test_the_checkpoint_holds_its_curves_and_after_more_steps_where_sentences_look(
    made: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkpoint,) = (made[0] / "checkpoints").iterdir()
    assert [path.name for path in checkpoint.glob("*.png")] == ["curves.png"], "of sixteen steps"
    monkeypatch.setattr(pictures, "STEPS", 1)
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    method = Candidate("melp", read_manifest(folder).recipe, {}, folder)
    (store,) = (made[0] / "stores").glob("*/store.json")
    drawn = pictures.draw_pictures(method, open_store(store.parent), catalogue=discover())
    assert [path.name for path in drawn] == ["curves.png", "attention-1.png", "attention-2.png", "attention-3.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


@pytest.mark.parametrize("command", ["run", "pretrain"])
def test_a_logger_that_is_not_there_is_told_before_any_work(
    command: str, made: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    asked = [made[1], "-m", "melp"] if command == "run" else ["melp", "--protocol", made[1]]
    assert call(command, *asked, "--log", "tensorbord") == 2
    assert "no logger named 'tensorbord'; did you mean 'tensorboard'?" in capsys.readouterr().err
    assert not (tmp_path / "home" / "stores").exists()


def test_a_second_run_computes_nothing_and_says_so(
    made: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, protocol = made
    monkeypatch.setenv("MELP_BENCH_HOME", str(home))
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    assert call("run", protocol, "-m", "melp", *SMALL) == 0
    told = capsys.readouterr().out
    assert "plan   0 rows to compute, 4 cached: nothing to do" in told
    assert "nothing to do  melp (encoder.layers=1, text.layers=1, token.layers=1)  4 rows" in told
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()} == before
    assert call("run", protocol, "-m", "melp", *SMALL, "--dry-run") == 0
    assert capsys.readouterr().out.count("nothing to do  ") == 4
    assert call("pretrain", "melp", "-p", protocol, *SMALL) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_dry_run_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    assert call("run", write_protocol(tmp_path), "--dry-run") == 0
    told = capsys.readouterr().out
    assert "corpus synthetic is not there; it is to be made" in told
    assert "plan   8 rows to compute" in told
    assert told.count("to compute     ") == 8
    assert not (tmp_path / "home").exists()
    ludb = PROTOCOL.replace('dataset = "synthetic"\noptions = { num_records = 120, seed = 0 }', 'dataset = "ludb"')
    assert call("run", write_protocol(tmp_path, ludb), "--dry-run") == 0
    assert "melp-bench data prepare ludb --from DIR" in capsys.readouterr().out


def test_a_published_file_that_is_not_there_is_told_before_there_is_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    absent = tmp_path / "absent.pth"
    assert call("run", write_protocol(tmp_path), "-m", f"merl-resnet18@{absent}", "--dry-run") == 2
    assert capsys.readouterr().err.startswith(f"melp-bench: no checkpoint file '{absent}'; give a file")
    assert not (tmp_path / "home").exists()


def test_ctrl_c_in_pretrain_is_one_line_and_the_same_command_ends_in_the_same_bits(
    made: tuple[Path, str], corpus_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["pretrain", "melp", "-p", made[1], *SMALL]
    ended = stopped(command, corpus_only, lambda: bool(list(corpus_only.glob("checkpoints/*/state/*/last.pt"))), signal.SIGINT)
    assert (ended.returncode, ended.stderr.strip() + "\n") == (2, INTERRUPTED)
    assert call(*command) == 0
    assert "resume melp" in capsys.readouterr().out
    assert digest_of_weights(corpus_only) == digest_of_weights(made[0])


def test_kill_in_run_loses_nothing_and_the_same_command_ends_in_the_same_bits(
    made: tuple[Path, str], corpus_only: Path
) -> None:
    command = ["run", made[1], "-m", "melp", *SMALL]
    ended = stopped(command, corpus_only, lambda: bool(list(corpus_only.glob("checkpoints/*/state/*/last.pt"))), signal.SIGKILL)
    assert ended.returncode == -signal.SIGKILL
    assert call(*command) == 0
    assert digest_of_weights(corpus_only) == digest_of_weights(made[0])
    assert scores(corpus_only) == scores(made[0])
    assert kept_predictions(corpus_only) == kept_predictions(made[0])


def test_kill_between_rows_keeps_every_row_with_its_predictions(
    made: tuple[Path, str], corpus_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made[0] / "checkpoints", corpus_only / "checkpoints")
    folder = corpus_only / "leaderboard" / "results"
    command = ["run", made[1], "-m", "melp", *SMALL]
    stopped(command, corpus_only, lambda: (folder / "predictions").is_dir(), signal.SIGKILL)
    assert call(*command) == 0
    assert scores(corpus_only) == scores(made[0])
    assert kept_predictions(corpus_only) == kept_predictions(made[0])
    damaged = min((folder / "tiny").glob("*.json"))
    damaged.write_text("{", encoding="utf-8")
    assert call(*command) == 0  # and one that is damaged is made again
    said = " ".join(capsys.readouterr().out.split())
    assert "left out" in said
    assert "plan 1 rows to compute, 3 cached" in said
    assert scores(corpus_only) == scores(made[0])
    assert call("results", "verify") == 0
    assert "4 rows: 4 verified" in capsys.readouterr().out


def test_ctrl_c_between_rows_keeps_the_rows_that_are_there(
    made: tuple[Path, str], corpus_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made[0] / "checkpoints", corpus_only / "checkpoints")
    long = write_protocol(corpus_only, PROTOCOL.replace("options.epochs = 3", "options.epochs = 3000\noptions.patience = 3000"))
    rows = corpus_only / "leaderboard" / "results"
    command = ["run", long, "-m", "melp", *SMALL]
    ended = stopped(command, corpus_only, lambda: bool(list(rows.glob("*/*.json"))), signal.SIGINT)
    assert (ended.returncode, ended.stderr.strip() + "\n") == (2, INTERRUPTED)
    there = {path: path.read_bytes() for path in rows.rglob("*.json")}
    assert 1 <= len(there) < 4
    assert call(*command, "--dry-run") == 0
    assert f"plan   {4 - len(there)} rows to compute, {len(there)} cached" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in there} == there


def test_restart_begins_again(made: tuple[Path, str], corpus_only: Path) -> None:
    shutil.copytree(made[0] / "checkpoints", corpus_only / "checkpoints")
    (checkpoint,) = (corpus_only / "checkpoints").iterdir()
    (checkpoint / "model.safetensors").write_bytes(b"damaged")
    assert call("pretrain", "melp", "-p", made[1], *SMALL, "--restart") == 0
    assert digest_of_weights(corpus_only) == digest_of_weights(made[0])


def test_a_row_is_keyed_by_its_tasks_and_neither_weights_nor_features_by_prompts(
    made: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, protocol = made
    monkeypatch.setenv("MELP_BENCH_HOME", str(home))
    dataset = type(mb_dataset())
    tasks = dict(mb_dataset().tasks)
    plain = tasks["super"]

    def planned(task: mb.Task) -> str:
        monkeypatch.setattr(dataset, "tasks", property(lambda self: {**tasks, "super": task}))
        assert call("run", protocol, "-m", "melp", *SMALL, "--dry-run") == 0
        return capsys.readouterr().out

    assert "plan   0 rows to compute" in planned(plain)
    reworded = planned(replace(plain, prompts=dict.fromkeys(plain.classes, ("another wording",))))
    assert "plan   1 rows to compute, 3 cached" in reworded
    assert "to pretrain" not in reworded
    fewer = planned(replace(plain, members=dict(list(plain.members.items())[:-1])))
    assert "plan   4 rows to compute" in fewer
    assert "to pretrain" not in fewer


def mb_dataset() -> mb.Dataset:
    from melp_bench.plugins import discover

    return discover().datasets["synthetic"].build(num_records=120, seed=0)


def test_equal_weights_used_otherwise_are_embedded_again(made: tuple[Path, str]) -> None:
    from melp_bench.runs.candidates import use_digest

    (checkpoint,) = (made[0] / "checkpoints").iterdir()
    manifest = read_manifest(checkpoint)
    other = manifest.recipe.encoder.model_copy(update={"options": {**manifest.recipe.encoder.options, "seconds": 5.0}})
    changed = manifest.model_copy(update={"recipe": manifest.recipe.model_copy(update={"encoder": other})})
    renamed = manifest.model_copy(update={"recipe": manifest.recipe.model_copy(update={"name": "mine"})})
    assert use_digest(changed) != use_digest(manifest) == use_digest(renamed)


def test_the_fingerprint_of_a_store_is_not_that_of_its_tasks(made: tuple[Path, str]) -> None:
    (root,) = (made[0] / "stores").iterdir()
    fields = json.loads((root / "store.json").read_text(encoding="utf-8"))
    store = open_store(root)
    before = store.task_digest("super"), store.task_digest("super", prompts=True)
    store.tasks["super"] = replace(store.tasks["super"], prompts={})
    assert store.task_digest("super") == before[0]
    assert store.task_digest("super", prompts=True) != before[1]
    assert store.manifest.sealed().fingerprint == fields["fingerprint"]
    assert replace(store.manifest, tasks=[]).sealed().fingerprint == fields["fingerprint"]
