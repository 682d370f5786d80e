"""Rows with predictions, as a run would leave them for a board: of two models, one with a hostile name, and of one unscored."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from melp_bench.code_digest import code_digest
from melp_bench.measure import measure
from melp_bench.plugins import Catalogue
from melp_bench.prediction_files import decode_predictions, encode_predictions, write_predictions
from melp_bench.predictions import Predictions
from melp_bench.protocol import Protocol, load_protocol
from melp_bench.results import Inputs, Interval, ResultRecord, write_result
from melp_bench.runs.submission import make_bundle
from melp_bench.runs.versions import ROWS

NASTY = '<script>alert("x")</script> \\input{x} ｅ‮moji 🫀'
PROTOCOL = """
name = "sent"
revision = 2
summary = "for tests"
[datasets.d]
dataset = "synthetic"
[interval]
resamples = 40
[[evaluations]]
name = "zero_shot"
tasks = ["d/super"]
"""
METRICS = ["auroc", "auprc", "max-f1", "brier"]


def scores_of(seed: int, skill: float) -> Predictions:
    generator = np.random.default_rng(7)
    labels = generator.random((120, 3)) < 0.3
    noise = np.random.default_rng(seed).standard_normal((2, 120, 3))
    return Predictions(
        scores=(skill * labels + noise)[:, :80],
        labels=labels[:80],
        record_ids=np.arange(80).astype(str),
        patients=np.array([f"p{i // 2}" for i in range(80)]),
        classes=("NORM", "MI", "<b>"),
        kind="logit",
        validation=((skill * labels + noise)[:, 80:], labels[80:]),
    )


@dataclass
class Board:
    """A folder of results with rows of three models, one of which could not be scored."""

    results: Path
    protocol: Protocol
    catalogue: Catalogue
    rows: list[ResultRecord]

    @classmethod
    def made(cls, folder: Path, catalogue: Catalogue) -> Board:
        file = folder / "sent.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(PROTOCOL, encoding="utf-8")
        board = cls(folder / "results", load_protocol(str(file)), catalogue, [])
        board.add("melp", scores_of(0, 1.5))
        board.add(NASTY, scores_of(1, 1.0))
        board.add("random-init", None)
        return board

    def add(self, model: str, predictions: Predictions | None) -> ResultRecord:
        chosen = [self.catalogue.metrics[name] for name in METRICS]
        interval = Interval.model_validate(self.protocol.interval.model_dump())
        inputs = Inputs(
            model={"name": model},
            evaluation={"name": "zero_shot", "options": {}, "metrics": [{"name": n, "options": {}} for n in METRICS]},
            task="d/super",
            tasks={"d/super": {"labels": "l"}},
            datasets={"d": "f"},
            interval=interval.model_dump(mode="json"),
            code={f"metric {entry.name}": code_digest(entry) for entry in chosen},
            versions=ROWS,
        )
        record = ResultRecord(
            key=inputs.key,
            inputs=inputs,
            protocol=self.protocol.name,
            protocol_revision=self.protocol.revision,
            protocol_hash=self.protocol.hash,
            model=model,
            evaluation="zero_shot",
            evaluation_version=1,
            task="d/super",
            generated=True,
            status="scored" if predictions else "not-applicable",
            reason="" if predictions else "needs a text encoder",
            outcome=measure(predictions, [entry.build() for entry in chosen], interval) if predictions else None,
            facts={"recipe": {"name": model}, "weights_sha256": "ab"},
            environment={"python": "3.12"},
            predictions=write_predictions(predictions, self.results) if predictions else "",
        )
        write_result(record, self.results)
        self.rows.append(record)
        return record

    def path(self, record: ResultRecord) -> Path:
        return self.results / record.protocol / f"{record.key}.json"

    def bundle(self, folder: Path, *models: str) -> Path:
        path = folder / "sent.zip"
        make_bundle(self.protocol, self.results, path, models, self.catalogue)
        return path


def tampered(files: dict[str, bytes], record: ResultRecord, *, seal: bool) -> dict[str, bytes]:
    """Return the bundle with one score of one record changed; with `seal`, all digests are made to fit."""

    name = f"predictions/{record.predictions}.parquet"
    given = decode_predictions(files[name], record.predictions)
    scores = given.scores.copy()
    column = given.labels[:, 0]
    scores[0, np.flatnonzero(column)[0], 0] = scores[0].min() - 1  # the best becomes the worst
    content = encode_predictions(replace(given, scores=scores))
    changed = {**files, name: content}
    if seal:
        sha256 = hashlib.sha256(content).hexdigest()
        row = f"rows/{record.key}.json"
        changed = {n: c for n, c in changed.items() if n != name} | {f"predictions/{sha256}.parquet": content}
        changed[row] = changed[row].replace(record.predictions.encode(), sha256.encode())
        about = json.loads(changed["bundle.json"])
        about["files"] = {n: hashlib.sha256(c).hexdigest() for n, c in changed.items() if n != "bundle.json"}
        changed["bundle.json"] = json.dumps(about).encode()
    return changed
