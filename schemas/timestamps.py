"""Timestamps: written as UTC, ISO 8601 with milliseconds and `Z`; read in the three forms of the inputs.

- rows and samples: ISO 8601 with a time zone (`from_text`);
- access-log lines: RFC 3339 with any precision and offset, or an epoch number (`line_epoch_ms`);
  jobs/java/StartTime.java reads the same forms in the Flink job, and tests/support/times.py holds both to one table;
- records of services' logs: what loggers write, UTC where no zone is given (`from_log_text`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Context, Decimal
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, WithJsonSchema

_LINE_FORM = re.compile(
    r"(\d{4})([-/])(\d\d)\2(\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:([Zz])|([+-]\d\d):?([0-5]\d))", re.ASCII
)
_EPOCH_FORM = re.compile(r"(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE]\+?\d{1,2})?", re.ASCII)
_MAX_EPOCH_CHARACTERS = 64
_EXACT = Context(prec=200, rounding=ROUND_DOWN)
_EPOCH_UNITS = ((11, 1000), (14, 1), (17, Decimal("1e-3")), (20, Decimal("1e-6")))
"""Powers of ten below which an epoch number is in s, ms, us, ns; and the milliseconds of the unit.

So each unit reads moments from 10^8 s (March 1973) on, and none of them is a moment before 2201 in another unit.
"""
_MIN_EPOCH = Decimal(10) ** 8
_LOG_FORM = re.compile(
    r"[\[\s\"(]{0,3}(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?"
    r"\s?(Z|UTC|[+-]\d\d:?\d\d)?(?![\d:])"
)
_LOG_FORM_CHARACTERS = 40


def to_text(moment: datetime) -> str:
    """`2026-11-24T10:00:00.123Z`; finer parts than a millisecond are cut off.

    Raises ValueError for a moment without a time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone; give it one (UTC)")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def from_epoch_ms(epoch_ms: int) -> datetime:
    """The UTC moment of a number of milliseconds since the epoch."""
    seconds, ms = divmod(epoch_ms, 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=ms * 1000)


def to_epoch_ms(moment: datetime) -> int:
    """Whole milliseconds since the epoch."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


def from_text(text: str) -> datetime:
    """The moment of an ISO 8601 text with a time zone. Raises ValueError for any other text."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("needs a time zone, such as a trailing Z")
    return moment


def line_epoch_ms(value: object) -> int | None:
    """The milliseconds since the epoch of an access-log line's `start_time`, finer parts cut off.

    value: RFC 3339 (also with a blank for the T, slashes in the date, an offset without its colon), or an epoch number
    in s, ms, us or ns as a number or a text. None for any other value.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = value.strip(" ") if isinstance(value, str) else str(value)
    match = _LINE_FORM.fullmatch(text)
    if match is None:
        return _epoch_number_ms(text)
    zone = "+00:00" if match[7] else f"{match[8]}:{match[9]}"
    try:
        moment = datetime.fromisoformat(f"{match[1]}-{match[3]}-{match[4]}T{match[5]}{zone}")
        whole_seconds_ms = to_epoch_ms(moment)
    except (ValueError, OverflowError):
        return None
    return whole_seconds_ms + int((match[6] or "0").ljust(3, "0")[:3])


def epoch_unit_ms(number: Decimal) -> Decimal | int | None:
    """The milliseconds of the unit that an epoch number is in; None where it is a moment in no unit."""
    if number < _MIN_EPOCH:
        return None
    return next((unit_ms for power, unit_ms in _EPOCH_UNITS if number < Decimal(10) ** power), None)


def _epoch_number_ms(text: str) -> int | None:
    if len(text) > _MAX_EPOCH_CHARACTERS or _EPOCH_FORM.fullmatch(text) is None:
        return None
    number = Decimal(text)
    unit_ms = epoch_unit_ms(number)
    return None if unit_ms is None else int(_EXACT.multiply(number, Decimal(unit_ms)))


def from_log_text(text: str, within: int = 0) -> datetime | None:
    """The UTC moment that begins in the first `within` characters of a log record; None where there is none."""
    found = _LOG_FORM.search(text[: within + _LOG_FORM_CHARACTERS])
    if found is None or found.start() > within:
        return None
    fraction = (found[7] or "").ljust(6, "0")[:6]
    zone = found[8]
    try:
        year, month, day, hour, minute, second = (int(found[group]) for group in range(1, 7))
        moment = datetime(year, month, day, hour, minute, second, int(fraction), UTC)
        if zone is not None and zone[0] in "+-":
            digits = zone[1:].replace(":", "")
            offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
            moment -= offset if zone[0] == "+" else -offset
    except (ValueError, OverflowError):
        return None
    return moment


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a timestamp needs a time zone, such as a trailing Z")
    return moment.astimezone(UTC)


Timestamp = Annotated[
    datetime,
    AfterValidator(_aware),
    PlainSerializer(to_text, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$",
        }
    ),
]
