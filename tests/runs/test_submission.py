"""Rows checked against their predictions, and sent to another board: whole and true, or not at all."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sent_rows import NASTY, Board, scores_of, tampered

from melp_bench.cli import _run
from melp_bench.errors import UserError
from melp_bench.plugins import Catalogue, discover
from melp_bench.prediction_files import predictions_path, write_predictions
from melp_bench.results import read_result, read_results, write_result
from melp_bench.runs import submission
from melp_bench.runs.submission import accept_bundle, make_bundle, pack_bundle, read_bundle
from melp_bench.runs.verification import verify_results
from melp_bench.runs.versions import ROWS


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return discover()


@pytest.fixture
def board(tmp_path: Path, catalogue: Catalogue) -> Board:
    return Board.made(tmp_path / "mine", catalogue)


def states(board: Board) -> dict[str, str]:
    return {check.record.model: check.state for check in verify_results(board.results, board.catalogue).checks}


def test_every_number_of_a_row_comes_out_of_its_predictions(board: Board) -> None:
    found = verify_results(board.results, board.catalogue)
    assert states(board) == {"melp": "verified", NASTY: "verified", "random-init": "nothing scored"}
    assert (found.left_out, found.passed_over, found.in_state("refused")) == ((), (), [])


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("scores", "auroc", "value"), 0.99, "auroc is 0.99"),
        (("scores", "max-f1", "low"), 0.0, "max-f1 is"),
        (("classes", 1, "scores", "auprc", "high"), 1.0, "class 'MI' auprc is"),
        (("classes", 0, "positives"), 7, "class 'NORM' has 7 of 80"),
        (("rare",), ["MI"], "rare is"),
        (("resamples", "values"), "AAAA", "resampled values"),
        (("details", "auroc_by_seed"), [0.5, 0.6], "auroc_by_seed is"),
    ],
)
def test_a_number_that_was_changed_is_refused_with_its_name(
    board: Board, place: tuple[str | int, ...], value: object, told: str
) -> None:
    path = board.path(board.rows[0])
    data: Any = json.loads(path.read_text())
    inner = data["outcome"]
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    path.write_text(json.dumps(data))
    (check,) = verify_results(board.results, board.catalogue).in_state("refused")
    assert told in check.reason
    assert str(check).startswith("melp · d/super · zero_shot")


def test_predictions_that_were_cut_are_refused_and_lost_ones_are_absent(
    board: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, _ = board.rows
    one, two = (predictions_path(board.results, record.predictions) for record in (first, second))
    two.unlink()
    assert _run(["results", "verify", "--results", str(board.results)], False) == 2
    said = capsys.readouterr()
    assert "3 rows: 1 absent, 1 nothing scored, 1 verified" in said.out
    assert "the predictions of 1 rows are not in" in said.err
    one.write_bytes(one.read_bytes()[:-9])
    found = verify_results(board.results, board.catalogue)
    assert {check.record.model: check.state for check in found.checks}[NASTY] == "absent"
    (cut,) = found.in_state("refused")
    assert "cut short" in cut.reason


def test_other_predictions_under_the_rows_name_do_not_give_its_numbers(board: Board) -> None:
    record = board.rows[0]
    other = write_predictions(scores_of(0, 1.4), board.results)
    write_result(record.model_copy(update={"predictions": other}), board.results)
    (check,) = verify_results(board.results, board.catalogue).in_state("refused")
    assert "its predictions give other numbers: auprc is" in check.reason


def test_rows_without_predictions_and_of_other_code_are_told_from_wrong_ones(board: Board) -> None:
    record = board.rows[0]
    write_result(record.model_copy(update={"predictions": ""}), board.results)
    assert states(board)["melp"] == "no predictions"
    inputs = record.inputs.model_copy(update={"versions": {**ROWS, "bootstrap": 0}})
    scores = {**record.outcome.scores, "auroc": record.outcome.scores["auroc"].model_copy(update={"low": 0.1})}  # type: ignore[union-attr]
    outcome = record.outcome.model_copy(update={"scores": scores})  # type: ignore[union-attr]
    board.path(record).unlink()
    old = record.model_copy(update={"key": inputs.key, "inputs": inputs, "outcome": outcome})
    write_result(old, board.results)
    assert states(board)["melp"] == "other code"


def test_damaged_and_foreign_files_are_named_and_left_out(board: Board) -> None:
    folder = board.path(board.rows[0]).parent
    damaged = board.path(board.rows[1])
    damaged.write_text(damaged.read_text()[:200])
    copies = [
        folder / ".DS_Store",
        folder / f"._{board.rows[0].key}.json",
        folder / f"{board.rows[0].key} (conflicted copy 2026-11-30).json",
        folder / f"~${board.rows[0].key}.json",
        folder / f"{board.rows[0].key}.sync-conflict-20261130-1.json",
        board.results / "notes.json",
    ]
    hidden = board.results / ".stversions" / f"{board.rows[0].key}.json"
    hidden.parent.mkdir()
    for path in (*copies, hidden):
        path.write_text("{}")
    stray = board.results / "predictions" / f"{'0' * 64}.parquet"
    stray.write_bytes(b"x")
    told: list[str] = []
    rows = list(read_results(board.results, told.append))
    assert {record.model for record in rows} == {"melp", "random-init"}
    assert sum(line.startswith("left out: ") and damaged.name in line for line in told) == 1
    assert not any("edited" in line for line in told)
    found = verify_results(board.results, board.catalogue)
    assert len(found.left_out) == 1
    assert len(found.passed_over) == len(copies) + 3  # a hidden copy, a stray file, and the predictions of the damaged row
    assert not any("edited" in line for line in found.passed_over)


def test_the_commands_say_what_is_wrong_and_exit_with_2(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(["results", "verify", "--results", str(board.results)], False) == 0
    assert "3 rows: 1 nothing scored, 2 verified" in capsys.readouterr().out
    protocol = str(board.results.parent / "sent.toml")
    bundle = str(tmp_path / "b.zip")
    assert _run(["submit", protocol, "--results", str(board.results), "--out", bundle], False) == 0
    there = tmp_path / "theirs"
    assert _run(["leaderboard", "accept", bundle, "--out", str(there)], False) == 0
    said = capsys.readouterr().out
    assert "3 rows verified and added" in said
    html = (there / "index.html").read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "<script>" not in (there / "README.md").read_text(encoding="utf-8")
    assert "verified" in (there / "board.csv").read_text(encoding="utf-8")
    predictions_path(board.results, board.rows[0].predictions).write_bytes(b"")
    assert _run(["results", "verify", "--results", str(board.results)], False) == 2
    told = capsys.readouterr()
    assert "refused      melp · d/super · zero_shot" in told.out
    assert told.err.count("\n") == 1


def test_a_bundle_joins_another_board_with_every_row_as_it_was(board: Board, tmp_path: Path) -> None:
    found = accept_bundle(board.bundle(tmp_path), tmp_path / "theirs", board.catalogue)
    assert len(found.rows) == 3
    theirs = {record.key: record for record in read_results(tmp_path / "theirs")}
    for record in board.rows:
        assert theirs[record.key].tier == "verified"
        assert theirs[record.key].model_copy(update={"submitted": None}) == record
    assert {check.state for check in verify_results(tmp_path / "theirs", board.catalogue).checks} == {
        "verified",
        "nothing scored",
    }
    again = accept_bundle(board.bundle(tmp_path), tmp_path / "theirs", board.catalogue)
    assert again.rows == ()
    assert sum("with the same numbers" in line for line in again.there) == 2


def test_equal_rows_make_equal_bundles_without_signals_or_paths(board: Board, tmp_path: Path) -> None:
    first = board.bundle(tmp_path).read_bytes()
    assert board.bundle(tmp_path).read_bytes() == first
    files = read_bundle(tmp_path / "sent.zip")
    assert {name.partition("/")[0] for name in files} == {"bundle.json", "protocol.json", "rows", "predictions"}
    about = json.loads(files["bundle.json"])
    assert about["models"] == sorted([NASTY, "melp", "random-init"])
    assert about["weights"]["melp"] == "ab"
    assert not any(str(board.results.parent).encode() in content for content in files.values())


@pytest.mark.parametrize("seal", [False, True])
def test_one_changed_prediction_is_refused_with_the_name_of_its_cell_and_nothing_joins(
    board: Board, tmp_path: Path, seal: bool
) -> None:
    files = read_bundle(board.bundle(tmp_path))
    path = tmp_path / "changed.zip"
    path.write_bytes(pack_bundle(tampered(files, board.rows[0], seal=seal)))
    with pytest.raises(UserError, match=r"melp · d/super · zero_shot") as caught:
        accept_bundle(path, tmp_path / "theirs", board.catalogue)
    assert "nothing was added" in str(caught.value)
    assert not (tmp_path / "theirs").exists()


def test_labels_that_are_not_those_of_the_board_are_refused(board: Board, tmp_path: Path, catalogue: Catalogue) -> None:
    other = Board(tmp_path / "other", board.protocol, catalogue, [])
    given = scores_of(3, 1.0)
    flipped = given.labels.copy()
    flipped[:4] = ~flipped[:4]
    other.add("fine-looking", replace(given, labels=flipped))
    with pytest.raises(UserError, match=r"fine-looking.*: its records, labels or patients are not those of the row"):
        accept_bundle(other.bundle(tmp_path), board.results, catalogue)


def test_rows_of_another_protocol_are_not_bundled_and_absent_models_are_named(board: Board, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no row of 'melpp' of protocol"):
        board.bundle(tmp_path, "melpp")
    make_bundle(board.protocol, board.results, tmp_path / "one.zip", ["melp"], board.catalogue)
    assert sum(name.startswith("rows/") for name in read_bundle(tmp_path / "one.zip")) == 1
    path = board.path(board.rows[0])
    write_result(board.rows[0].model_copy(update={"predictions": ""}), board.results)
    with pytest.raises(UserError, match=r"refused.*melp.*no predictions"):
        board.bundle(tmp_path)
    assert path.is_file()


def zipped(*members: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as bundle:
        for name, content in members:
            bundle.writestr(name, content)
    return sink.getvalue()


def link(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


ROW = f"rows/{'a' * 64}.json"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is no bundle"),
        (b"PK\3\4 and no more", "is no bundle"),
        (zipped(("../../etc/passwd", b"x")), "which is in no bundle"),
        (zipped(("/rows/a.json", b"x")), "which is in no bundle"),
        (zipped((f"rows\\{'a' * 64}.json", b"x")), "which is in no bundle"),
        (zipped((link(ROW), b"/etc/passwd")), "which is in no bundle"),
        (zipped(("signals/1.npy", b"x")), "which is in no bundle"),
        (zipped((ROW, b"{}")), "holds no bundle.json"),
        (zipped(("bundle.json", b"{}")), "bundle.json: protocol"),
        (zipped(("bundle.json", b"[]")), "bundle.json"),
        (zipped(("bundle.json", b"\xff")), "bundle.json"),
    ],
)
def test_what_is_no_bundle_is_refused_in_a_line(content: bytes, told: str, tmp_path: Path, catalogue: Catalogue) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(content)
    with pytest.raises(UserError, match=told) as caught:
        accept_bundle(path, tmp_path / "theirs", catalogue)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["b.zip"]


def test_a_bomb_is_not_unpacked(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.zip"
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr(ROW, b"0" * (1 << 24))
    path.write_bytes(sink.getvalue())
    monkeypatch.setattr(submission, "LARGEST_FILE", 1 << 20)
    with pytest.raises(UserError, match="too large"):
        read_bundle(path)
    lying = bytearray(sink.getvalue())  # says in its directory that it is 16 bytes
    place = lying.rindex(b"PK\1\2") + 24
    lying[place : place + 4] = (16).to_bytes(4, "little")
    path.write_bytes(bytes(lying))
    with pytest.raises(UserError, match=r"damaged|not as long as it says"):
        read_bundle(path)
    monkeypatch.setattr(submission, "LARGEST_BUNDLE", 10)
    path.write_bytes(sink.getvalue())
    with pytest.raises(UserError, match="more than a bundle may"):
        read_bundle(path)


def test_a_row_that_is_there_stays(board: Board, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    mine = board.rows[0].model_copy(update={"seconds": 3.0})
    write_result(mine, theirs)
    found = accept_bundle(board.bundle(tmp_path), theirs, board.catalogue)
    assert len(found.rows) == 2
    assert read_result(theirs / "sent" / f"{mine.key}.json") == mine
