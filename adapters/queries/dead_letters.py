"""Reads the dead letters in Kafka: those since a moment, all that are kept, or those that come."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from tidegate.adapters.kafka.log import LogMessage, TopicLog
from tidegate.schemas.rows.accounting import DeadLetter
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import DEAD_LETTERS

logger = logging.getLogger(__name__)

_QUIET_SECONDS = 0.5
_QUOTED = re.compile(r"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\"|\b\d[\d.,]*\b")


@dataclass(frozen=True)
class LetterFilter:
    """Which letters are wanted. None means any. topic: with its prefix. reason: a part of it, in any case."""

    topic: str | None = None
    reason: str | None = None

    def wants(self, letter: DeadLetter) -> bool:
        """Whether the letter passes."""
        return (self.topic is None or letter.topic == self.topic) and (
            self.reason is None or self.reason.casefold() in letter.reason.casefold()
        )


@dataclass(frozen=True)
class ReasonGroup:
    """The letters of one kind of reason. newest: the one that was seen last."""

    topic: str
    reason: str
    letters: int
    first_seen_at: datetime
    newest: DeadLetter


def by_reason(letters: Iterable[DeadLetter]) -> list[ReasonGroup]:
    """The letters by topic and kind of reason, most letters first. A letter that was written twice counts once."""
    groups: dict[tuple[str, str], list[DeadLetter]] = {}
    for letter in {letter.id: letter for letter in letters}.values():
        groups.setdefault((letter.topic, kind_of(letter.reason)), []).append(letter)
    found = [
        ReasonGroup(
            topic,
            reason,
            len(group),
            min(letter.seen_at for letter in group),
            max(group, key=lambda letter: (letter.seen_at, letter.id)),
        )
        for (topic, reason), group in groups.items()
    ]
    return sorted(found, key=lambda group: (-group.letters, group.topic, group.reason))


def kind_of(reason: str) -> str:
    """A reason without the values that it names: quoted texts and numbers become `…`."""
    return _QUOTED.sub("…", reason)


class DeadLetterReader:
    """Reads the topic of dead letters. A topic that doesn't exist yet has none. Raises KafkaUnavailable."""

    def __init__(self, kafka: Kafka) -> None:
        self._log = TopicLog(kafka, [DEAD_LETTERS], strict=True)
        self.unreadable = 0

    def held(self, wanted: LetterFilter, since: datetime | None = None) -> list[DeadLetter]:
        """The letters that Kafka holds now, those that it got at this moment or later, oldest first."""
        messages = self._log.snapshot(None if since is None else {DEAD_LETTERS: since})
        letters = {letter.id: letter for letter in self._letters(messages) if wanted.wants(letter)}
        return sorted(letters.values(), key=lambda letter: (letter.seen_at, letter.id))

    def follow(self, wanted: LetterFilter) -> Iterator[DeadLetter | None]:
        """The letters that come after those of `held`; never ends. None when it is quiet for half a second."""
        self._log.follow()
        while True:
            letters = list(self._letters(self._log.poll(_QUIET_SECONDS)))
            yield from (letter for letter in letters if wanted.wants(letter))
            if not letters:
                yield None

    def close(self) -> None:
        """Close the connection."""
        self._log.close()

    def _letters(self, messages: Iterable[LogMessage]) -> Iterator[DeadLetter]:
        for message in messages:
            if message.value is None:
                continue
            try:
                yield DeadLetter.model_validate_json(message.value)
            except ValidationError as wrong:
                self.unreadable += 1
                logger.debug("%s-%d-%d: %s", message.topic.name, message.partition, message.offset, wrong)
