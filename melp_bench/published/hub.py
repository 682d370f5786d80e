"""Models of transformers, from the hub or a local folder: without its bars and reports, and whole or not at all."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from melp_bench.errors import UserError


@contextmanager
def loading(model: str, what: str = "text model") -> Iterator[str]:
    """Yield what `from_pretrained` is given for `hf:owner/name` or a local folder; what it raises becomes one line.

    Raises:
        UserError: there is no such model, or its files are damaged.
    """
    name = model.removeprefix("hf:")
    folder = Path(name).expanduser()
    try:
        with quiet():
            yield str(folder) if folder.is_dir() else name
    except UserError:
        raise
    except (OSError, ValueError, ImportError, LookupError, RuntimeError, SafetensorError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"cannot load the {what} {model!r} ({reason}); give 'hf:owner/name' or a local folder") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing bars and printing reports of what it loads and writes; downloads still show theirs."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging as told

    level, bars, downloads = told.get_verbosity(), told.is_progress_bar_enabled(), not are_progress_bars_disabled()
    told.set_verbosity(logging.ERROR)
    told.disable_progress_bar()  # type: ignore[no-untyped-call]
    if downloads:
        enable_progress_bars()
    try:
        with silent_tries():
            yield
    finally:
        told.set_verbosity(level)
        if bars:
            told.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def silent_tries() -> Iterator[None]:
    """Keep the hub's client from telling each try that failed; what came of them is an error."""
    from huggingface_hub.utils import logging as told

    level = told.get_verbosity()
    told.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        told.set_verbosity(level)


MODEL_FILES = (
    *("config.json", "*.safetensors", "*.bin", "tokenizer*", "special_tokens_map.json", "added_tokens.json"),
    *("vocab*", "merges.txt", "*.model", "spiece*"),
)
"""What `from_pretrained` may read of a text model's folder."""


def model_files(model: str, what: str = "text model", more: Sequence[str] = ()) -> dict[str, str]:
    """Return a digest of each file that a model is read from: `hf:owner/name`, fetched if need be, or a local folder.

    `more` are files that are read beside those of a text model.

    Raises:
        UserError: there is no such model.
    """
    with loading(model, what) as where:
        folder, names = Path(where), (*MODEL_FILES, *more)
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(where, allow_patterns=list(names)))
        found = {path for pattern in names for path in folder.glob(pattern) if path.is_file()}
        if any(path.suffix == ".safetensors" for path in found):
            found = {path for path in found if path.suffix != ".bin"}  # which are not read then
        return {path.name: _content(path) for path in sorted(found)}


def _content(path: Path) -> str:
    """Return what tells a file's content: for one of the hub's cache the name of the blob it links to, else its SHA-256."""
    if path.is_symlink() and (blob := path.resolve()).parent.name == "blobs":
        return blob.name
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def longest_text(body: Any) -> int | None:
    """Return how many tokens a text model can number; None for any number."""
    stated: int | None = getattr(body.config, "max_position_embeddings", None)
    return stated if stated is None else stated - first_position(body)


def first_position(body: Any) -> int:
    """Return the number of a text's first token: 0, but in RoBERTa and its kind the one after the padding's id."""
    table = getattr(getattr(body.base_model, "embeddings", None), "position_embeddings", None)
    padding: int | None = getattr(table, "padding_idx", None)
    return 0 if padding is None else padding + 1


def missing_weights(model: str, body: Any, report: Mapping[str, Any], what: str = "text model") -> list[str]:
    """Return which weights of a head were not in the file and so are drawn at random; `report` is transformers' loading info.

    Raises:
        UserError: the body itself lacks weights.
    """
    missing = sorted(report["missing_keys"])
    prefix = f"{body.base_model_prefix}."
    inner = [key for key in missing if key.startswith(prefix) or body.base_model is body]
    if inner:
        more = f" and {len(inner) - 1} more" if inner[1:] else ""
        raise UserError(f"the {what} {model!r} is not whole: it lacks {inner[0]!r}{more}; take one that has its weights")
    return missing
