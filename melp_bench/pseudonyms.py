"""Names for people that tell nobody who they are: keyed digests, whose key never leaves this user's folder.

A plain or publicly salted digest of a hospital's number is undone by trying all numbers. The key is therefore secret: 256
random bits in `$MELP_BENCH_HOME/pseudonym-key`, made at first use and readable by the user alone. It is in no store, row or
board, so that these can be given away. One key for all stores of a home: a person has one pseudonym in all of them, and one
fold. Another home gives others, unless the file is copied there; without the file nobody can link the pseudonyms again.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from pathlib import Path

from melp_bench.errors import UserError
from melp_bench.home import home, make_folder, unwritable

KEY_FILE = "pseudonym-key"
_KEY_CHARACTERS = 64
_DIGITS = 20
_PATIENCE_SECONDS = 5.0


def pseudonym(identity: str) -> str:
    """Return the pseudonym of a person or file: 20 hexadecimal digits, the same for the same text in this home.

    Raises:
        UserError: the key cannot be read or made.
    """
    return hmac.new(_key(home()), identity.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:_DIGITS]


def _key(folder: Path) -> bytes:
    """Return the key in `folder`, made if it is not there."""
    path = make_folder(folder) / KEY_FILE
    try:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(_KEY_CHARACTERS // 2))
                file.flush()
                os.fsync(file.fileno())
        until = time.monotonic() + _PATIENCE_SECONDS
        text = path.read_text(encoding="ascii")
        while len(text) < _KEY_CHARACTERS and time.monotonic() < until:  # another process is just writing it
            time.sleep(0.01)
            text = path.read_text(encoding="ascii")
    except OSError as error:
        raise unwritable(path, error) from error
    if len(text) != _KEY_CHARACTERS:
        raise UserError(f"{str(path)!r} is not the key it was; put it back from a copy, or delete it and prepare stores again")
    return text.encode()
