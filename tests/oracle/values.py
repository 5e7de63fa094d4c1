"""What one JSON value of an access-log line means: numbers, texts, moments.

`json.loads` is made to keep a number's own characters (`Literal`), so nothing passes through binary floats.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

MAX_DURATION_MS = 10**10
"""About 115 days; a longer request's event time would be out of range."""
MAX_NUMBER_LENGTH = 1000
"""Characters of a number: a longer one is not JSON, or as a text not a number."""
MAX_KEY_LENGTH = 50_000
MAX_WHOLE = 2**53 - 1
"""The largest whole number that RFC 8259 calls interoperable; larger byte counts are unreadable."""
FIRST_YEAR, LAST_YEAR = 1970, 2200

_JSON_NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?")
_ISO_MOMENT = re.compile(
    r"([0-9]{4})([-/])([0-9]{2})\2([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:\.([0-9]+))?(?:([Zz])|([+-])([0-9]{2}):?([0-9]{2}))"
)
_LEAST_EPOCH = 10**8
"""Seconds; smaller epoch numbers (before March 1973) are no moments, so that a number's size tells its unit."""
_MAX_EPOCH_LENGTH = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END_SECONDS = int(datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC).timestamp())
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Literal(str):
    """A JSON number as it was written."""

    __slots__ = ()


class Unreadable(ValueError):
    """A value is given, and is not what its field holds."""


def strict_json(value: bytes) -> Any:
    """The JSON text of RFC 8259 in `value`; of a repeated key the last value. Raises Unreadable."""
    try:
        return json.loads(
            value.decode("utf-8"),
            parse_int=_literal,
            parse_float=_literal,
            parse_constant=_refuse,
            object_pairs_hook=_object,
        )
    except (ValueError, RecursionError) as error:
        raise Unreadable(str(error)) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if any(len(key) > MAX_KEY_LENGTH for key, _ in pairs):
        raise Unreadable(f"a key of more than {MAX_KEY_LENGTH} characters")
    return dict(pairs)


def _literal(characters: str) -> Literal:
    if len(characters) > MAX_NUMBER_LENGTH:
        raise Unreadable(f"a number of {len(characters)} characters")
    return Literal(characters)


def _refuse(name: str) -> None:
    raise Unreadable(f"{name} is not JSON")


def is_unknown(value: Any) -> bool:
    """null, "-" and "", with spaces around or not; an absent key is read as null before."""
    return value is None or (
        isinstance(value, str) and not isinstance(value, Literal) and value.strip(" ") in ("", "-")
    )


def text(value: Any) -> str | None:
    """A text, or None where it is unknown. Anything but a text (a number, an object) is unknown too.

    Half of a surrogate pair cannot be written in UTF-8: it reads as "?".
    """
    if not isinstance(value, str) or isinstance(value, Literal) or is_unknown(value):
        return None
    return _LONE_SURROGATE.sub("?", value)


def number(value: Any) -> Fraction | None:
    """A number, or a text that is one, exactly; None where unknown. Raises Unreadable.

    Magnitudes outside 10^-30..10^30 are cut to these: far outside every limit of a field, and cheap.
    """
    if is_unknown(value):
        return None
    if not isinstance(value, str):
        raise Unreadable(f"{type(value).__name__} is not a number")
    return _exact(value if isinstance(value, Literal) else value.strip(" "))


@lru_cache(maxsize=100_000)
def _exact(characters: str) -> Fraction:
    match = _JSON_NUMBER.fullmatch(characters) if len(characters) <= MAX_NUMBER_LENGTH else None
    if match is None:
        raise Unreadable(f"{characters[:40]!r} is not a number")
    sign, whole, fraction, exponent_sign, exponent = match.groups()
    if exponent is not None and len(exponent.lstrip("0")) > 6:
        exponent = "999999"  # the clamp below decides
    magnitude = Decimal(f"{whole}.{fraction or ''}e{exponent_sign or ''}{exponent or '0'}")
    direction = -1 if sign else 1
    if not magnitude:
        return Fraction(0)
    if magnitude.adjusted() > 30:
        return direction * Fraction(10**30)
    if magnitude.adjusted() < -30:
        return direction * Fraction(1, 10**30)
    return direction * Fraction(magnitude)


def milliseconds(value: Any) -> Fraction | None:
    """A time span of 0 to MAX_DURATION_MS; None where unknown. Raises Unreadable."""
    span = number(value)
    if span is None:
        return None
    if span < 0:
        raise Unreadable("negative")
    if span > MAX_DURATION_MS:
        raise Unreadable(f"above {MAX_DURATION_MS} ms")
    return span


def whole_number(value: Any) -> int | None:
    """A whole number of at most MAX_WHOLE either way; None for anything else: these fields have no errors."""
    try:
        read = number(value)
    except Unreadable:
        return None
    if read is None or read.denominator != 1 or abs(read) > MAX_WHOLE:
        return None
    return int(read)


def microseconds(span_ms: Fraction) -> int:
    """Whole microseconds, half up."""
    return int(span_ms * 1000 + Fraction(1, 2))


def epoch_ms(value: Any) -> int:
    """The moment that an RFC 3339 text or an epoch number names, in ms since 1970, finer parts cut off.

    Raises Unreadable, also for years (in UTC) outside FIRST_YEAR..LAST_YEAR.
    """
    if is_unknown(value):
        raise Unreadable("unknown")
    characters = value.strip(" ") if isinstance(value, str) else ""
    match = _ISO_MOMENT.fullmatch(characters)
    if match is None:
        return _epoch_number_ms(characters)
    year, _, *rest, fraction, _, sign, hours, minutes = match.groups()
    calendar = [year, *rest]
    if hours is not None and (int(hours) > 23 or int(minutes) > 59):
        raise Unreadable("no such zone")
    offset = timedelta(hours=int(hours), minutes=int(minutes)) if hours is not None else timedelta()
    zone = timezone(-offset if sign == "-" else offset)
    try:
        moment = datetime(*(int(part) for part in calendar), tzinfo=zone).astimezone(UTC)  # type: ignore[arg-type, misc]
    except (ValueError, OverflowError) as error:
        raise Unreadable(str(error)) from error
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise Unreadable(f"year {moment.year}")
    return (moment - _EPOCH) // timedelta(milliseconds=1) + int((fraction or "").ljust(3, "0")[:3])


def _epoch_number_ms(characters: str) -> int:
    """Of a number in s, ms, us or ns since 1970: the unit in which it is a moment from 1973 on and not far off."""
    if len(characters) > _MAX_EPOCH_LENGTH or re.search(r"[eE]-|[eE]\+?[0-9]{3}", characters):
        raise Unreadable("not an epoch number")
    number = _exact(characters)
    for in_a_second in (1, 10**3, 10**6, 10**9):
        seconds = number / in_a_second
        if _LEAST_EPOCH <= seconds < 1000 * _LEAST_EPOCH:
            if seconds >= _END_SECONDS:
                raise Unreadable("after 2200")
            return int(seconds * 1000)
    raise Unreadable("a moment in no unit")
