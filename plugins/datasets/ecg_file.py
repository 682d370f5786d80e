"""What a file of an ECG cart or archive says: the rhythm strip, and of the patient only what may be kept.

Names, dates of birth and numbers of patients are in `Identity` alone, which no record gets: a patient becomes a pseudonym
(`melp_bench.pseudonyms`), and the words of an identity are blotted out of reports.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np

import melp_bench as mb
from melp_bench.pseudonyms import pseudonym
from melp_bench.records import stated
from melp_plugins.datasets.cells import OLDEST_YEARS

_SIGNED = re.compile(
    r"(?:(?:electronically|digitally)\s+)?(?:confirmed|unconfirmed|reviewed|overread|over-read|signed|referred|ordered|edited|"
    r"validated|verified|interpreted|dictated|acquired|read|technician|operator|physician|cardiologist|attending|referring|"
    r"fellow|md|dr)\b\s*(?:by\b|:|md\b|\.)",
    re.IGNORECASE,
)
"""How lines begin that name who saw a recording."""
_NOBODY = re.compile(
    r"x+|0+|[fm]|anon(ym\w*)?|de|ids?|(de)?identified|removed|redacted|withheld|hidden|patient|subject|person|name|test|demo|no|not"
)
"""Words of fields that name nobody: where nothing was typed, where a tool took the name away, EDF's "X F X X"."""
_BLOT = "___"
_FEWEST_LETTERS, _FEWEST_DIGITS = 2, 3
_LEADS_TO_TELL, _CALIBRATION_SECONDS = 6, 0.2


@dataclass(frozen=True)
class Identity:
    """Who a file is of and who worked on it; nothing of it is kept as it is.

    Attributes:
        number: the patient's; "" where none is stated.
        names: of the patient.
        others: names of physicians and technicians, accession numbers.
    """

    number: str = ""
    names: tuple[str, ...] = ()
    born: date | None = None
    others: tuple[str, ...] = ()

    @property
    def patient_id(self) -> str | None:
        """The patient's pseudonym, by number, or by name and date of birth where there is no number; None without any."""
        if number := who(self.number):
            return pseudonym(f"patient {number.casefold()}")
        name = " ".join(who(" ".join(filter(stated, self.names))).casefold().split())
        return pseudonym(f"person {name} {self.born or ''}") if name else None

    def words(self, *, patient_only: bool = False) -> set[str]:
        """Return the words, in lower case, that would tell who the patient is or who worked on the recording."""
        texts = (self.number, *self.names, *(() if patient_only else self.others))
        found = set()
        for text in texts:
            whole = who(text).casefold()
            found |= {part for part in (whole, *re.split(r"[\W_]+", whole)) if _is_telling(part)}
        return found | set(_spelt(self.born))

    def is_told_by(self, text: str) -> bool:
        """Return True if a text such as a file's name holds the patient's number, a name or the date of birth."""
        plain = text.casefold()
        return any(_stands_in(word, plain) for word in self.words(patient_only=True))

    def blotted(self, line: str) -> str:
        """Return a line of a report without words of this identity; "" where it tells who saw the recording."""
        if _SIGNED.match(line):
            return ""
        for word in sorted(self.words(), key=len, reverse=True):
            line = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", _BLOT, line, flags=re.IGNORECASE)
        return line


def who(text: str) -> str:
    """Return a number or name without blanks around it; "" where it names nobody ("ANONYMOUS^PATIENT", "X X X X", "0000")."""
    whole = stated(text)
    words = re.split(r"[\W_]+", whole.casefold())
    return whole if any(stated(word) and not _NOBODY.fullmatch(word) for word in words) else ""


def _stands_in(word: str, text: str) -> bool:
    """Return True if a word stands in a text, letters not within a longer word, digits not within a longer number."""
    beside = r"[^\W_]" if word.isalpha() else r"\d"
    return re.search(rf"(?<!{beside}){re.escape(word)}(?!{beside})", text) is not None


