"""A new plugin's four files, from the templates beside this module."""

from __future__ import annotations

import importlib.util
import keyword
import re
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path
from string import Template

from melp_bench.errors import UserError

FILES = {
    "pyproject.toml": "pyproject.toml.template",
    "README.md": "README.md.template",
    "src/$module.py": "module.py.template",
    "tests/test_$module.py": "test.py.template",
}
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def new_plugin(name: str, parent: Path) -> list[Path]:
    """Write the plugin `name` into the new folder `parent`/`name`, whole or not at all, and return its files.

    Raises:
        UserError: the name cannot be a package's and a module's, or the folder is there already or cannot be written.
    """
    module = module_name(name)
    folder = parent / name
    if folder.exists():
        raise UserError(f"{str(folder)!r} exists already; choose another name, or another place with --to DIR")
    class_name = "".join(part.capitalize() for part in name.removesuffix("-encoder").split("-")) + "Encoder"
    values = {"name": name, "module": module, "class_name": class_name}
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".new-plugin-") as scratch:
            for path, template in FILES.items():
                target = Path(scratch) / "plugin" / Template(path).substitute(values)
                target.parent.mkdir(parents=True, exist_ok=True)
                text = (resources.files(__name__) / template).read_text(encoding="utf-8")
                target.write_text(Template(text).substitute(values), encoding="utf-8")
            shutil.move(Path(scratch) / "plugin", folder)
    except OSError as error:
        raise UserError(
            f"cannot write {str(folder)!r}: {error.strerror or error}; choose another place with --to DIR"
        ) from error
    return [folder / Template(path).substitute(values) for path in FILES]


def module_name(name: str) -> str:
    """Return the module that the plugin `name` lives in.

    Raises:
        UserError: the name is not lower-case words joined by hyphens, or such a module exists.
    """
    if len(name) > 40 or not NAME.fullmatch(name):
        raise UserError(f"{name!r} cannot name a plugin; wanted lower-case words joined by hyphens, as 'my-encoder'")
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names or importlib.util.find_spec(module) is not None:
        raise UserError(f"{name!r} cannot name a plugin: Python has a module {module!r} already; choose another name")
    return module
