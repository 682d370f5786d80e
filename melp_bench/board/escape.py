"""Text from data made harmless in each place it is shown: names are untrusted everywhere."""

from __future__ import annotations

import re
import unicodedata

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "→": r"$\rightarrow$",
    "≈": r"$\approx$",
    "−": r"$-$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "μ": r"$\mu$",
}
_TYPESET = re.compile(r"[ -\u017f–—‘’“”…†‡•]")  # what pdflatex prints without a package


def plain(text: object) -> str:
    """Return the text on one line, without control, format (bidirectional) and surrogate characters."""
    one_line = " ".join(str(text).split())
    if one_line.isprintable():  # which nothing of these categories is
        return one_line
    return "".join(c for c in one_line if not unicodedata.category(c).startswith("C"))


def markdown(text: object) -> str:
    """Return the text so that Markdown, inside a table too, shows it letter by letter."""
    escaped = re.sub(r"([\\`*_{}\[\]#|!~])", r"\\\1", plain(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def latex(text: object) -> str:
    """Return the text so that LaTeX prints it letter by letter; a letter that it may have no font for is told by its number."""
    return "".join(_LATEX.get(c) or (c if _TYPESET.match(c) else f"[U+{ord(c):04X}]") for c in plain(text))


def csv_text(text: object) -> str:
    """Return the text so that no spreadsheet takes it for a formula: a dangerous first letter gets an apostrophe."""
    cell = plain(text)
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell
