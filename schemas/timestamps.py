"""Timestamps: written as UTC, ISO 8601 with milliseconds and `Z`; read in the three forms of the inputs.

- rows and samples: ISO 8601 with a time zone (`from_text`);
- access-log lines: RFC 3339 with up to 9 digits of a second's fraction (`line_epoch_ms`); jobs/java/StartTime.java
  reads the same form in the Flink job;
- records of services' logs: what loggers write, UTC where no zone is given (`from_log_text`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, WithJsonSchema

_LINE_FORM = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)
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


def line_epoch_ms(text: str) -> int | None:
    """The milliseconds since the epoch of an access-log line's `start_time`, finer digits cut off.

    None for any other form.
    """
    match = _LINE_FORM.fullmatch(text)
    if match is None:
        return None
    zone = "+00:00" if match[3] == "Z" else match[3]
    try:
        moment = datetime.fromisoformat(match[1] + zone)
        whole_seconds_ms = to_epoch_ms(moment)
    except (ValueError, OverflowError):
        return None
    return whole_seconds_ms + int((match[2] or "0").ljust(3, "0")[:3])


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
