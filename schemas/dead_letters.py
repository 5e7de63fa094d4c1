"""Dead letters as every writer builds them: the id, and how much of a refused input is kept. Pure."""

from __future__ import annotations

from datetime import datetime

from tidegate.schemas.rows.accounting import DeadLetter

EXCERPT_CHARACTERS = 1000
_MOST_BYTES = 4 * EXCERPT_CHARACTERS
"""Of an excerpt in UTF-8: what comes after them can't be a part of it."""


def dead_letter(
    topic: str,
    partition: int | None,
    offset: int | None,
    reason: str,
    value: bytes,
    writer: str,
    seen_at: datetime,
    source: str | None = None,
) -> DeadLetter:
    """The letter for one refused input.

    topic: with its prefix. writer: who refused it; part of the id, so that two writers' letters are two
    documents.
    source: names an input that never was in the topic, instead of partition and offset (`FILE@BYTE`).
    """
    place = f"{'' if partition is None else partition}-{'' if offset is None else offset}"
    return DeadLetter(
        id=f"{topic}-{place if source is None else source}|{writer}",
        topic=topic,
        partition=partition,
        offset=offset,
        reason=reason,
        excerpt=excerpt_of(value),
        seen_at=seen_at,
    )


def excerpt_of(value: bytes) -> str:
    """The first characters of an input; bytes that aren't UTF-8 are replaced."""
    return value[:_MOST_BYTES].decode("utf-8", "replace")[:EXCERPT_CHARACTERS]
