"""KEY=VALUE on the command line is read in one way, whatever the flag."""

from __future__ import annotations

import pytest

from melp_bench.cli.options import key_values, settings
from melp_bench.errors import UserError


def test_the_first_equals_sign_parts_key_and_value() -> None:
    assert key_values(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    assert key_values(None) == {}
    assert settings(["encoder.layers=6"]) == {"encoder.layers": "6"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["layers"], "--option 'layers' is not KEY=VALUE"),
        (["=1"], "--option '=1' is not KEY=VALUE"),
        (["a=1", "a=2"], "--option 'a' is given twice: '1' and '2'"),
    ],
)
def test_what_is_no_pair_or_comes_twice_is_refused(given: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        key_values(given)
    assert str(error.value) == said
    with pytest.raises(UserError, match=r"--set 'x' is not PART.OPTION=VALUE, as encoder.layers=6"):
        settings(["x"])
