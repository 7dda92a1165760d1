"""Dates and times as people write them, to seconds. N: rows."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import mktime_tz, parsedate_tz

import numpy as np
import polars as pl

from llmclf.config import DataError
from llmclf.data.table import shown
from llmclf.invisible import quoted

FORMS = "2024-03-31, 2024-03-31T14:05:00Z, 31.03.2024, 3/31/2024 2:05 PM, 31 Mar 2024, Unix seconds"
_UNITS = {9: 1.0, 10: 1.0, 12: 1e-3, 13: 1e-3, 15: 1e-6, 16: 1e-6, 18: 1e-9, 19: 1e-9}
"""Digits of a Unix time (from 1973 to 2286) -> seconds of its unit."""
NUMBER = re.compile(r"(\d+)(\.\d*)?")
_PARTS = re.compile(r"(\d{1,4})([./-])(\d{1,2})\2(\d{2,4})(?:[T ,]+(.+))?")
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d))?(\.\d+)?\s*([AaPp])?\.?[Mm]?\.?\s*(\S+)?")
_SPELT = re.compile(r"[A-Za-z]{3,}[A-Za-z]*\.?,?\s|\d[ -][A-Za-z]{3,}")


def moments(cells: pl.Series, column: str, where: list[str]) -> np.ndarray:
    """Seconds since 1970 in UTC, float64 (N,); a time without a zone is taken for UTC.

    ``where``: names of the rows, for messages. Raises DataError for a cell that is no time, and
    where day and month cannot be told apart.
    """
    unique = cells.unique(maintain_order=True).to_list()
    day_first = _day_first([text for text in unique if text])
    found = {text: None if text is None else moment(text.strip(), day_first) for text in unique}
    bad = [i for i, text in enumerate(cells) if found[text] is None]
    if not bad:
        return np.array([found[text] for text in cells], np.float64)
    more = f" and {len(bad) - 1:,} more rows" if len(bad) > 1 else ""
    value = cells[bad[0]]
    if value and day_first is None and moment(value.strip(), True) is not None:
        raise DataError(
            f"{where[bad[0]]}{more}: column {quoted(column)} holds {shown(value)}, and the rows do "
            "not tell whether the day or the month comes first. Write times as 2024-03-31."
        )
    what = "no time" if not (value or "").strip() else f"{shown(value)}, which is no time"
    raise DataError(
        f"{where[bad[0]]}{more}: column {quoted(column)} holds {what}. Allowed are {FORMS}. Mend "
        "or remove the rows, or leave --data.time out."
    )


def moment(text: str, day_first: bool | None = None) -> float | None:
    """Seconds since 1970 in UTC of one time; None where it is none.

    ``day_first``: of 3/4/2024, whether the day comes first; None: not known.
    """
    if number := NUMBER.fullmatch(text):
        return _of_number(number[1], number[2] or "")
    try:
        if parts := _PARTS.fullmatch(text):
            return _of_parts(parts, day_first)
        if _SPELT.search(text):
            return _of_words(text)
        text += "-01" * bool(re.fullmatch(r"\d{4}-\d\d", text))
        return _seconds(datetime.fromisoformat(re.sub(r"\s*(UTC|GMT)$", "+00:00", text)))
    except (ValueError, OverflowError):
        return None


def _of_number(whole: str, fraction: str) -> float | None:
    """Unix time, 20240331, or a year."""
    if len(whole) in _UNITS:
        return float(whole + fraction) * _UNITS[len(whole)]
    form = {4: "%Y", 8: "%Y%m%d"}.get(len(whole))
    if form is None or fraction or not "1900" <= whole[:4] < "2200":
        return None
    try:
        return _seconds(datetime.strptime(whole, form).replace(tzinfo=UTC))
    except ValueError:
        return None


def _of_parts(parts: re.Match[str], day_first: bool | None) -> float | None:
    """Three numbers, and perhaps a clock: 2024/3/31, 31.3.2024, 3/31/24 2:05 PM."""
    first, mark, second, third, clock = parts.groups()
    if len(first) == 4:
        year, month, day = first, second, third
    else:
        day_first = True if mark == "." and day_first is None else day_first
        if day_first is None or len(third) == 3:
            return None
        day, month = (first, second) if day_first else (second, first)
        year = third
    number = int(year) + (0 if len(year) > 2 else 1900 if int(year) > 68 else 2000)
    return _seconds(datetime(number, int(month), int(day), tzinfo=UTC), clock)


def _of_words(text: str) -> float | None:
    """A month by its name: 31 Mar 2024, March 31, 2024 2:05 PM, Mon Apr 06 22:19:45 PDT 2009."""
    for form in ("%d %b %Y", "%d %B %Y", "%b %d %Y", "%B %d %Y"):
        plain = re.sub(r"^[A-Za-z]{3,9}(day)?,\s+", "", text)
        date = re.match(r"(\S+)[ -]+(\S+?)[ ,-]+(\d{4})\b[ ,]*(.*)$", plain)
        if date is None:
            break
        try:
            day = datetime.strptime(" ".join(date.groups()[:3]), form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return _seconds(day, date[4])
    # The zone stands before the year in what Twitter and asctime write; RFC 5322 has it last.
    turned = re.sub(r"(\d\d:\d\d:\d\d) (\S+) (\d{4})$", r"\3 \1 \2", text)
    turned = re.sub(r"^([A-Z][a-z]{2}) ([A-Z][a-z]{2}) +(\d+) ", r"\1, \3 \2 ", turned)
    found = parsedate_tz(turned)
    return None if found is None else float(mktime_tz(found))


def _seconds(day: datetime, clock: str | None = None) -> float:
    if clock:
        parts = _CLOCK.fullmatch(clock.strip())
        if parts is None:
            raise ValueError(clock)
        hour, minute, second, fraction, half, zone = parts.groups()
        hours = int(hour) % 12 + 12 * (half in "Pp") if half else int(hour)
        written = f"{day:%Y-%m-%d}T{hours:02}:{minute}:{second or '00'}"
        zone = "+00:00" if zone in (None, "UTC", "GMT", "Z") else zone
        return _seconds(datetime.fromisoformat(written + zone)) + float(fraction or 0)
    return (day if day.tzinfo else day.replace(tzinfo=UTC)).timestamp()


def _day_first(texts: list[str]) -> bool | None:
    """Whether the day comes first in times such as 31/3/2024; None where no cell tells."""
    parts = [_PARTS.fullmatch(text.strip()) for text in texts]
    shorts = [(int(p[1]), int(p[3])) for p in parts if p and len(p[1]) < 4]
    first, second = (max((s[i] for s in shorts), default=0) for i in (0, 1))
    return None if (first > 12) == (second > 12) else first > 12


def day(seconds: float) -> str:
    """A moment for a message: 2024-03-31, with the time where it has one."""
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{at:%Y-%m-%d}" if seconds % 86400 == 0 else f"{at:%Y-%m-%d %H:%M:%S}"
