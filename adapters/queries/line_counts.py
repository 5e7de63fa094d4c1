"""What the job service-metrics publishes of the lines that it read: how many met each fate, and which names folded."""

from __future__ import annotations

from types import TracebackType

from tidegate.adapters.kafka import log
from tidegate.schemas import topics
from tidegate.schemas.rows.accounting import LineCount, LineKind
from tidegate.schemas.settings import Kafka

_FOLDED: LineKind = "folded"


def rows(kafka: Kafka) -> list[LineCount]:
    """The newest row of each kind that the topic has now, in the order of kinds.

    Raises KafkaUnavailable when the topic can't be read.
    """
    found = log.newest(kafka, topics.LINE_COUNTS, LineCount).values()
    return sorted(found, key=lambda row: row.kind)


def newest(kafka: Kafka) -> dict[str, int]:
    """Lines by fate (schemas.rows.accounting.LineKind), as the topic has them now; a fate without lines is absent.

    Raises KafkaUnavailable when the topic can't be read.
    """
    return {row.kind: row.lines for row in rows(kafka)}


def folded_names(counts: list[LineCount]) -> tuple[str, ...]:
    """The first names that went into `__overflow__`."""
    return next((row.names or () for row in counts if row.kind == _FOLDED), ())


class FoldedNames:
    """Follows the names that fold into `__overflow__` from now on; each is given once."""

    def __init__(self, kafka: Kafka) -> None:
        """Raises KafkaUnavailable."""
        self._log = log.TopicLog(kafka, [topics.LINE_COUNTS], [_FOLDED])
        self._log.follow()
        self._given: set[str] = set()

    def __enter__(self) -> FoldedNames:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()

    def new(self, wait_seconds: float = 0) -> list[str]:
        """Names that were not given before, in their order."""
        found: list[str] = []
        for message in self._log.poll(wait_seconds):
            row = log.row_of(message, LineCount) if message.value is not None else None
            found += [name for name in (row and row.names) or () if name not in self._given]
            self._given.update(found)
        return found
