"""The files of a board: well-formed, self-contained, harmless, deterministic, and never a number without its interval."""

from __future__ import annotations

import csv
import io
import random
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from board_rows import realistic_rows, row, score
from rich.cells import cell_len
from rich.console import Console

from melp_bench.board import board_files, stale_files, terminal_tables, write_board
from melp_bench.board.arrangement import build_board
from melp_bench.board.methods_by_tasks import FILE
from melp_bench.board.sections import GENERATED_NOTE
from melp_bench.board.write import pages_beside
from melp_bench.results import ClassScore, MetricLabel, Outcome, ResultRecord, read_results, write_result
from melp_bench.throughput.rows import read_speeds

VOID = {"meta", "input", "br", "hr", "img", "link"}
EVIL = "<script>alert('x')</script>|`*_=1+1&\"\\{$%#~^"


class Reader(HTMLParser):
    """Checks that tags nest, and keeps what a browser would load, run, and show."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.loads: list[str] = []
        self.scripts = 0
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        assert not [name for name, _ in attrs if name.startswith("on")], "an inline event handler"
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name == "href" and tag == "a":
                self.targets.append(value or "")
            elif name in {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}:
                self.loads.append(f"{tag} {name}={value}")

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"script", "style"}:
            self.text.append(data)


def read(page: bytes) -> Reader:
    reader = Reader()
    reader.feed(page.decode())
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def rows() -> list[ResultRecord]:
    return [*realistic_rows(), *realistic_rows(generated=False, dataset="ptb-xl", name="ptb-xl-probe")]


@pytest.fixture(scope="module")
def files(rows: list[ResultRecord]) -> dict[str, bytes]:
    return board_files(rows)


def test_the_page_is_well_formed_and_its_links_lead_somewhere(files: dict[str, bytes]) -> None:
    page = read(files["index.html"])
    assert len(page.ids) == len(set(page.ids))
    assert page.targets
    assert {target.removeprefix("#") for target in page.targets} <= set(page.ids)


def test_the_page_loads_nothing(files: dict[str, bytes]) -> None:
    page = read(files["index.html"])
    assert page.loads == []
    assert page.scripts == 1
    text = files["index.html"].decode()
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert "url(" not in text


def test_equal_rows_give_equal_bytes_in_any_order(rows: list[ResultRecord], files: dict[str, bytes]) -> None:
    shuffled = list(rows)
    random.Random(3).shuffle(shuffled)
    assert board_files(shuffled) == files


def test_bytes_do_not_depend_on_the_hash_seed_of_the_process() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from board_rows import realistic_rows\nfrom melp_bench.board import board_files\nimport hashlib\n"
        "files = board_files(realistic_rows())\n"
        "sys.stdout.write(hashlib.sha256(b''.join(files.values())).hexdigest() + ' ' + str('torch' in sys.modules))"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PATH": ""}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert said[0].endswith(" False")  # and a board needs no torch


def test_every_score_on_every_board_has_its_interval(rows: list[ResultRecord], files: dict[str, bytes]) -> None:
    page = " ".join(" ".join(read(files["index.html"]).text).split())
    interval = r"\s\[0\.\d{3}, 0\.\d{3}\]"
    aurocs = {f"{r.outcome.scores['auroc'].value:.3f}" for r in rows if r.outcome}
    for text, value in ((page, r"(0\.\d{3})"), (files["README.md"].decode(), r"\*{0,2}(0\.\d{3})\*{0,2}")):
        with_interval = set(re.findall(value + interval, text))
        assert aurocs <= with_interval
    table_lines = [
        line for line in files["README.md"].decode().splitlines() if line.startswith("| ") and "reported" not in line
    ]
    for line in table_lines:
        bare = re.sub(r"0\.\d{3}\*{0,2} \[0\.\d{3}, 0\.\d{3}\]", "", line)
        assert not re.search(r"0\.\d{3}", bare), line
    lines = list(csv.DictReader(io.StringIO(files["board.csv"].decode())))
    assert all(bool(line["auroc"]) == bool(line["auroc_low"]) == bool(line["auroc_high"]) for line in lines)
    tex = re.sub(r"\{\\footnotesize \[0\.\d{3}, 0\.\d{3}\]\}", "INTERVAL", files["board.tex"].decode())
    assert len(re.findall(r"0\.\d{3}", tex)) == tex.count("INTERVAL") == sum(r.outcome is not None for r in rows)


def test_the_csv_says_what_the_rows_say(rows: list[ResultRecord], files: dict[str, bytes]) -> None:
    lines = {line["key"]: line for line in csv.DictReader(io.StringIO(files["board.csv"].decode()))}
    assert set(lines) == {r.key for r in rows}
    for record in rows:
        line = lines[record.key]
        assert (line["model"], line["task"], line["status"], line["reason"]) == (
            record.model,
            record.task,
            record.status,
            record.reason,
        )
        assert line["generated"] == str(record.generated).lower()
        if record.outcome:
            for metric, value in record.outcome.scores.items():
                assert [float(line[metric + end]) for end in ("", "_low", "_high")] == [value.value, value.low, value.high]
            assert line["excluded"] == "; ".join(record.outcome.excluded)


def test_synthetic_rows_are_marked_on_every_board(files: dict[str, bytes]) -> None:
    for name in ("README.md", "index.html", "board.tex"):
        assert GENERATED_NOTE in files[name].decode(), name


def test_what_cannot_be_scored_is_shown_with_its_reason(files: dict[str, bytes]) -> None:
    assert all("needs a text encoder" in files[name].decode() for name in ("README.md", "index.html", "board.csv", "board.tex"))


def evil_rows() -> list[ResultRecord]:
    classes = (
        ClassScore(name=EVIL, positives=40, records=90, scores={"auroc": score(0.8, 0.1), "auprc": score(0.5, 0.1)}),
        ClassScore(name=f"none {EVIL}", positives=0, records=90),
    )
    facts = {"corpora": [EVIL], EVIL: EVIL, "records_per_second": 10, "nested": {EVIL: [EVIL]}}
    kept = {"facts": facts, "classes": classes, "excluded": (f"none {EVIL}",)}
    rows = [row(EVIL, task=f"{EVIL}/x", setting=EVIL, auroc=score(0.9, 0.02), name=EVIL, **kept)]  # type: ignore[arg-type]
    named = {EVIL: MetricLabel(label=EVIL, bounds=(None, None)), "\x1b[31m": MetricLabel(label="-\u202e\x1b[31m")}
    told = Outcome(scores={EVIL: score(0.9, 0.02)}, metrics=named, primary=EVIL, not_measured={"\x1b[31m": EVIL}, classes=[])
    rows += [row("evil", EVIL, task=f"{EVIL}/x", setting=EVIL, outcome=told, label=EVIL, name=EVIL, code={EVIL: EVIL})]
    for name in ("מודל הלב", "نموذج", "🫀 👩🏽‍⚕️ 🇮🇱", "L\u0336o\u0336n\u0336g", "\u2067a\u2069"):
        rows += [row(name, task=f"{EVIL}/x", setting=name, auroc=score(0.8, 0.02), name=EVIL, facts=facts, classes=classes)]
    rows += [row("=cmd|' /C calc'!A0", task=f"{EVIL}/x", setting=EVIL, reason=EVIL, name=EVIL, facts=facts)]
    for fraction in ("1 %", "100 %"):  # the plots write names too
        common = {"task": f"{EVIL}/x", "setting": fraction, "name": EVIL}
        rows += [row(m, "linear_probe", auroc=score(0.8, 0.02), **common, **kept) for m in (EVIL, "-b\u202e\x1b[31m")]  # type: ignore[arg-type]
    return rows


def test_a_model_named_as_a_script_is_text_in_the_page() -> None:
    files = board_files(evil_rows())
    page = read(files["index.html"])
    assert page.scripts == 1
    assert "alert" in "".join(page.text)
    assert "<script>alert" not in files["index.html"].decode()


def test_names_cannot_leave_their_cell_in_markdown_csv_and_latex() -> None:
    files = board_files(evil_rows())
    for table in re.findall(r"(?:^\|.*\n)+", files["README.md"].decode(), re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert "<script" not in files["README.md"].decode()
    for line in (line for name in ("board.csv", FILE) for line in csv.reader(io.StringIO(files[name].decode()))):
        assert not [cell for cell in line if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    tex = files["board.tex"].decode()
    assert not re.search(r"(?<!\\)[#~]", tex)
    assert tex.count(r"\begin{table}") == tex.count(r"\end{table}") > 1
    braces = re.sub(r"\\[{}]", "", tex)
    assert braces.count("{") == braces.count("}")
    assert "[U+05DE]" in tex
    assert max(tex) <= "‡", "no letter that pdflatex stops at"


def test_control_and_direction_characters_reach_no_board() -> None:
    text = b"".join(board_files(evil_rows()).values()).decode()
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_the_terminal_fits_80_columns_and_shows_ranks_marks_and_reasons() -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=False)
    for table in terminal_tables([*realistic_rows(), *evil_rows()]):
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert "zero-shot · synthetic/super · macro AUROC" in text
    assert re.search(r"^ +1 +merl +0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] +≈ best", text, re.M)
    assert re.search(r"^ +- +simclr +needs a text encoder", text, re.M)
    assert GENERATED_NOTE in text
    assert "\x1b" not in text


def test_the_weakest_class_comes_first_and_rare_and_excluded_classes_are_named() -> None:
    classes = tuple(
        ClassScore(
            name=name, positives=positives, records=100, scores={"auroc": score(value, 0.02), "auprc": score(value, 0.02)}
        )
        for name, positives, value in (("STRONG", 50, 0.95), ("WEAK", 4, 0.55), ("MIDDLE", 20, 0.75))
    )
    gone = ClassScore(name="ABSENT", positives=0, records=100)
    page = board_files([row(auroc=score(0.75, 0.02), classes=(*classes, gone), excluded=("ABSENT",))])
    text = " ".join(" ".join(read(page["index.html"]).text).split())
    order = [text.rindex(name) for name in ("WEAK", "MIDDLE", "STRONG", "ABSENT")]
    assert order == sorted(order)
    assert "WEAK fewer than 10 positives 4 of 100" in text
    assert "not in the macro mean for want of a positive or a negative: ABSENT" in text
    assert "ABSENT" in page["README.md"].decode()


def test_rows_that_average_over_different_classes_are_said_to() -> None:
    rows = [row("a", auroc=score(0.7, 0.1), excluded=("X",)), row("b", auroc=score(0.7, 0.1))]
    assert "rows differ in this" in board_files(rows)["README.md"].decode()


def test_a_board_of_no_rows_is_a_board_that_says_so() -> None:
    files = board_files([])
    read(files["index.html"])
    assert "No rows yet" in files["README.md"].decode()


def test_a_board_where_nothing_could_be_scored_shows_the_reasons() -> None:
    rows = [
        row(m, e, reason="needs a beat", setting=s) for m in "ab" for e, s in (("linear_probe", "1 %"), ("linear_probe", "9 %"))
    ]
    files = board_files(rows)
    assert "".join(read(files["index.html"]).text).count("needs a beat") == 8  # in the overview and in its table


def test_a_protocol_hash_that_is_no_hash_cannot_leave_its_place() -> None:
    files = board_files([row(auroc=score(0.5, 0.1), protocol="`<img src=x>|")])
    assert read(files["index.html"]).loads == []
    assert "<img" not in files["README.md"].decode()


def test_methods_by_tasks_has_a_row_per_method_and_every_ranked_score_of_it(
    rows: list[ResultRecord], files: dict[str, bytes]
) -> None:
    def called(r: ResultRecord) -> str:
        told = (r.evaluation_label, r.task.replace("->", " → ")) if "->" in r.task else (r.task, r.evaluation_label)
        return " ".join(part for part in (*told, r.setting, "macro AUROC") if part)

    lines = list(csv.DictReader(io.StringIO(files[FILE].decode())))
    assert [(line["protocol"], line["generated"]) for line in lines] == [
        (section.protocol, str(section.generated).lower()) for section in build_board(rows) for _ in section.methods
    ]
    found = {}
    for line in lines:
        for name in (name for name, cell in line.items() if cell and name.endswith(" macro AUROC")):
            numbers = [float(line[f"{name}{end}"]) for end in ("", " low", " high")]
            found[line["protocol"], line["model"], name] = pytest.approx(numbers, abs=1e-6)
    wanted = {(r.protocol, r.model, called(r)): r.outcome.scores["auroc"] for r in rows if r.outcome is not None}
    assert {key: [one.value, one.low, one.high] for key, one in wanted.items()} == found
    assert {line["model"] for line in lines if line["mean_rank"] == min(line["mean_rank"] for line in lines)} == {"melp"}


BOARD = {"README.md", "index.html", "board.csv", "methods-by-tasks.csv", "board.tex", "statistics.json"}


def test_a_stale_board_is_seen_and_mended(tmp_path: Path) -> None:
    results, out = tmp_path / "results", tmp_path / "board"
    for record in realistic_rows():
        write_result(record, results)
    write_board(read_results(results), out)
    assert stale_files(board_files(read_results(results)), out) == []
    write_result(row("late", auroc=score(0.5, 0.1)), results)
    assert set(stale_files(board_files(read_results(results)), out)) == {
        "README.md",
        "index.html",
        "board.csv",
        "methods-by-tasks.csv",
        "board.tex",
        "statistics.json",
    }
    write_board(read_results(results), out)
    assert stale_files(board_files(read_results(results)), out) == []
    (out / "README.md").write_text("edited", encoding="utf-8")
    assert stale_files(board_files(read_results(results)), out) == ["README.md"]


def test_an_edited_row_is_named_and_in_no_board(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    results = tmp_path / "results"
    write_result(row("kept", auroc=score(0.5, 0.1)), results)
    path = write_result(row("edited", auroc=score(0.9, 0.1), setting="1 %"), results)
    path.write_text(path.read_text(encoding="utf-8").replace('"seed": 0', '"seed": 1'), encoding="utf-8")
    write_board(read_results(results), tmp_path / "out")
    assert f"left out: '{path}': its inputs do not have the key it is named by; it was edited" in caplog.text
    told = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "kept" in told
    assert "edited" not in told


def test_the_committed_board_is_that_of_the_committed_rows() -> None:
    committed = Path(__file__).parents[2] / "leaderboard"
    rows = list(read_results(committed / "results"))
    assert rows
    made = board_files(rows, read_speeds(committed / "throughput"), committed / "results", pages_beside(committed))
    assert stale_files(made, committed) == []
