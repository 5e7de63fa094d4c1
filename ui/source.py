"""The source of the page's rows: one narrow interface to Elasticsearch and Kafka."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from tidegate.schemas.elasticsearch import contract_of
from tidegate.schemas.topics import Topic

Json = dict[str, Any]
Equal = Mapping[str, str | Sequence[str] | None]
"""By field: the value, or several of which one must match. None: the field has no value."""

MOST_ROWS = 100_000
"""The limit of one query. The page needs fewer; more rows are an error that it shows."""


class SourceUnavailable(Exception):
    """The rows can't be read. The message is for people: what is wrong, where, what to do."""


class Source(Protocol):
    """Rows of topics, as they are in JSON.

    Both methods raise SourceUnavailable.
    """

    @property
    def name(self) -> str:
        """`elasticsearch` or `kafka`."""

    @property
    def address(self) -> str:
        """The source's address."""

    @property
    def reach(self) -> str | None:
        """How far back its rows go, as text; None if the server's retention decides that."""

    def find(
        self,
        topic: Topic,
        equal: Equal,
        since: datetime | None = None,
        until: datetime | None = None,
        without: Sequence[str] = (),
    ) -> list[Json]:
        """All rows of a topic with these values whose moment is in [since, until), oldest first; the last form of each.

        The moment is the topic's time field (`IndexContract.moment`). without: fields that aren't needed.
        """

    def newest(self, topic: Topic, equal: Equal) -> Json | None:
        """The row with the newest moment."""


def moment_of(topic: Topic) -> str:
    """The time field of a topic's rows."""
    moment = contract_of(topic.name).moment
    if moment is None:
        raise ValueError(f"{topic.name}: its rows have no moment")
    return moment
