"""Predictions kept per record, one Parquet file per row, so that any later statistic needs no model.

A file is named by its own SHA-256 and lies in `predictions/` of a folder of results; a row names it. So rows that two protocols
share have one file, two processes that make one row write the same file, and a file that was changed has not the name it
should have.

Columns: `part` ("test" or "validation"), `record_id` and `patient` (of test records), `labels` (a list, one per class) and
`scores_0`, `scores_1`, ... (a list each, one per probe seed). Classes and kind stand in the schema's metadata, as JSON.

Shapes: S probe seeds, N scored records, V validation records, C classes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from melp_bench.errors import UserError
from melp_bench.home import atomic_write, make_folder
from melp_bench.predictions import Kind, Predictions

FOLDER = "predictions"
SCHEMA = 1
LARGEST = 1 << 31  # bytes of scores and labels that a file may hold once read
_META = b"melp-bench"


def predictions_path(results: Path, sha256: str) -> Path:
    """Return where the file of that digest lies in a folder of results."""
    return results / FOLDER / f"{sha256}.parquet"


def write_predictions(predictions: Predictions, results: Path) -> str:
    """Write the predictions to the folder of results, whole or not at all, and return the SHA-256 that is their name."""
    content = encode_predictions(predictions)
    sha256 = hashlib.sha256(content).hexdigest()
    make_folder(results / FOLDER)
    path = predictions_path(results, sha256)
    if not path.is_file() or path.read_bytes() != content:
        atomic_write(path, content)
    return sha256


def read_predictions(results: Path, sha256: str) -> Predictions:
    """Return the predictions of that digest.

    Raises:
        UserError: there is no such file, or it is not what its name says.
    """
    path = predictions_path(results, sha256)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"there is no file of predictions {str(path)!r}") from error
    return decode_predictions(content, sha256)


def encode_predictions(predictions: Predictions) -> bytes:
    """Return the predictions as a Parquet file; equal predictions give equal bytes under one version of pyarrow."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    scores, labels, parts = predictions.scores, predictions.labels, ["test"] * len(predictions.labels)
    if predictions.validation is not None:
        scores = np.concatenate([scores, predictions.validation[0]], axis=1)  # (S, N + V, C)
        labels = np.concatenate([labels, predictions.validation[1]])
        parts += ["validation"] * (len(labels) - len(parts))
    rest = [None] * (len(labels) - len(predictions.labels))
    columns = {
        "part": pa.array(parts),
        "record_id": pa.array([*predictions.record_ids.tolist(), *rest], pa.string()),
        "patient": pa.array([*predictions.patients.tolist(), *rest], pa.string()),
        "labels": _lists(labels if predictions.kind == "value" else labels.astype(bool)),
        **{f"scores_{s}": _lists(one) for s, one in enumerate(scores)},
    }
    said = {"schema": SCHEMA, "kind": predictions.kind, "classes": list(predictions.classes)}
    said["validation"] = predictions.validation is not None
    table = pa.table(columns).replace_schema_metadata({_META: json.dumps(said)})
    sink = pa.BufferOutputStream()
    split = [f"scores_{s}.list.element" for s in range(len(scores))]  # bytes of one place together, a third smaller
    plain = ["part", "record_id", "patient"]
    pq.write_table(table, sink, compression="zstd", write_statistics=False, use_dictionary=plain, use_byte_stream_split=split)
    return cast(bytes, sink.getvalue().to_pybytes())


def decode_predictions(content: bytes, sha256: str) -> Predictions:
    """Return the predictions of a file's content, checked against its digest.

    Raises:
        UserError: it is damaged, was changed, is no file of predictions, or is larger than any should be.
    """
    name = f"predictions {sha256[:12]}"
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(f"{name} do not have the SHA-256 that the row names; the file was changed or cut short")
    import pyarrow as pa

    try:
        return _decoded(content)
    except (pa.ArrowException, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"{name} cannot be read: {' '.join(str(error).split())[:200]}") from error


def _decoded(content: bytes) -> Predictions:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(content))
    said = json.loads((file.schema_arrow.metadata or {})[_META])
    classes = tuple(str(name) for name in said["classes"])
    seeds = [name for name in file.schema_arrow.names if name.startswith("scores_")]
    wanted = ["part", "record_id", "patient", "labels", *(f"scores_{s}" for s in range(len(seeds)))]
    if said["schema"] != SCHEMA or said["kind"] not in get_args(Kind) or file.schema_arrow.names != wanted or not seeds:
        raise ValueError(f"columns are {file.schema_arrow.names[:8]} of schema {said['schema']!r}; wanted {wanted[:5]} ...")
    if file.metadata.num_rows * len(classes) * 8 * (len(seeds) + 1) > LARGEST:
        raise ValueError(f"{file.metadata.num_rows} records of {len(classes)} classes are more than a file may hold")
    table = file.read()
    test = np.array(table["part"].to_pylist()) == "test"
    labels, scores = (_values(table[name], len(classes)) for name in ("labels", seeds[0]))
    stack = np.stack([scores, *(_values(table[name], len(classes)) for name in seeds[1:])])  # (S, N + V, C)
    if not np.issubdtype(stack.dtype, np.floating) or not test[: test.sum()].all():
        raise ValueError("scores are no numbers, or test records do not come first")
    ids, patients = (table[name].to_pylist()[: test.sum()] for name in ("record_id", "patient"))
    if any(not isinstance(name, str) for name in (*ids, *patients)):
        raise ValueError("a test record has no id or no patient")
    return Predictions(
        scores=stack[:, test],
        labels=labels[test],
        record_ids=np.array(ids, dtype=np.str_),
        patients=np.array(patients, dtype=np.str_),
        classes=classes,
        kind=said["kind"],
        validation=(stack[:, ~test], labels[~test]) if said["validation"] else None,
    )


def _lists(values: NDArray[Any]) -> Any:
    """Return rows (N, C) as an array of lists."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), values.shape[1])


def _values(column: Any, width: int) -> NDArray[Any]:
    """Return lists of `width` as rows (N, C).

    Raises:
        ValueError: they are of another width, or something is missing.
    """
    flat = column.combine_chunks().flatten()
    if column.null_count or flat.null_count or len(flat) != width * len(column):
        raise ValueError(f"lists hold {len(flat)} values for {len(column)} records of {width} classes")
    found: NDArray[Any] = flat.to_numpy(zero_copy_only=False).reshape(len(column), width)
    return found
