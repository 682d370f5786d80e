"""How a family's published state dict relates to our module: a value, without torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]
Pairs = tuple[tuple[str, str], ...]


def no_options(shapes: Shapes) -> dict[str, Any]:
    """Return no options: the family has one size."""
    return {}


@dataclass(frozen=True)
class Family:
    """What must be known to load a published checkpoint into the component that an entry builds, and to write it back.

    Keys are written as templates: `{}` stands for a number, `*` for any rest. A key that no template of `renames` fits
    keeps its name. Both spellings of weight-norm (`weight_g`, `parametrizations.weight.original0`) are read;
    write the new one in templates.

    Attributes:
        name: as given to `--family`; by habit the entry's name.
        anchor: a published key, without prefix, that every file of the family has; the prefix is what stands before it.
        parts: under which names a file nests several state dicts beside each other; read as one, with `NAME.` before the keys.
        prefixes: what may stand before the published keys; the first is used to export weights that were never imported.
        renames: published template -> our template, both without prefix; the first that fits wins.
        unused: published template -> why our module has no such key. The tensors are kept aside, so that an export is whole.
        tied: published template -> the published key whose tensor it repeats.
        options: the options of `build`, read off the shapes of the published keys (without prefix).
        elsewhere: why the keys outside the prefix are not used; empty where there should be none.
        keeps_elsewhere: whether their tensors are kept aside, too; for a family in which they are few.
        fresh: our template -> why no published key fills it; such tensors stay as they were drawn.
        files: where the published files are, for a reader.
        text: the text tower beside the encoder in the same file, if there is one.
    """

    name: str
    anchor: str
    parts: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ("",)
    renames: Pairs = ()
    unused: Pairs = ()
    tied: Pairs = ()
    options: Callable[[Shapes], dict[str, Any]] = no_options
    elsewhere: str = ""
    keeps_elsewhere: bool = False
    fresh: Pairs = ()
    files: str = ""
    text: TextTower | None = None

    def ours(self, key: str) -> str:
        """Return our name of a published key."""
        return _first(self.renames, key) or key

    def published(self, key: str) -> str:
        """Return the published name of our key."""
        return _first(tuple((ours, published) for published, ours in self.renames), key) or key

    def unused_because(self, key: str) -> str | None:
        """Return why a published key is not used, or None."""
        return next((reason for template, reason in self.unused if _pattern(template).fullmatch(key)), None)

    def fresh_because(self, key: str) -> str | None:
        """Return why no published key fills ours, or None."""
        return next((reason for template, reason in self.fresh if _pattern(template).fullmatch(key)), None)

    def tied_to(self, key: str) -> str | None:
        """Return the published key whose tensor this one repeats, or None."""
        return _first(self.tied, key)


@dataclass(frozen=True)
class TextTower:
    """The reports' half of a published model: a text encoder that some plugin offers, and the heads beside it.

    Attributes:
        component: name of the text encoder's entry; its option `model` says whose configuration and tokenizer to take.
        options: of that entry, as the authors used it.
        model: what its authors took them from, as `--text` is given it.
        heads: name of the heads' entry, which project reports into the encoder's own space.
        head_options: of that entry.
        keys: published keys -> those of our whole model (`text_encoder.*`, `heads.*`).
    """

    component: str
    options: Mapping[str, Any]
    model: str
    heads: str
    head_options: Mapping[str, Any]
    keys: Family


def count_blocks(shapes: Shapes, template: str) -> int:
    """Return how many numbers `{}` takes in the keys that fit `template`: the depth of a stack."""
    pattern = _pattern(template)
    return len({match.group(1) for key in shapes if (match := pattern.fullmatch(key))})


def by_reason(unused: Mapping[str, str]) -> list[str]:
    """Return one line per reason for keys that are not used: the first of them, how many more, and the reason."""
    keys: dict[str, list[str]] = {}
    for key, reason in unused.items():
        keys.setdefault(reason, []).append(key)
    return [f"{of[0]!r}{f' and {len(of) - 1} more' if of[1:] else ''}: {reason}" for reason, of in keys.items()]


def _first(pairs: Pairs, key: str) -> str | None:
    for source, target in pairs:
        if match := _pattern(source).fullmatch(key):
            return _filled(target, match.groups())
    return None


def _filled(template: str, parts: Sequence[str]) -> str:
    remaining = iter(parts)
    return re.sub(r"\{\}|\*", lambda _: next(remaining), template)


@lru_cache(maxsize=4096)
def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\}|\*)", template)
    return re.compile("".join({"{}": r"(\d+)", "*": "(.*)"}.get(part, re.escape(part)) for part in parts))
