"""Bundles: rows of a protocol with their predictions in one file, made here and accepted elsewhere after a check of every cell.

A bundle is a ZIP file of `bundle.json` (what is in it, with the SHA-256 of every file, recipes, weights and environment),
`protocol.json`, `rows/KEY.json` and `predictions/SHA256.parquet`. It holds no signal and no report. Nothing of it is extracted
by its name: a file has one of these names or the bundle is refused, and each is read into memory, no further than its limit.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from melp_bench import __version__
from melp_bench.errors import UserError
from melp_bench.home import atomic_write, make_folder
from melp_bench.plugins import Catalogue
from melp_bench.prediction_files import FOLDER, decode_predictions, predictions_path
from melp_bench.predictions import Predictions
from melp_bench.protocol import Protocol
from melp_bench.results import ResultRecord, Submission, read_results, write_result
from melp_bench.runs.kept import now
from melp_bench.runs.verification import RowCheck, differences, verify_row
from melp_bench.schema import first_problem

ABOUT, PROTOCOL = "bundle.json", "protocol.json"
MEMBER = re.compile(r"(bundle\.json|protocol\.json|rows/[0-9a-f]{64}\.json|predictions/[0-9a-f]{64}\.parquet)")
MOST_FILES, LARGEST_FILE, LARGEST_BUNDLE = 20_000, 1 << 28, 1 << 31  # bytes, once unpacked
FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # of every file, so that equal bundles are equal bytes


class BundleContents(BaseModel):
    """What a bundle says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    protocol: str
    protocol_revision: int
    protocol_hash: str
    melp_bench: str
    models: list[str]
    recipes: dict[str, Any]  # by model
    weights: dict[str, str]  # SHA-256 by model
    environments: list[dict[str, str]]  # each once
    files: dict[str, str]  # SHA-256 by name in the bundle, of all but this one


@dataclass(frozen=True)
class Accepted:
    """What came of a bundle: every row that joined, and of those that were there already how far they agree."""

    rows: tuple[ResultRecord, ...]
    there: tuple[str, ...]


