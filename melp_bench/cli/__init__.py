"""The command line. A user's mistake is one line and exit status 2; `-v` shows the traceback. `--help` needs no torch."""

from __future__ import annotations

import errno
import os
import sys

from melp_bench.errors import UserError

CTRL_C = 130
"""What Typer makes of Ctrl-C in a command."""

_LOST_OUTPUT = "cannot write to the terminal or file that output goes to: {}; what was made is kept"
INTERRUPTED = "interrupted; what was finished is kept, and the same command goes on from there"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    given = sys.argv[1:] if arguments is None else arguments
    _open_streams()
    if given == ["--help"] and _is_wide():
        sys.stdout.write(_help())
        sys.exit(_flushed())
    verbose = "-v" in given or "--verbose" in given
    given = [a for a in given if a not in ("-v", "--verbose")]
    try:
        status = _run(given, verbose)
        status = max(status, _flushed())
    except KeyboardInterrupt:  # while a command was being looked up, or its error was being told
        status = _fail(INTERRUPTED, verbose)
    sys.exit(status)


def _open_streams() -> None:
    """Let output that is closed be nothing, and output that knows few letters show a question mark for the others."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _is_wide() -> bool:
    """Return whether help is laid out as in any terminal of 80 columns or more."""
    if "COLUMNS" in os.environ:
        return False
    try:
        return not 0 < os.get_terminal_size(sys.stdout.fileno()).columns < 80
    except (OSError, ValueError):  # no terminal: 80 columns
        return True


def _help() -> str:
    """Return the help of all commands, kept as text: the command parser takes longer to import than Python."""
    with open(os.path.join(os.path.dirname(__file__), "help.txt"), encoding="utf-8") as file:  # noqa: PTH118, PTH120, PTH123
        return file.read()


def _flushed() -> int:
    """Return 0 once all output is written, 2 where it cannot be: a disk that is full."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
    except OSError as error:
        _drop_output()
        return _fail(_LOST_OUTPUT.format(error.strerror or error), verbose=False)
    return 0


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str], verbose: bool) -> int:
    import logging

    import typer

    from melp_bench.cli.app import app

    if "--quiet" in arguments:  # wherever it stands
        arguments = ["--quiet", *(a for a in arguments if a != "--quiet")]
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(name)s: %(message)s")
    wrong_words: type[Exception] = typer.BadParameter.__mro__[2]  # the command parser's own errors, wherever Typer keeps them
    try:
        status = app(args=arguments, prog_name="melp-bench", standalone_mode=False)
    except wrong_words as error:
        return _explain(error, verbose)
    except UserError as error:
        return _fail(str(error), verbose)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(INTERRUPTED, verbose)
    except BrokenPipeError:
        _drop_output()
        return 0
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF) and error.filename is None:
            _drop_output()
            return _fail(_LOST_OUTPUT.format(error.strerror), verbose)
        if error.errno is None or error.filename is None:
            raise
        return _fail(f"{error.filename}: {error.strerror}", verbose)
    if status == CTRL_C:
        return _fail(INTERRUPTED, verbose)
    return status if isinstance(status, int) else 0


def _explain(error: Exception, verbose: bool) -> int:
    """Tell what the command parser did not understand, and where its words are listed."""
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "melp-bench")
    words = str(getattr(error, "format_message", lambda: error)())
    if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: its help is the answer
        sys.stdout.write(f"{words}\n")
        return 2
    return _fail(f"{words.rstrip('.')}; see {path} --help", verbose)


def _fail(line: str, verbose: bool) -> int:
    """Tell one line on standard error, after the traceback if it was asked for."""
    if verbose:
        import traceback

        traceback.print_exc()
    sys.stderr.write(f"melp-bench: {' '.join(line.split())}\n")
    return 2
