"""What a plugin's author does all day: edit the encoder, and run again. The number is that of the code that stands there."""

from __future__ import annotations

from pathlib import Path

import pytest
from edited_plugin import NAME, EditedPlugin, told, write_protocol

from melp_bench.results import ResultRecord, read_results

MODELS = (f"random-init+{NAME}", f"simclr+{NAME}")
POOLED = "record=tokens.mean(dim=1), embedding=tokens.mean(dim=1)"
EDITED = "record=tokens.amax(dim=1), embedding=tokens.amax(dim=1)"


class Loop:
    """A home, a plugin, and runs of it."""

    def __init__(self, folder: Path) -> None:
        self.plugin, self.home = EditedPlugin(folder), folder / "home"
        self.folder, self.board = folder, folder / "board"

    def run(self, *, name: str = "tiny") -> tuple[str, list[ResultRecord]]:
        """Run, and return what was said and every row that is there."""
        protocol = write_protocol(self.folder, name=name)
        models = [word for model in MODELS for word in ("-m", model)]
        said = told(["run", protocol, *models, "--out", str(self.board)], self.home, self.plugin.folder)
        return said, list(read_results(self.board / "results"))


def scores(rows: list[ResultRecord]) -> dict[str, float]:
    return {row.model: row.outcome.scores[row.outcome.primary].value for row in rows if row.outcome is not None}


@pytest.mark.slow
def test_an_edit_gives_a_new_number_and_a_comment_gives_none(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    _, first = loop.run()
    assert set(scores(first)) == set(MODELS)

    loop.plugin.write("# (B, N, D)\n", "# (B, N, D), one per patch\n")
    said, rows = loop.run()
    assert "0 rows to compute, 2 cached: nothing to do" in said, said
    assert rows == first

    loop.plugin.write(POOLED, EDITED)
    said, rows = loop.run()
    for model in MODELS:
        assert f"{model}: code changed since 1 row was made; it is kept, and made anew" in " ".join(said.split()), said
    new = [row for row in rows if row.key not in {old.key for old in first}]
    assert len(new) == len(MODELS)
    assert len(rows) == 2 * len(MODELS), "old rows are kept"
    assert scores(new)[MODELS[0]] != scores(first)[MODELS[0]]

    alone = Loop(tmp_path / "fresh")
    alone.plugin.write(POOLED, EDITED)
    assert scores(alone.run()[1]) == scores(new), "what is kept has no part in the number"

    _, renamed = loop.run(name="other")
    assert scores([row for row in renamed if row.protocol == "other"]) == scores(new)

    loop.plugin.write()
    said, rows = loop.run()
    assert "0 rows to compute, 2 cached: nothing to do" in said, said
    assert {row.key for row in rows if row.protocol == "tiny"} == {row.key for row in (*first, *new)}
    shown = (loop.board / "README.md").read_text(encoding="utf-8")
    assert f"{scores(first)[MODELS[0]]:.3f}" in shown, "the old rows are current again"