def make_bundle(protocol: Protocol, results: Path, path: Path, models: Sequence[str], catalogue: Catalogue) -> BundleContents:
    """Write the rows of `protocol` (of `models`, or of all) with their predictions to `path`, each checked before.

    Raises:
        UserError: there is no row, a row has no predictions or does not agree with them, or `path` cannot be written.
    """
    rows = [r for r in read_results(results) if r.protocol_hash == protocol.hash and r.protocol == protocol.name]
    absent = sorted(set(models) - {record.model for record in rows})
    if not rows or absent:
        which = f" of {', '.join(map(repr, absent))}" if absent else ""
        raise UserError(f"{str(results)!r} has no row{which} of protocol {protocol.name!r} as it is; run it first")
    rows = [record for record in rows if not models or record.model in models]
    files = {PROTOCOL: json.dumps(protocol.model_dump(mode="json"), indent=1, ensure_ascii=False).encode()}
    for record in rows:
        files |= _of_row(record, results)
    _refuse([_check(record, files, catalogue) for record in rows])
    about = BundleContents(
        protocol=protocol.name,
        protocol_revision=protocol.revision,
        protocol_hash=protocol.hash,
        melp_bench=__version__,
        models=sorted({record.model for record in rows}),
        recipes={record.model: record.facts.get("recipe", {}) for record in rows if record.status == "scored"},
        weights={r.model: str(sha256) for r in rows if (sha256 := r.facts.get("weights_sha256"))},
        environments=[dict(one) for one in sorted({tuple(sorted(record.environment.items())) for record in rows})],
        files={name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
    )
    atomic_write(path, pack_bundle({ABOUT: about.model_dump_json(indent=1).encode(), **files}))
    return about


def _of_row(record: ResultRecord, results: Path) -> dict[str, bytes]:
    """Return the files of a row, by their names in a bundle."""
    found = {f"rows/{record.key}.json": (record.model_dump_json(indent=1) + "\n").encode()}
    if record.predictions:
        try:
            found[f"predictions/{record.predictions}.parquet"] = predictions_path(results, record.predictions).read_bytes()
        except OSError as error:
            raise UserError(f"{record.cell}: its predictions are not there ({error}); delete the row and run again") from error
    return found


def pack_bundle(files: Mapping[str, bytes]) -> bytes:
    """Return the files as a ZIP file; equal files give equal bytes."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as bundle:
        for name, content in sorted(files.items()):
            member = zipfile.ZipInfo(name, FIRST_DAY)
            member.compress_type = zipfile.ZIP_DEFLATED if name.endswith(".json") else zipfile.ZIP_STORED
            member.external_attr = 0o644 << 16
            bundle.writestr(member, content)
    return sink.getvalue()


def read_bundle(path: Path) -> dict[str, bytes]:
    """Return the files of a bundle by name, each as large as it may be and as it says of itself.

    Raises:
        UserError: it is no bundle, holds a file that no bundle holds, or is larger than one may be.
    """
    name = repr(str(path))
    try:
        with zipfile.ZipFile(path) as bundle:
            members = bundle.infolist()
            _refuse_odd_members(members, name)
            return {member.filename: _read(bundle, member, name) for member in members}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise UserError(f"{name} is no bundle, or is damaged: {error}") from error
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror or error}") from error


def _refuse_odd_members(members: Sequence[zipfile.ZipInfo], name: str) -> None:
    if len(members) > MOST_FILES or sum(member.file_size for member in members) > LARGEST_BUNDLE:
        raise UserError(
            f"{name} holds more than a bundle may: {len(members)} files of {sum(m.file_size for m in members)} bytes"
        )
    if len({member.filename for member in members}) < len(members):
        raise UserError(f"{name} holds two files of one name")
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if not MEMBER.fullmatch(member.filename) or kind not in (0, stat.S_IFREG):
            raise UserError(f"{name} holds {member.filename[:80]!r}, which is in no bundle")
        if member.file_size > LARGEST_FILE or member.flag_bits & 1:
            raise UserError(f"{name} holds {member.filename!r}, which is too large ({member.file_size} bytes) or encrypted")


def _read(bundle: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> bytes:
    """Return a member's content; a file that says it is smaller than it is is read no further than it says."""
    import zlib

    try:
        with bundle.open(member) as file:
            content = file.read(member.file_size + 1)
    except zlib.error as error:
        raise UserError(f"{name} is damaged in {member.filename!r}: {error}") from error
    if len(content) != member.file_size:
        raise UserError(f"{name} is damaged in {member.filename!r}: it is not as long as it says")
    return content


def accept_bundle(path: Path, results: Path, catalogue: Catalogue) -> Accepted:
    """Recompute every cell of a bundle, and only if all agree add its rows and predictions to the folder of results.

    A row that is there already stays.

    Raises:
        UserError: the bundle is not whole, or a cell is refused; each is named, and nothing was added.
    """
    files = read_bundle(path)
    about, rows = _about(files, path), _rows(files, path)
    protocol = _protocol(files, about, path)
    here = {record.key: record for record in read_results(results)} if results.is_dir() else {}
    checks = [_check(record, files, catalogue) for record in rows]
    checks += [RowCheck(record, "refused", why) for record in rows if (why := _misfit(record, protocol, here.values()))]
    _refuse(checks)
    bundle, accepted, there = hashlib.sha256(path.read_bytes()).hexdigest(), now(), list[str]()
    joined = []
    for record in rows:
        if record.key in here:
            there.append(f"{record.cell}: {_agreement(here[record.key], record)}")
            continue
        joined.append(record.model_copy(update={"submitted": Submission(bundle=bundle, accepted=accepted)}))
    for record in joined:
        if record.predictions:
            make_folder(results / FOLDER)
            content = files[f"predictions/{record.predictions}.parquet"]
            atomic_write(predictions_path(results, record.predictions), content)
        write_result(record, results)
    return Accepted(tuple(joined), tuple(there))


def _about(files: Mapping[str, bytes], path: Path) -> BundleContents:
    """Return what the bundle says of itself, after every file was found to be the one it names."""
    if ABOUT not in files:
        raise UserError(f"{str(path)!r} is no bundle: it holds no {ABOUT}")
    try:
        about = BundleContents.model_validate_json(files[ABOUT])
    except ValidationError as error:
        raise UserError(f"{str(path)!r}: {ABOUT}: {first_problem(error, BundleContents)}") from error
    wrong = [n for n, content in files.items() if n != ABOUT and about.files.get(n) != hashlib.sha256(content).hexdigest()]
    if wrong or (missing := sorted(set(about.files) - set(files))):
        told = f"{_name_of(wrong[0], files)} is not the file that {ABOUT} names" if wrong else f"{missing[0]} is missing"
        raise UserError(f"{str(path)!r} was changed or is not whole: {told}; nothing was added")
    return about


def _name_of(name: str, files: Mapping[str, bytes]) -> str:
    """Return a file of a bundle as a reader says it: predictions by the cell of the row that names them."""
    sha256 = Path(name).stem
    for other, content in files.items():
        if other.startswith("rows/") and (sha256.encode() in content or other == name):
            try:
                return f"{name} ({ResultRecord.model_validate_json(content).cell})"
            except ValidationError:
                continue
    return name


def _rows(files: Mapping[str, bytes], path: Path) -> list[ResultRecord]:
    found = []
    for name in sorted(name for name in files if name.startswith("rows/")):
        try:
            record = ResultRecord.model_validate_json(files[name])
        except ValidationError as error:
            raise UserError(f"{str(path)!r}: {name}: {first_problem(error, ResultRecord)}") from error
        if record.key != record.inputs.key or Path(name).stem != record.key:
            raise UserError(f"{str(path)!r}: {name} ({record.cell}): its inputs do not have the key it is named by")
        found.append(record)
    if not found:
        raise UserError(f"{str(path)!r} holds no row")
    return found


def _protocol(files: Mapping[str, bytes], about: BundleContents, path: Path) -> Protocol:
    try:
        protocol = Protocol.model_validate_json(files.get(PROTOCOL, b"{}"))
    except ValidationError as error:
        raise UserError(f"{str(path)!r}: {PROTOCOL}: {first_problem(error, Protocol)}") from error
    if protocol.hash != about.protocol_hash:
        raise UserError(f"{str(path)!r}: {PROTOCOL} has the hash {protocol.hash[:12]}, and the bundle says another")
    return protocol


def _check(record: ResultRecord, files: Mapping[str, bytes], catalogue: Catalogue) -> RowCheck:
    def find(sha256: str) -> Predictions:
        name = f"predictions/{sha256}.parquet"
        if name not in files:
            raise UserError("its predictions are not in the bundle")
        return decode_predictions(files[name], sha256)

    return verify_row(record, find, catalogue)


def _misfit(record: ResultRecord, protocol: Protocol, here: Any) -> str:
    """Return why the row is none of this protocol and board; empty if it is one."""
    if (record.protocol, record.protocol_revision, record.protocol_hash) != (protocol.name, protocol.revision, protocol.hash):
        return "it is of another protocol than the bundle"
    if record.inputs.interval != protocol.interval.model_dump(mode="json"):
        return "its interval is not the protocol's"
    if record.inputs.evaluation.get("name") != record.evaluation or record.inputs.task != record.task:
        return "it is labelled as something else than what was measured"
    mine = record.outcome.resamples if record.outcome else None
    for other in here:
        theirs = other.outcome.resamples if other.outcome else None
        alike = other.inputs.model_dump(include=_MEASURED) == record.inputs.model_dump(include=_MEASURED)
        if mine and theirs and alike and other.status == "scored" and mine.origin != theirs.origin:
            return f"its records, labels or patients are not those of the row {other.cell} of this board"
    return ""


_MEASURED = {"evaluation", "task", "tasks", "datasets", "interval"}


def _agreement(mine: ResultRecord, sent: ResultRecord) -> str:
    """Return how a row that is here and one that was sent agree."""
    if mine.outcome is None or sent.outcome is None:
        return "is here already"
    name = mine.outcome.primary
    one, two = mine.outcome.scores[name].value, sent.outcome.scores.get(name)
    if not differences(mine.outcome, sent.outcome):
        return "is here already, with the same numbers"
    told = f"{two.value:.4f}" if two else "none"
    return f"is here already and stays, with {name} {one:.4f} where the bundle has {told}"


def _refuse(checks: Sequence[RowCheck]) -> None:
    bad = [check for check in checks if check.state not in ("verified", "nothing scored")]
    if bad:
        more = f"; and {len(bad) - 1} more cells: {'; '.join(check.record.cell for check in bad[1:6])}" if len(bad) > 1 else ""
        raise UserError(f"refused, and nothing was added: {bad[0]}{more}")
