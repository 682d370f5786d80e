"""`melp-bench plugin new`: a folder of four files that installs and passes `melp-bench check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case words joined by hyphens, as my-encoder.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where the folder NAME is made.")] = Path(),
) -> None:
    """Make a plugin package with one small ECG encoder: four files, to be read and changed."""
    from rich.console import Console

    from melp_bench.scaffold import new_plugin

    console = Console(soft_wrap=True, highlight=False)
    for path in new_plugin(name, to):
        console.print(f"wrote  {path}", markup=False)
    console.print(f"next   pip install -e {to / name} && melp-bench check {name}", markup=False)


app = typer.Typer(help="Plugins: make one.", no_args_is_help=True)
app.command("new")(new)


@app.callback()
def plugin() -> None:
    """Make a plugin of your own."""
