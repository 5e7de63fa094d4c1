"""IANA time zones in files that people edit."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator


def _known(zone: str) -> str:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{zone!r} is no IANA time zone, such as Europe/Berlin") from error
    return zone


Zone = Annotated[str, AfterValidator(_known)]
