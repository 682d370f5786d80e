"""The list of what a source has, fetched once: what is published under a version does not change."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from melp_bench.errors import UserError
from melp_bench.fetch.connection import session
from melp_bench.fetch.listing import STATE, SUMS, Listed, read_list
from melp_bench.fetch.transfer import Patience, TransferProblem, bring
from melp_bench.fetch.verified_files import VerifiedFiles
from melp_bench.home import atomic_write

if TYPE_CHECKING:
    from melp_bench.components import Download

_LIST_TRIES = 3  # a list that does not come is no reason to let the user wait
_MOST_ARTICLES = 100


def fetch_list(download: Download, verified_files: VerifiedFiles, patience: Patience) -> Path:
    """Return the source's list, fetched if it is not here.

    Raises:
        UserError: there is none, or it is not one.
    """
    name = SUMS if download.listing == "sha256sums" else f"{STATE}/record.json"
    path, item = verified_files.root / name, Listed(name, "list", download.url)
    if verified_files.knows(item):
        return path

    def fault(fetched: Path) -> str:
        if download.listing != "figshare" or not _articles(fetched):
            for _ in read_list(fetched, download.listing):
                pass
        return ""

    _bring(download.address(SUMS) if download.listing == "sha256sums" else download.url, path, fault, verified_files, patience)
    if download.listing == "figshare" and (articles := _articles(path)):
        _join(download.url, articles, path, verified_files, patience)
    verified_files.add(item)
    return path


def _bring(url: str, path: Path, fault: Callable[[Path], str], verified_files: VerifiedFiles, patience: Patience) -> None:
    part = verified_files.state / "list.part"
    part.unlink(missing_ok=True)
    try:
        with session(patience.silence_s) as connection:
            bring(
                connection,
                url,
                part,
                path,
                fault=fault,
                patience=replace(patience, tries=min(patience.tries, _LIST_TRIES)),
                stop=threading.Event(),
                tell=lambda size, new: None,
            )
    except TransferProblem as problem:
        raise UserError(f"cannot get the list of files {url}: {problem}") from problem


def _articles(path: Path) -> list[int]:
    """Return the articles of a collection as figshare's API lists them; none if this is no such list."""
    try:
        listed = json.loads(path.read_bytes())
        return [int(article["id"]) for article in listed] if isinstance(listed, list) else []
    except (ValueError, KeyError, TypeError):
        return []


def _join(url: str, articles: list[int], path: Path, verified_files: VerifiedFiles, patience: Patience) -> None:
    """Write the files of all articles of a collection as if they were one article's.

    Raises:
        UserError: an article cannot be had, or there are more than a page has.
    """
    if len(articles) >= _MOST_ARTICLES:
        raise UserError(f"{url} lists {len(articles)} articles, as many as a page has; there may be more")
    files = []
    for article in articles:
        one = verified_files.state / f"article-{article}.json"

        def fault(fetched: Path) -> str:
            for _ in read_list(fetched, "figshare"):
                pass
            return ""

        _bring(f"{url.partition('/collections/')[0]}/articles/{article}", one, fault, verified_files, patience)
        files += json.loads(one.read_bytes())["files"]
        one.unlink()
    atomic_write(path, json.dumps({"files": files}))
