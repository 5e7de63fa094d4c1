"""The time of an access-log line: when its request ended, and the line moved to another time. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson

from tidegate.schemas.timestamps import epoch_unit_ms, line_epoch_ms

_KEY = re.compile(rb'"start_time"[ \t]*:[ \t]*(?:"([^"\\]*)"|([0-9][0-9.eE+]*))')
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_SECONDS_CHARACTERS = len("2026-11-24T10:00:00")


@dataclass(frozen=True)
class LineTime:
    """When a request began, as it is written and as epoch ms, and when it ended: start_time + duration."""

    start_text: str
    start_ms: int
    end_ms: int


def time_of(line: bytes) -> LineTime | None:
    """The time of a line; None where it has no valid one. An unknown duration counts as 0."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(record, dict):
        return None
    given = record.get("start_time")
    start_ms = line_epoch_ms(given)
    if start_ms is None:
        return None
    return LineTime(str(given), start_ms, start_ms + _duration_ms(record.get("duration")))


def shifted(line: bytes, time: LineTime, seconds: int) -> bytes:
    """The line with its start_time moved by `seconds`; no other byte changes, nor its fraction and time zone.

    Returns the line unchanged where the new time can't be written with four digits for the year.
    """
    place = _place(line)
    if place is None:
        return line
    begin, end = place
    moved = _moved(line[begin:end].decode("ascii", "replace"), seconds)
    return line if moved is None else line[:begin] + moved.encode() + line[end:]


def _moved(text: str, seconds: int) -> str | None:
    """A start_time as it is written, moved: in its own form, unit, fraction and zone."""
    blanks = len(text) - len(text.lstrip(" "))
    calendar = text[blanks : blanks + _SECONDS_CHARACTERS]
    if calendar[4:5] in ("-", "/"):
        date, time = calendar[:10].replace("/", "-"), calendar[11:]
        try:
            moved = (datetime.fromisoformat(f"{date}T{time}") + timedelta(seconds=seconds)).isoformat()
        except (OverflowError, ValueError):
            return None
        date, time = moved[:10].replace("-", calendar[4]), moved[11:]
        return text[:blanks] + date + calendar[10] + time + text[blanks + _SECONDS_CHARACTERS :]
    number = Decimal(text.strip(" "))
    unit_ms = epoch_unit_ms(number)
    return None if unit_ms is None else format(number + seconds * 1000 / Decimal(unit_ms), "f")


def _place(line: bytes) -> tuple[int, int] | None:
    """Where the value of the top-level key start_time stands; the last one where it is repeated, as parsers do."""
    if line.count(b'"start_time"') == 1:
        match = _KEY.search(line)
        return match.span(match.lastindex or 1) if match else None
    depth, place = 0, None
    for token in _TOKEN.finditer(line):
        if token[0] in (b"{", b"["):
            depth += 1
        elif token[0] in (b"}", b"]"):
            depth -= 1
        elif depth == 1 and (match := _KEY.match(line, token.start())):
            place = match.span(match.lastindex or 1)
    return place


def _duration_ms(value: Any) -> int:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        return 0
    return int(value)
