"""Names find components, and options are what the signature says."""

from __future__ import annotations

from typing import Any

import pytest

from melp_bench.errors import UnknownName, UserError
from melp_bench.registry import Entry, Registry


def build(
    *, depth: int = 3, rate: float = 0.5, causal: bool = True, name: str = "a", sizes: tuple[int, ...] = (1, 2)
) -> object:
    return (depth, rate, causal, name, sizes)


def build_loose(*, width: int, limit: int | None = None, tag: str | None = None) -> object:
    return (width, limit, tag)


ENTRY: Entry[Any] = Entry("thing", build, "a thing")
LOOSE: Entry[Any] = Entry("loose", build_loose, "a loose thing")


@pytest.mark.parametrize(
    ("license_", "told"),
    [
        ("CC BY-NC 4.0", "CC BY-NC 4.0 (no commercial use)"),
        ("CC-BY-NC-SA-4.0", "CC-BY-NC-SA-4.0 (no commercial use)"),
        ("CC BY 4.0", "CC BY 4.0"),
        ("MIT", "MIT"),
        ("NCSA", "NCSA"),
        ("", ""),
    ],
)
def test_a_licence_without_commercial_use_is_marked(license_: str, told: str) -> None:
    assert Entry("thing", build, "a thing", license=license_).license_note == told


@pytest.mark.parametrize(
    ("typed", "name", "value"),
    [
        ("7", "depth", 7),
        ("0.25", "rate", 0.25),
        (2, "rate", 2.0),
        ("no", "causal", False),
        ("True", "causal", True),
        ("7", "name", "7"),
        ("4, 5,6", "sizes", (4, 5, 6)),
        ([4, 5], "sizes", (4, 5)),
    ],
)
def test_an_option_takes_the_type_of_its_default(typed: object, name: str, value: object) -> None:
    resolved = ENTRY.resolve({name: typed})
    assert resolved[name] == value
    assert type(resolved[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("depth", "3.5"),
        ("depth", True),
        ("depth", 3.0),
        ("rate", "nan"),
        ("rate", "fast"),
        ("causal", "maybe"),
        ("causal", 2),
        ("name", 3),
        ("sizes", "1,x"),
        ("rate", float("inf")),
    ],
)
def test_an_option_of_another_type_is_refused_with_its_name_value_and_default(name: str, value: object) -> None:
    with pytest.raises(UserError) as caught:
        ENTRY.resolve({name: value})
    assert repr(name) in str(caught.value)
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_are_completed_with_defaults_in_the_order_of_the_signature() -> None:
    resolved = ENTRY.resolve({"rate": 2})
    assert resolved == {"depth": 3, "rate": 2.0, "causal": True, "name": "a", "sizes": (1, 2)}
    assert list(resolved) == list(ENTRY.options())


def test_where_the_default_is_none_or_missing_text_takes_the_annotated_type() -> None:
    assert LOOSE.resolve({"width": "8", "limit": "9", "tag": "10"}) == {"width": 8, "limit": 9, "tag": "10"}
    assert LOOSE.resolve({"width": 8, "limit": None}) == {"width": 8, "limit": None, "tag": None}
    with pytest.raises(UserError, match=r"'limit'.*'many'.*int"):
        LOOSE.resolve({"width": 8, "limit": "many"})


def test_a_missing_option_without_default_is_asked_for() -> None:
    with pytest.raises(UserError, match="needs the option 'width'"):
        LOOSE.resolve({})


def test_an_unknown_option_suggests_the_nearest_one() -> None:
    with pytest.raises(UserError, match="no option 'dept'; did you mean 'depth'"):
        ENTRY.resolve({"dept": 3})


def test_an_unknown_name_suggests_the_nearest_one_and_lists_all() -> None:
    registry: Registry[Any] = Registry("thing")
    registry.add(ENTRY)
    registry.add(LOOSE)
    with pytest.raises(UnknownName, match=r"no thing named 'thin'; did you mean 'thing'\? Known: loose, thing"):
        registry["thin"]
    with pytest.raises(LookupError, match=r"no thing named 'zzzzzz'\. Known"):
        registry["zzzzzz"]


def test_entries_come_sorted_by_name_and_a_removed_one_is_gone() -> None:
    registry: Registry[Any] = Registry("thing")
    registry.add(ENTRY)
    registry.add(LOOSE)
    assert [e.name for e in registry] == ["loose", "thing"]
    registry.remove("loose")
    assert "loose" not in registry
    assert len(registry) == 1


def test_an_option_that_takes_text_or_a_table_is_given_either() -> None:
    def build(*, by: str | dict[str, int] | None = None, name: str | None = None) -> object:
        return by, name

    entry = Entry("either", build, "s", "https://example.org", "MIT")
    assert entry.resolve({"by": {"a": 1}})["by"] == {"a": 1}
    assert entry.resolve({"by": "word", "name": "n"}) == {"by": "word", "name": "n"}
    with pytest.raises(UserError, match="option 'name' of 'either' is 3; wanted str"):
        entry.resolve({"name": 3})
