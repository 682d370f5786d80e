"""Predictions on disk: what comes back is what was kept, bit by bit, and nothing else is taken for it."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from melp_bench.errors import UserError
from melp_bench.prediction_files import (
    decode_predictions,
    encode_predictions,
    predictions_path,
    read_predictions,
    write_predictions,
)
from melp_bench.predictions import Predictions


def predictions(dtype: str = "float32", kind: str = "logit", validation: bool = True) -> Predictions:
    generator = np.random.default_rng(0)
    labels = generator.random((9, 3)) < 0.4
    scores = generator.standard_normal((2, 9, 3)).astype(dtype)
    return Predictions(
        scores=scores[:, :6],
        labels=labels[:6] if kind != "value" else generator.standard_normal((6, 3)),
        record_ids=np.array(["r1", "r2", "ü", "r4", "00005", "r6"]),
        patients=np.array(["a", "a", "b", "", "c", "d"]),
        classes=("NORM", "<script>", "م"),
        kind=kind,  # type: ignore[arg-type]
        validation=(scores[:, 6:], labels[6:]) if validation else None,
    )


@pytest.mark.parametrize(
    "given",
    [predictions(), predictions("float64"), predictions(validation=False), predictions("float64", "value", validation=False)],
    ids=["float32", "float64", "without validation", "quantities"],
)
def test_predictions_come_back_bit_by_bit(given: Predictions, tmp_path: Path) -> None:
    found = read_predictions(tmp_path, write_predictions(given, tmp_path))
    for name in ("scores", "labels", "record_ids", "patients"):
        one, two = getattr(given, name), getattr(found, name)
        np.testing.assert_array_equal(one, two)
        assert one.dtype.kind == two.dtype.kind
    assert found.scores.dtype == given.scores.dtype
    assert (found.classes, found.kind) == (given.classes, given.kind)
    assert (found.validation is None) == (given.validation is None)
    for one, two in zip(given.validation or (), found.validation or (), strict=True):
        np.testing.assert_array_equal(one, two)


def test_an_empty_validation_is_not_none() -> None:
    given = predictions()
    none = replace(given, validation=(given.scores[:, :0], given.labels[:0]))
    content = encode_predictions(none)
    found = decode_predictions(content, hashlib.sha256(content).hexdigest())
    assert found.validation is not None
    assert found.validation[0].shape == (2, 0, 3)


def test_equal_predictions_are_one_file_and_any_reader_can_read_it(tmp_path: Path) -> None:
    assert write_predictions(predictions(), tmp_path) == write_predictions(predictions(), tmp_path)
    (path,) = (tmp_path / "predictions").iterdir()
    frame = pq.read_table(path).to_pandas()
    assert list(frame.columns) == ["part", "record_id", "patient", "labels", "scores_0", "scores_1"]
    assert frame.record_id[2] == "ü"
    assert frame.scores_1[3].tolist() == predictions().scores[1, 3].tolist()
    assert (frame.part == "validation").sum() == 3


def test_a_damaged_file_is_written_anew(tmp_path: Path) -> None:
    sha256 = write_predictions(predictions(), tmp_path)
    path = predictions_path(tmp_path, sha256)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="was changed or cut short"):
        read_predictions(tmp_path, sha256)
    assert write_predictions(predictions(), tmp_path) == sha256
    read_predictions(tmp_path, sha256)
    path.unlink()
    with pytest.raises(UserError, match="there is no file of predictions"):
        read_predictions(tmp_path, sha256)


def rewritten(**change: object) -> bytes:
    """Return a file of predictions whose columns or metadata were replaced."""
    table = pq.read_table(io.BytesIO(encode_predictions(predictions())))
    said = json.loads(table.schema.metadata[b"melp-bench"])
    columns = {name: table[name] for name in table.column_names}
    columns |= {name: value for name, value in change.items() if name in columns or name == "extra"}
    said |= {name: value for name, value in change.items() if name in said}
    table = pa.table(columns).replace_schema_metadata({b"melp-bench": json.dumps(said)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


LISTS = pa.array([[0.1, 0.2, 0.3]] * 9, pa.list_(pa.float64()))


@pytest.mark.parametrize(
    "content",
    [
        b"PAR1",
        b"",
        b"PAR1" + b"\0" * 64 + b"PAR1",
        rewritten(kind="odds"),
        rewritten(schema=9),
        rewritten(classes=["one"]),
        rewritten(extra=pa.array(["x"] * 9)),
        rewritten(scores_0=pa.array([[1, 2]] * 9, pa.list_(pa.float64()))),
        rewritten(scores_0=pa.array([None, *LISTS.to_pylist()[1:]], pa.list_(pa.float64()))),
        rewritten(scores_0=pa.array([["a", "b", "c"]] * 9)),
        rewritten(record_id=pa.array([None] * 9, pa.string())),
        rewritten(part=pa.array(["validation"] * 3 + ["test"] * 6)),
    ],
)
def test_what_is_no_file_of_predictions_is_refused_in_a_line(content: bytes) -> None:
    with pytest.raises(UserError, match=r"^predictions .* cannot be read") as caught:
        decode_predictions(content, hashlib.sha256(content).hexdigest())
    assert "\n" not in str(caught.value)


def test_a_file_that_claims_too_much_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encode_predictions(predictions())
    monkeypatch.setitem(decode_predictions.__globals__, "LARGEST", 100)
    with pytest.raises(UserError, match="more than a file may hold"):
        decode_predictions(content, hashlib.sha256(content).hexdigest())
