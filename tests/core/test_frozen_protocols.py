"""A shipped protocol is frozen: its content has one hash per revision, for good."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from melp_bench.protocol import load_protocol, protocol_names

HASHES: dict[str, dict[str, str]] = tomllib.loads(Path(__file__).with_name("protocol_hashes.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", protocol_names())
def test_the_content_of_a_revision_never_changes(name: str) -> None:
    protocol = load_protocol(name)
    known = HASHES.get(name, {})
    wanted = f'add to protocol_hashes.toml, under [{name}]: {protocol.revision} = "{protocol.hash}"'
    assert str(protocol.revision) in known, wanted
    assert protocol.hash == known[str(protocol.revision)], f"raise the revision of {name!r}, and {wanted}"
    assert protocol.revision == max(map(int, known)), f"{name!r} went back to an older revision"


def test_no_two_revisions_of_any_protocol_have_one_content() -> None:
    found = [value for revisions in HASHES.values() for value in revisions.values()]
    assert len(set(found)) == len(found)
    assert {len(value) for value in found} == {64}
