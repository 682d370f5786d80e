"""Ratios of a benchmark run beside the committed ones: what moved is told, and a slower machine is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import ratios


def run(*timed: tuple[str | None, str, float]) -> dict[str, object]:
    return {"benchmarks": [{"group": g, "name": name, "stats": {"median": median}} for g, name, median in timed]}


BEFORE = {"layer": {"ours": 1.0, "torch": 2.0}, "test_loss": {"plain": 4.0, "tiles": 1.0}}


def test_a_ratio_is_to_the_fastest_of_its_group_and_a_group_of_one_has_none() -> None:
    timed = run(("layer", "test_layer[torch]", 6.0), ("layer", "test_layer[ours]", 3.0), (None, "test_loss[plain]", 8.0),
                (None, "test_loss[tiles]", 2.0), (None, "test_alone", 1.0))  # fmt: skip
    assert ratios.ratios_of(timed) == BEFORE


def test_a_machine_of_half_the_speed_moves_nothing() -> None:
    slow = run(("layer", "test_layer[torch]", 4e3), ("layer", "test_layer[ours]", 2e3), (None, "test_loss[plain]", 8e3),
               (None, "test_loss[tiles]", 2e3))  # fmt: skip
    assert ratios.what_moved(ratios.ratios_of(slow), BEFORE) == []


@pytest.mark.parametrize(("torch", "moved"), [(1.5, True), (1.7, False), (2.4, False), (2.6, True)])
def test_what_moved_by_a_quarter_is_told_with_both_ratios(torch: float, moved: bool) -> None:
    lines = ratios.what_moved(BEFORE | {"layer": {"ours": 1.0, "torch": torch}}, BEFORE)
    assert lines == ([f"layer: torch takes {torch:.2f} times as long as ours, committed 2.00"] if moved else [])


def test_another_fastest_is_told_against_the_one_before() -> None:
    (line,) = ratios.what_moved(BEFORE | {"layer": {"ours": 2.0, "torch": 1.0}}, BEFORE)
    assert line == "layer: torch takes 0.50 times as long as ours, committed 2.00"


def test_what_only_one_of_both_has_is_told() -> None:
    lines = ratios.what_moved({"layer": {"ours": 1.0, "theirs": 3.0}, "new": {"a": 1.0, "b": 2.0}}, BEFORE)
    assert lines == [
        "layer: theirs, torch only in one of both",
        "new: only in the run",
        "test_loss: only in the committed ratios",
    ]


def test_a_written_run_is_what_the_next_is_compared_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ratios, "COMMITTED", tmp_path / "ratios.json")
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run((None, "test_a[x]", 1.0), (None, "test_a[y]", 3.0))))
    assert ratios.main([str(path), "--write"]) == 0
    assert ratios.main([str(path)]) == 0
    path.write_text(json.dumps(run((None, "test_a[x]", 1.0), (None, "test_a[y]", 5.0))))
    assert ratios.main([str(path)]) == 1
    assert "y takes 5.00 times as long as x, committed 3.00" in capsys.readouterr().out


def test_the_committed_ratios_are_at_least_one_and_one_is_the_fastest() -> None:
    committed = json.loads(ratios.COMMITTED.read_text(encoding="utf-8"))
    assert committed
    for members in committed.values():
        assert min(members.values()) == 1.0
        assert len(members) > 1
