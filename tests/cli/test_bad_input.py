"""What a user can get wrong is told in one line on standard error, with exit status 2, and costs nothing that was there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import wfdb
from tiny_run import PROTOCOL, SMALL, call, one_line, write_protocol

from melp_bench.errors import UserError
from melp_bench.home import make_folder
from melp_bench.leads import LEADS


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with a corpus, the checkpoint of a random encoder with a vocabulary, and two rows."""
    home = tmp_path_factory.mktemp("template") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELP_BENCH_HOME", str(home))
        protocol = write_protocol(home.parent)
        untrained = home.parent / "untrained.toml"
        untrained.write_text(
            'name = "untrained"\nsummary = "for tests"\n[encoder]\nname = "conv-transformer"\noptions = { layers = 1 }\n'
            '[text]\nname = "bert"\noptions = { layers = 1 }\n[heads]\nname = "melp"\n',
            encoding="utf-8",
        )
        assert call("run", protocol, "-m", untrained) == 0
    return home


@pytest.fixture
def home(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "home"
    shutil.copytree(template, copy)
    monkeypatch.setenv("MELP_BENCH_HOME", str(copy))
    return copy


@pytest.fixture
def protocol(tmp_path: Path) -> str:
    return write_protocol(tmp_path)


def checkpoint_of(home: Path) -> Path:
    (folder,) = (home / "checkpoints").iterdir()
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    capsys.readouterr()
    assert call(*arguments) == 2
    return one_line(capsys)


# --------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "deno"], "no protocol named 'deno'; did you mean 'demo'?"),
        (["run", "missing.toml"], "no protocol file 'missing.toml'"),
        (["run", "TINY", "-m", "melpp"], "no recipe, ECG encoder or checkpoint folder named 'melpp'; did you mean 'melp'?"),
        (["run", "TINY", "-m", "melp+resnet1d-81"], "no ECG encoder named 'resnet1d-81'; did you mean 'resnet1d-18'?"),
        (["run", "TINY", "-m", "melpp+resnet1d-18"], "no recipe named 'melpp'; did you mean 'melp'?"),
        (["run", "TINY", "-m", "melp", "--set", "encoder.layer=2"], "has no option 'layer'; did you mean 'layers'?"),
        (["run", "TINY", "-m", "melp", "--set", "rythm.weight=2"], "has no 'rythm.weight'; did you mean 'rhythm.'?"),
        (["run", "TINY", "-m", "melp", "--set", "nonsense"], "'nonsense' is not PART.OPTION=VALUE"),
        (["run", "TINY", "-m", "melp", "--set", "=3"], "'=3' is not PART.OPTION=VALUE"),
        (["run", "TINY", "-m", "melp", "--set", "encoder.layers=two"], "is 'two'; wanted int"),
        (["run", "TINY", "-m", "melp", "--set", "optimiser.learning_rate=fast"], "optimiser.learning_rate: "),
        (["run", "TINY", "-m", "melp", "--set", "rhythm.weight=heavy"], "weight: "),
        (["run", "TINY", "-m", "melp", "-m", "melp"], "['melp'] are given twice"),
        (["pretrain", "melpp", "-p", "TINY"], "did you mean 'melp'?"),
        (["run", "ludb-zero-shot-probe", "-m", "melp"], "dataset 'ludb' is not prepared; run: melp-bench data prepare ludb"),
        (["data", "show", "sintetic"], "no dataset or store named 'sintetic'; did you mean 'synthetic'?"),
        (["data", "show", "ludb"], "no prepared store of 'ludb'; make it: melp-bench data prepare ludb --from DIR"),
        (["run", "TINY", "--nonsense"], "No such option: --nonsense"),
        (["runn", "TINY"], "No such command 'runn'"),
        (["run"], "PROTOCOL"),
        (["run", "TINY", "--device", "tpu"], "device 'tpu' is unknown; wanted auto, cpu or cuda"),
        (["run", "TINY", "--workers", "some"], "Invalid value for '--workers'"),
    ],
)
def test_names_and_options(
    home: Path, protocol: str, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    before = content(home)
    assert told in refused(capsys, *(protocol if a == "TINY" else a for a in arguments))
    assert content(home) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", [["run", "TINY"], ["pretrain", "melp", "-p", "TINY"]])
def test_a_gpu_that_is_not_there(home: Path, protocol: str, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    told = refused(capsys, *(protocol if a == "TINY" else a for a in command), "--device", "cuda")
    assert "torch sees no GPU; use --device cpu" in told


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("[interval]\n", "[interval]\nresample = 5\n", "no key 'interval.resample'; did you mean 'resamples'?"),
        ("options.epochs = 3", "options.epoch = 3", "'linear_probe' has no option 'epoch'; did you mean 'epochs'?"),
        ("options.epochs = 3", "options.epochs = 'x'", "option 'epochs' of 'linear_probe' is 'x'; wanted int"),
        ("options.epochs = 3", "epochs = 3", "no key 'evaluations.1.epochs'"),
        ("options.epochs = 3", "metrics = ['aurok']", "no metric named 'aurok'; did you mean 'auroc'?"),
        ("seeds = [0]", "seeds = []", "has no seeds; give at least one"),
        ("revision = 1", "revison = 1", "revision: Field required"),
        ("summary = ", 'summery = "x"\nsummary = ', "no key 'summery'; did you mean 'summary'?"),
        ("steps = 16", "steps = 0", "pretrain.steps: Input should be greater than or equal to 1, given 0"),
        ('"zero_shot"', '"zero_short"', "no evaluation named 'zero_short'; did you mean 'zero_shot'?"),
        ("[interval]", "[interval", "not valid TOML"),
        ('name = "tiny"', 'name = "../tiny"', "name: "),
        ('"synthetic/super"', '"other/super"', "uses ['other'] but [datasets] has ['synthetic']"),
        ('"synthetic/super"', '"synthetic/sper"', "has no task 'sper'; did you mean 'super'?"),
        ('dataset = "synthetic"\noptions', 'dataset = "synthetik"\noptions', "no dataset named 'synthetik'; did you mean"),
        ("num_records", "num_record", "has no option 'num_record'; did you mean 'num_records'?"),
        ("batch_size = 8", "batch_size = 4000", "training records are fewer than one batch of 4000"),
        ("batch_size = 8", 'batch_size = 8\nlabels = "supper"', "has no task 'supper'; did you mean 'super'?"),
    ],
)
def test_a_protocol_that_does_not_fit(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, told: str
) -> None:
    assert before in PROTOCOL
    path = write_protocol(tmp_path, PROTOCOL.replace(before, after))
    assert told in refused(capsys, "run", path, "-m", "melp", *SMALL)


