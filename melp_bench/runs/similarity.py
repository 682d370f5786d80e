"""How alike models are on the same records, from the folders of features that `melp-bench embed` writes.

Shapes: N records that all folders hold, P channels.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from melp_bench.errors import UserError
from melp_bench.metrics.similarity import Similarity, cka_interval
from melp_bench.runs.feature_files import SAID

MOST = 2000  # records that are compared: kernels hold the square of them


@dataclass(frozen=True, eq=False)
class _Folder:
    model: str
    records: str  # the fingerprint of the store
    embedding: NDArray[np.float32]  # (N, P)
    record_ids: NDArray[np.str_]
    patients: NDArray[np.str_]


@dataclass(frozen=True)
class ModelPair:
    """Two models, by the names that their folders say."""

    first: str
    second: str
    similarity: Similarity
    records: int


def compare_features(folders: Sequence[Path], *, most: int = MOST) -> list[ModelPair]:
    """Return the similarity of the embeddings of every two of `folders`, on at most `most` records, the first by SHA-256 of id.

    Raises:
        UserError: fewer than two folders, one holds no whole features, they are of other records, or there are too few.
    """
    if len(folders) < 2:
        raise UserError(
            "similarity wants the folders of two models or more, as `melp-bench embed MODEL DATASET --out DIR` writes"
        )
    read = [_read(folder) for folder in folders]
    for folder, one in zip(folders, read, strict=True):
        if one.records != read[0].records or not np.array_equal(one.record_ids, read[0].record_ids):
            raise UserError(
                f"{str(folder)!r} holds features of other records than {str(folders[0])!r}; embed one dataset by both"
            )
    ids = read[0].record_ids.tolist()
    order = sorted(range(len(ids)), key=lambda place: hashlib.sha256(ids[place].encode()).digest())[:most]
    if len(order) < 4:
        raise UserError(f"{len(order)} records; wanted at least 4 to say how alike two models are")
    chosen = np.array(order)
    return [
        ModelPair(a.model, b.model, cka_interval(a.embedding[chosen], b.embedding[chosen], a.patients[chosen]), len(chosen))
        for a, b in itertools.combinations(read, 2)
    ]


def _read(folder: Path) -> _Folder:
    """Return a folder's embeddings, by record id."""
    try:
        said = json.loads((folder / SAID).read_text(encoding="utf-8"))
        table = pq.read_table(sorted(folder.glob("part-*.parquet")), columns=["record_id", "patient_id", "embedding"])
        model, records = str(said["model"]), str(said["records"])
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise UserError(
            f"{str(folder)!r} holds no whole features ({error}); make them with `melp-bench embed MODEL DATASET --out DIR`"
        ) from error
    vectors = table["embedding"].combine_chunks()
    embedding = vectors.flatten().to_numpy().reshape(len(table), -1)
    ids, patients = (np.array(table[name].to_pylist(), dtype=np.str_) for name in ("record_id", "patient_id"))
    order = np.argsort(ids)
    if not np.isfinite(embedding).all():
        raise UserError(f"{str(folder)!r} holds embeddings that are not finite; check the weights of {model!r}")
    return _Folder(model, records, embedding[order], ids[order], patients[order])
