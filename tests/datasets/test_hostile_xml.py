"""XML files that expand, reach elsewhere or never end are refused under a reason, and hide no other record."""

from __future__ import annotations

from pathlib import Path

import pytest
from hospital_folder import STRIP, all_bytes, made
from vendor_files import EIGHT, Person, rows
from vendor_xml import aecg, aecg_series, muse, muse_waveform, sierra

from melp_bench.signal import LEADS

pytest.importorskip("ecgdatakit", reason="pip install 'melp-bench[vendor]'")
pytest.importorskip("pydicom", reason="pip install 'melp-bench[vendor]'")
pytestmark = pytest.mark.usefixtures("own_home")


NESTED = [f'<!ENTITY {inner}{f"&{outer};" * 10}">' for outer, inner in (("a", 'b "'), ("b", 'c "'), ("c", 'd "'), ("d", 'e "'))]
BOMB = '<!DOCTYPE x [<!ENTITY a "hahahahaha">' + "".join(NESTED)
BOMBS = {
    "expanding": (f"{BOMB}]>", "&e;" * 10),
    "quadratic": (f'<!DOCTYPE x [<!ENTITY a "{"A" * 100_000}">]>', "&a;" * 10_000),
    "a file": ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>', "&a;"),
    "a parameter": ('<!DOCTYPE x [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]>', ""),
    "an address": ('<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd" [<!ENTITY a SYSTEM "http://127.0.0.1:9/x">]>', "&a;"),
}


@pytest.mark.parametrize("bomb", sorted(BOMBS))
@pytest.mark.parametrize("kind", ["muse", "aecg", "sierra"])
def test_entities_that_expand_or_lie_elsewhere_are_harmless(bomb: str, kind: str, tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.mkdir()
    secret = "a1b2c3d4e5"
    (source / "secret.txt").write_text(secret)
    doctype, use = BOMBS[bomb]
    if kind == "muse":
        whole = muse(muse_waveform("Rhythm", rows(STRIP, EIGHT), EIGHT), statements=["@"], encoding="UTF-8").decode()
        whole = whole.replace('<!DOCTYPE RestingECG SYSTEM "restecg.dtd">', "")
    elif kind == "aecg":
        whole = aecg(aecg_series("RHYTHM", STRIP, LEADS), person=Person(first="@")).decode()
    else:
        whole = sierra(STRIP, person=Person(first="@")).decode()
    inner = (source / "secret.txt").as_uri()
    head, _, body = whole.partition("?>")
    (source / "a.xml").write_text(f"{head}?>{doctype.replace('file:///etc/passwd', inner)}{body.replace('@', use)}")
    (source / "b.xml").write_bytes(muse(muse_waveform("Rhythm", rows(STRIP, EIGHT), EIGHT)))
    store = made(source, tmp_path)
    assert store.record_ids.tolist() == ["b.xml"]
    assert list(store.manifest.quarantined) in (["unreadable-samples"], ["unsupported-format"])
    assert secret.encode() not in all_bytes(tmp_path / "store")


def test_a_document_of_endless_depth_or_names_ends_in_a_reason(tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.mkdir()
    for kind, root in (("m", "RestingECG"), ("h", "AnnotatedECG"), ("p", "restingecgdata")):
        (source / f"{kind}.xml").write_text(f"<{root}>" + "<a>" * 50_000 + "</a>" * 50_000 + f"</{root}>")
    (source / "b.xml").write_bytes(muse(muse_waveform("Rhythm", rows(STRIP, EIGHT), EIGHT, units="&#27;[31m" * 9)))
    (source / "c.xml").write_bytes(muse(muse_waveform("Rhythm", rows(STRIP, EIGHT), EIGHT)))
    store = made(source, tmp_path)
    assert store.record_ids.tolist() == ["c.xml"]
    assert sum(store.manifest.quarantined.values()) == 4
