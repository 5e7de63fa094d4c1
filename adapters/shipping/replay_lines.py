"""The time of an access-log line: when its request ended, and the line moved to another time. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from tidegate.schemas.timestamps import line_epoch_ms

_KEY = re.compile(rb'"start_time"[ \t]*:[ \t]*"([^"\\]*)"')
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_SECONDS_CHARACTERS = len("2026-11-24T10:00:00")


@dataclass(frozen=True)
class LineTime:
    """When a request began, as text and epoch ms, and when it ended: start_time + duration."""

    start_text: str
    start_ms: int
    end_ms: int


def time_of(line: bytes) -> LineTime | None:
    """The time of a line; None where it has no valid one. An unknown duration counts as 0."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(record, dict) or not isinstance(text := record.get("start_time"), str):
        return None
    start_ms = line_epoch_ms(text)
    if start_ms is None:
        return None
    return LineTime(text, start_ms, start_ms + _duration_ms(record.get("duration")))


def shifted(line: bytes, time: LineTime, seconds: int) -> bytes:
    """The line with its start_time moved by `seconds`; no other byte changes, nor its fraction and time zone.

    Returns the line unchanged where the new time can't be written with four digits for the year.
    """
    place = _place(line, time)
    if place is None:
        return line
    try:
        moved = datetime.fromisoformat(time.start_text[:_SECONDS_CHARACTERS]) + timedelta(seconds=seconds)
    except OverflowError:
        return line
    return line[:place] + moved.isoformat().encode() + line[place + _SECONDS_CHARACTERS :]


def _place(line: bytes, time: LineTime) -> int | None:
    """Where the value of the top-level key start_time begins; the last one where it is repeated, as parsers do."""
    if line.count(b'"start_time"') == 1:
        match = _KEY.search(line)
        return match.start(1) if match and match[1] == time.start_text.encode() else None
    depth, place = 0, None
    for token in _TOKEN.finditer(line):
        if token[0] in (b"{", b"["):
            depth += 1
        elif token[0] in (b"}", b"]"):
            depth -= 1
        elif depth == 1 and (match := _KEY.match(line, token.start())):
            place = match.start(1)
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
