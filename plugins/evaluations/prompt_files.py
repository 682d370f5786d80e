"""Prompts in a JSON file: class -> text or list of texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from melp_bench.errors import UserError
from melp_bench.registry import nearest


def read_prompts(path: Path, task: str, classes: tuple[str, ...]) -> tuple[dict[str, tuple[str, ...]], dict[str, Any]]:
    """Return the prompts of `classes` from a JSON of class -> text or list of texts, and details of them.

    A key that names the task ("synthetic/super") may hold such a JSON for that task alone; there, every name must be a
    class. A flat file may serve several tasks, as the published one does: classes of others are listed in the details.

    Raises:
        UserError: the file cannot be read, a class has no prompt, or a name is unknown.
    """
    content = _load(path)
    own = content.get(task)
    section = own if isinstance(own, dict) else content
    missing = [name for name in classes if name not in section]
    unknown = [name for name in section if name not in classes]
    if missing or (unknown and section is own):
        hints = "".join(nearest(name, unknown) for name in missing[:1])
        wrong = [f"lacks {missing}{hints}"] if missing else []
        wrong += [f"names {unknown[:20]}, not classes of the task"] if unknown else []
        raise UserError(f"{path}: for task {task!r} it {' and '.join(wrong)}; wanted class -> prompt(s) for {list(classes)}")
    prompts = {name: _texts(path, name, section[name]) for name in classes}
    return prompts, {"prompts": path.name, "prompts_of_other_classes": sorted(unknown)}


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read prompts {str(path)!r}: {error.strerror}; give a JSON file, or 'ours'") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}; wanted class -> prompt or list of prompts") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}; wanted class -> prompt or list of prompts")
    return content


def _texts(path: Path, name: str, value: object) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise UserError(f"{path}: the prompt of {name!r} is {value!r}; wanted a text or a list of texts, none empty")
    return tuple(texts)