def test_a_protocol_that_is_no_text(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "odd.toml").write_bytes(b"name = \xff\xfe")
    assert "not valid TOML" in refused(capsys, "run", tmp_path / "odd.toml")


def test_options_that_a_component_cannot_be_built_with(home: Path, protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, "run", protocol, "-m", "melp", "--set", "encoder.layers=1", "--set", "encoder.heads=0")
    assert "heads" in told


# --------------------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize(
    ("file", "damage", "told"),
    [
        ("model.safetensors", lambda b: b[: len(b) // 2], "its SHA-256 is not the one in checkpoint.json; delete the folder"),
        ("model.safetensors", None, "has no model.safetensors; delete the folder"),
        ("checkpoint.json", lambda b: b[:100], "is damaged: "),
        ("checkpoint.json", lambda b: b.replace(b'"layers":', b'"layerz":'), "no option 'layerz'; did you mean 'layers'?"),
        (
            "checkpoint.json",
            lambda b: b.replace(b'"conv-transformer"', b'"conv-transformed"'),
            "did you mean 'conv-transformer'?",
        ),
        ("checkpoint.json", lambda b: b.replace(b'"width": 128', b'"width": 64'), "does not fit the model of its recipe"),
        ("checkpoint.json", lambda b: b.replace(b'"assets"', b'"assetz"'), "there is no key 'assetz'"),
        ("checkpoint.json", None, "is a folder without a checkpoint in it"),
        ("*.json", None, "lacks ["),
        ("*.json", lambda b: b"\xff" + b, "is not text"),
        ("*.json", lambda b: b[: len(b) // 2], ""),
    ],
)
def test_a_damaged_checkpoint(
    home: Path, protocol: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, file: str, damage: object, told: str
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(checkpoint_of(home), folder)
    if file == "*.json":  # an asset of the text encoder
        (path, *_) = [p for p in folder.iterdir() if p.name not in ("checkpoint.json", "model.safetensors")]
    else:
        path = folder / file
    before = path.read_bytes()
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(before))  # type: ignore[operator]
        assert path.read_bytes() != before
    rows = content(home / "leaderboard" / "results")
    assert told in refused(capsys, "run", protocol, "-m", folder, "--out", tmp_path / "board")
    assert content(home / "leaderboard" / "results") == rows
    assert not list((tmp_path / "board").rglob("*.json"))


def test_settings_do_not_change_a_checkpoint(home: Path, protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "leave out --set" in refused(capsys, "run", protocol, "-m", checkpoint_of(home), "--set", "encoder.layers=3")


def test_a_folder_beside_a_recipe_of_its_name_hides_nothing(
    home: Path, protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "melp").mkdir()
    monkeypatch.chdir(tmp_path)
    assert call("run", protocol, "-m", "melp", "--dry-run") == 0


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda b: b[:40], "is not a result row"),
        (lambda b: b"", "is not a result row"),
        (lambda b: b.replace(b'"seed":0', b'"seed":1').replace(b'"seed": 0', b'"seed": 1'), "it was edited. Delete it"),
        (lambda b: b.replace(b'"status":', b'"statuss":'), "is not a result row: "),
    ],
)
def test_a_damaged_row_is_named_and_left_out_of_the_board(
    home: Path, capsys: pytest.CaptureFixture[str], damage: object, told: str
) -> None:
    row = sorted((home / "leaderboard" / "results").rglob("*.json"))[0]
    before = row.read_bytes()
    row.write_bytes(damage(before))  # type: ignore[operator]
    assert row.read_bytes() != before
    assert call("leaderboard") == 0
    answer = capsys.readouterr().err
    assert told in answer
    assert answer.startswith("left out: ")
    assert row.name in answer
    assert row.stem not in (home / "leaderboard" / "board.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "told"), [("index.parquet", "cannot read the index"), ("shards/00000.i16", "prepare the store")]
)
def test_a_damaged_store(home: Path, protocol: str, capsys: pytest.CaptureFixture[str], file: str, told: str) -> None:
    (store,) = (home / "stores").iterdir()
    (store / file).write_bytes((store / file).read_bytes()[:-100])
    assert told in refused(capsys, "run", protocol, "-m", "simclr", "--set", "encoder.layers=1")


def test_a_store_that_is_not_finished_is_listed_as_such(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (store,) = (home / "stores").iterdir()
    assert call("data", "list") == 0
    assert "unfinished" not in capsys.readouterr().out
    shutil.copytree(store, store.with_name("other-12345678"))
    (store.with_name("other-12345678") / "store.json").rename(store.with_name("other-12345678") / "plan.json")
    assert call("data", "list") == 0
    assert "unfinished: other-12345678; the same `melp-bench data prepare` goes on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text[:-100], "not readable as a store"),
        (lambda text: text.replace('"format": ', '"format": 1'), "has format 1"),
    ],
)
def test_a_store_that_cannot_be_read_hides_no_other(
    home: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[str], str], told: str
) -> None:
    (store,) = (home / "stores").iterdir()
    spoilt = store.with_name("csn")
    shutil.copytree(store, spoilt)
    (spoilt / "store.json").write_text(damage((spoilt / "store.json").read_text()))
    assert call("data", "list") == 0
    listed = capsys.readouterr().out
    assert store.name in listed
    assert told in listed
    assert call("data", "show", "synthetic") == 0
    assert told in refused(capsys, "data", "show", "csn")
    assert told in refused(capsys, "data", "verify", "csn")


