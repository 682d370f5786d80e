"""Label files: read as they are, and every way in which a file is not of the published form."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from label_csv import PARTS, TEST_ORDER, TRAIN_ORDER, sub_parts, write, write_csn, write_sub

from melp_bench.errors import UnknownName, UserError
from melp_bench.label_files import layouts, read_files
from melp_bench.label_files.layout import layouts_of

SUB = layouts()["ptb-xl/sub"]
TRAIN = SUB.file("train")


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    files = read_files(write_sub(tmp_path, sub_parts()), SUB)
    for part, order in (("train", TRAIN_ORDER), ("val", TEST_ORDER), ("test", TEST_ORDER)):
        file = files.parts[part]
        assert file.classes == tuple(order)
        assert file.record_ids == tuple(record for record, _ in sub_parts()[part])
        assert file.labels.tolist() == [[name in had for name in order] for _, had in sub_parts()[part]]
        assert file.sha256 == hashlib.sha256((tmp_path / SUB.file(part)).read_bytes()).hexdigest()
        assert file.verified == "unknown"


def test_records_are_named_by_the_file_at_the_end_of_a_path_and_by_the_column_of_their_task(tmp_path: Path) -> None:
    write_csn(tmp_path, {part: [(f"JS0000{i}", ["SR"])] for i, part in enumerate(PARTS)}, ["SR"])
    assert read_files(tmp_path, layouts()["csn/published"]).parts["test"].record_ids == ("JS00002",)
    for i, part in enumerate(PARTS):
        header = ["patient_id", "ecg_id", "filename", "validation", "age", "sex", "scp_codes", "AFIB", "NORM"]
        write(tmp_path / f"icbeb/icbeb_{part}.csv", header, [[9, 9, f"A000{i}", "False", 32.0, 0, "{}", 0, 1]])
    files = read_files(tmp_path, layouts()["cpsc2018/all"])
    assert files.parts["train"].record_ids == ("A0000",)
    assert files.parts["train"].labels.tolist() == [[False, True]]
    assert files.parts["train"].statements == ()


def test_every_layout_names_three_files_and_a_dataset_finds_its_own() -> None:
    assert {layout.name for layout in layouts_of("ptb-xl")} == {f"ptb-xl/{task}" for task in ("super", "sub", "form", "rhythm")}
    assert [layout.file("val") for layout in layouts_of("csn/published")] == ["chapman/chapman_val.csv"]
    digests = [digest for layout in layouts().values() for digest in layout.sha256 or ()]
    assert len(set(digests)) == len(digests) == 15
    with pytest.raises(UnknownName, match="did you mean 'ptb-xl/sub'"):
        layouts_of("ptb-xl/subb")


def test_a_stated_digest_is_held_to(tmp_path: Path) -> None:
    write_sub(tmp_path, sub_parts())
    digest = hashlib.sha256((tmp_path / TRAIN).read_bytes()).hexdigest()
    files = read_files(tmp_path, SUB, {TRAIN: digest.upper()})
    assert [file.verified for file in files.parts.values()] == ["stated", "unknown", "unknown"]
    (tmp_path / TRAIN).write_bytes((tmp_path / TRAIN).read_bytes() + b"\n")
    with pytest.raises(UserError, match=f"SHA-256 .*, and the protocol states {digest}"):
        read_files(tmp_path, SUB, {TRAIN: digest})


def edited(change: Callable[[str], str | bytes]) -> Callable[[Path], None]:
    """Return what changes the training file."""

    def edit(folder: Path) -> None:
        content = change((folder / TRAIN).read_text(encoding="utf-8"))
        (folder / TRAIN).write_bytes(content if isinstance(content, bytes) else content.encode())

    return edit


FIRST = "1,1.0,1,lr/1_lr,hr/1_hr"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / TRAIN).unlink(), "cannot read label file"),
        (edited(lambda text: ""), "no rows"),
        (edited(lambda text: text.splitlines()[0]), "no rows"),
        (edited(lambda text: b"\xff\xfe\x00"), "not a CSV in UTF-8"),
        (edited(lambda text: text.replace("ecg_id", "id")), "lacks ..ecg_id.."),
        (edited(lambda text: text.replace("sub_class", "x")), "lacks ..sub_class.."),
        (edited(lambda text: text.replace("AVB,RAO/RAE", "AVB,AVB", 1)), "every name once"),
        (edited(lambda text: text.replace("AVB,RAO/RAE", "AVB,RAE", 1)), "different classes"),
        (edited(lambda text: "\n".join(line.rsplit(",", 1)[0] for line in text.splitlines())), "different classes"),
        (edited(lambda text: text.replace(FIRST, FIRST + ",", 1)), "line 2 has 11 cells"),
        (edited(lambda text: text.replace(",1,1,0,0\n", ",1,2,0,0\n", 1)), "line 2: column 'AVB' is '2'"),
        (edited(lambda text: text.replace(FIRST, FIRST.replace("1,", " ,", 1), 1)), "names no record"),
        (edited(lambda text: text.replace("\n2,", "\n1,", 1)), "record '1' is in"),
        (edited(lambda text: text.replace("\n2,", "\n25,", 1)), "record '25' is in .*train.* and in .*val"),
        (
            edited(lambda text: text.replace("['AVB', 'RAO/RAE']", "NORM", 1).replace("['AVB']", "NORM")),
            "wanted a list of names",
        ),
        (edited(lambda text: text.replace("['AVB']", "{'AVB': 1}")), "wanted a list of names"),
    ],
)
def test_a_file_that_is_not_of_the_form_is_refused_in_one_line(
    spoil: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    spoil(write_sub(tmp_path, sub_parts()))
    with pytest.raises(UserError, match=told) as error:
        read_files(tmp_path, SUB)
    assert "\n" not in str(error.value)


def test_no_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        read_files(tmp_path / "none", SUB)