def _is_telling(word: str) -> bool:
    return len(word) >= (_FEWEST_LETTERS if word.isalpha() else _FEWEST_DIGITS)


def _spelt(born: date | None) -> Iterator[str]:
    """Yield the usual spellings of a date of birth, and its year alone in none."""
    if born is None:
        return
    for sign in ("", "-", "/", ".", "_"):
        for form in (f"%Y{sign}%m{sign}%d", f"%d{sign}%m{sign}%Y", f"%m{sign}%d{sign}%Y"):
            yield born.strftime(form)
    months = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
    yield from (f"{born:%d}{sign}{months[born.month - 1]}{sign}{born:%Y}" for sign in ("-", " ", ""))


@dataclass(frozen=True)
class ECGFile:
    """A file that was read.

    Attributes:
        age: in years; above 89 it is 90.
        lines: the report's, as they are in the file; `report_lines` are those that may be kept.
        measurements: what the cart measured, in ms, degrees and per minute.
    """

    signal: mb.Signal
    identity: Identity = Identity()
    age: float | None = None
    sex: str | None = None
    lines: Sequence[str] = ()
    measurements: Mapping[str, float] = field(default_factory=dict)

    @property
    def report_lines(self) -> list[str]:
        """Lines of the report without a word of who the patient or who worked on the recording is."""
        lines = (self.identity.blotted(" ".join(line.split())) for line in self.lines)
        return [line for line in lines if stated(line)]


def kept_age(years: float | None) -> float | None:
    """Return an age that is believed, of which 90 hides all above 89."""
    if years is None or not 0 <= years <= 130:
        return None
    return min(float(years), OLDEST_YEARS)


def age_at(born: date | None, taken: date | None) -> float | None:
    """Return whole years from birth to recording; None where a date is not stated."""
    if born is None or taken is None or taken < born:
        return None
    return float(taken.year - born.year - ((taken.month, taken.day) < (born.month, born.day)))


def report_text(lines: Iterable[str]) -> str:
    """Return the lines of a report as one text, a full stop behind each."""
    return " ".join(line if line.endswith((".", "!", "?")) else f"{line}." for line in lines)


def exact_step(step: float, zero: float) -> float:
    """Return the step of which all values `n * step + zero` are multiples; NaN where zero lies between two."""
    steps = zero / step
    return abs(step) if abs(steps - round(steps)) < 1e-6 * max(1.0, abs(steps)) else math.nan


def without_calibration(signal: mb.Signal) -> mb.Signal:
    """Return a signal without a calibration pulse that a cart stored before or behind the heart's.

    It is where all leads hold one value, which is not always zero, for 0.2 s or more: I, II and III = II - I cannot, nor can a
    chest lead and these.
    """
    same = np.ptp(signal.millivolts, axis=0) == 0  # (T,), False where a sample is missing
    (differs,) = np.nonzero(~same)
    if len(signal.leads) < _LEADS_TO_TELL or not len(differs):
        return signal
    begin, end = int(differs[0]), int(differs[-1]) + 1
    shortest = _CALIBRATION_SECONDS * signal.rate_hz
    begin = begin if begin >= shortest and signal.millivolts[:, :begin].any() else 0
    end = end if same.size - end >= shortest and signal.millivolts[:, end:].any() else same.size
    if (begin, end) == (0, same.size):
        return signal
    return replace(signal, millivolts=signal.millivolts[:, begin:end], repairs=(*signal.repairs, "calibration-cut"))


def unknown_leads(names: Sequence[str], read: Collection[str]) -> list[str]:
    """Return a flag for channels that were left out where fewer than twelve leads were `read`: one may be among them."""
    left = [name for name in names if name not in read]
    return [f"unknown-leads: {', '.join(repr(name[:20]) for name in left[:16])}"] if left and len(read) < len(mb.LEADS) else []