def test_another_source_in_place_of_the_one_before_is_told(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = np.random.default_rng(0).standard_normal((12, 1000)).cumsum(axis=1) / 50
    for name in ("a", "b"):
        wfdb.wrsamp(
            name, 500, ["mV"] * 12, list(LEADS), samples.T, fmt=["16"] * 12, write_dir=str(make_folder(tmp_path / name))
        )
        (tmp_path / name / "labels.csv").write_text(f"record,AF\n{name},1\n")
    """Another folder replaced the store with a line; now it must be asked for by name."""
    for name in ("a", "a"):
        assert call("data", "prepare", "wfdb-folder", "--from", tmp_path / name, "--workers", "1") == 0
        assert "in place of" not in capsys.readouterr().out
    command = ["data", "prepare", "wfdb-folder", "--from", tmp_path / "b", "--workers", "1"]
    told = refused(capsys, *command)
    assert str(tmp_path / "a") in told
    assert "--replace" in told
    assert call(*command, "--replace") == 0


def test_a_damaged_state_says_what_to_do(home: Path, protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["pretrain", "simclr", "-p", protocol, "--set", "encoder.layers=1"]
    assert call(*command) == 0
    (folder,) = [p for p in (home / "checkpoints").iterdir() if p.name.startswith("simclr")]
    shutil.rmtree(folder)
    state = folder / "state" / "0-pretrain"
    state.mkdir(parents=True)
    (state / "last.pt").write_bytes(b"nothing of the kind")
    (state / "best.pt").write_bytes(b"nothing of the kind")
    assert "is damaged" in (told := refused(capsys, *command))
    assert "delete the folder" in told
    assert call(*command, "--restart") == 0


def test_damaged_features_are_made_again(home: Path, protocol: str) -> None:
    (features,) = (home / "features").iterdir()
    before = features.read_bytes()
    features.write_bytes(before[:1000])
    shutil.rmtree(home / "leaderboard")
    assert call("run", protocol, "-m", checkpoint_of(home)) == 0
    assert features.read_bytes() == before


# ------------------------------------------------------------------------------------------------- unwritable places


def test_a_home_that_cannot_be_written(
    tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "file" / "home"))
    assert "set MELP_BENCH_HOME to a folder you can write" in refused(capsys, "run", protocol)
    assert "set MELP_BENCH_HOME" in refused(capsys, "pretrain", "melp", "-p", protocol)


def test_speeds_that_cannot_be_kept_are_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setattr("melp_bench.cli.throughput.in_fresh_process", lambda *_: pytest.fail("measured"))
    assert "cannot write" in refused(capsys, "throughput", "resnet1d-18", "--out", tmp_path / "file" / "speeds")


def test_a_drawing_goes_where_it_is_asked_for_or_says_why_not(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("data", "show", "synthetic", "--plot", "0", "--out", tmp_path / "new" / "x.svg") == 0
    assert (tmp_path / "new" / "x.svg").stat().st_size > 1000
    assert "has 120 positions and no record '9999'" in refused(capsys, "data", "show", "synthetic", "--plot", "9999")
    told = refused(capsys, "data", "show", "synthetic", "--plot", "0", "--out", tmp_path / "new" / "x.svg" / "y.svg")
    assert "cannot write" in told


def test_an_out_that_cannot_be_written_is_told_before_any_work(
    home: Path, protocol: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    told = refused(capsys, "run", protocol, "-m", "melp", *SMALL, "--out", tmp_path / "file" / "board")
    assert "cannot write" in told
    assert len(list((home / "checkpoints").iterdir())) == 1


def test_rows_that_are_there_are_shown_from_a_home_that_cannot_be_written(
    home: Path, protocol: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of what was measured could be read there."""
    command = ["run", protocol, "-m", checkpoint_of(home)]
    assert call(*command) == 0
    (home / "leaderboard" / "README.md").unlink()
    before = content(home)

    def refuse(path: Path, *_: object) -> Path:
        raise UserError(f"cannot write in {str(path)!r}: no permission")

    for module in ("melp_bench.board.write", "melp_bench.runs.run"):
        monkeypatch.setattr(f"{module}.make_folder", refuse)
    capsys.readouterr()
    assert call(*command) == 0
    told = capsys.readouterr().out
    assert "no permission" in told
    assert "zero-shot · synthetic/super" in told
    assert call("leaderboard") == 2
    assert "zero-shot · synthetic/super" in capsys.readouterr().out
    assert content(home) == before
