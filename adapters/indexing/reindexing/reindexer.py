"""Builds the indices of one topic anew from Kafka, beside those in service, and puts them in their place at once.

The new indices hold what the topic holds up to its end. What arrives meanwhile is read in further rounds. For the last
one the old indices take no writes: an indexer that runs waits and tries again, as with any index that is blocked. When
the new ones hold all that the old ones can hold, the names change hands in one request, which also deletes the old
ones, and the indexer's next attempt reaches the new ones. Until then the old ones answer every search.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from elasticsearch import Elasticsearch as Client

from tidegate.adapters.indexing.batch import Partition
from tidegate.adapters.indexing.delivery import Counters, Delivery
from tidegate.adapters.indexing.documents import DocumentMaker
from tidegate.adapters.indexing.family import family
from tidegate.adapters.indexing.indexer import Indexer, backoff_of, limits_of
from tidegate.adapters.indexing.reindexing.compare import Comparison, compare
from tidegate.adapters.indexing.reindexing.place import BuildingPlace
from tidegate.adapters.indexing.reindexing.reader import RangeReader
from tidegate.adapters.indexing.templates import install_templates
from tidegate.schemas.elasticsearch import IndexContract
from tidegate.schemas.settings import Settings

logger = logging.getLogger(__name__)

_NEAR_MESSAGES = 2000
"""So few left to read that the last round is short."""
_ROUNDS = 10
"""After so many rounds the topic grows as fast as it is read; the last one then takes longer."""
_ATTEMPTS = 5
"""An indexer that runs may begin a new day just when the names change hands."""


WhenLess = Literal["refuse", "keep", "replace"]
"""What becomes of an index that holds documents which the topic doesn't.

refuse: nothing is done at all. keep: that index stays as it is. replace: those documents are gone.
"""


class WouldLose(Exception):
    """The topic holds less than the indices. `lacking`: those of which it does."""

    def __init__(self, lacking: Sequence[Comparison]) -> None:
        super().__init__(", ".join(one.target for one in lacking))
        self.lacking = list(lacking)


class CannotReindex(Exception):
    """The topic can't be reindexed now. The message gives the reason and the remedy."""


@dataclass(frozen=True)
class Rebuilt:
    """What was done. replaced: with what both sides held. kept: those that stay as they were."""

    counters: Counters
    replaced: list[Comparison]
    kept: list[Comparison]


def reindex(
    settings: Settings, contract: IndexContract, client: Client, when_less: WhenLess, stop: threading.Event
) -> Rebuilt | None:
    """Build this topic's indices anew; None when `stop` was set before the names changed hands.

    However it ends before that, the old indices are in service, and it can be run again. An index of a day that the
    topic holds nothing of always stays.
    Raises WouldLose, CannotReindex, TakenOver, KafkaUnavailable, KafkaException, ApiError, TransportError.
    """
    before = install_templates(client, settings.elasticsearch, [contract])[0]
    if before.state == "newer":
        raise CannotReindex(
            f"template {before.name} has version {before.version}, of a newer tidegate; reindex with that release"
        )
    place = BuildingPlace.begin(client, contract, settings.elasticsearch)
    try:
        return _Rebuild(settings, contract, client, place, stop).run(when_less)
    finally:
        place.leave()


class _Rebuild:
    """Reads round after round, until the new indices can take the place of the old ones."""

    def __init__(
        self,
        settings: Settings,
        contract: IndexContract,
        client: Client,
        place: BuildingPlace,
        stop: threading.Event,
    ) -> None:
        self._settings = settings
        self._contract = contract
        self._client = client
        self._place = place
        self._stop = stop
        self._topic = settings.kafka.topic(contract.topic)
        self._maker = DocumentMaker(contract, place.index_prefix, settings.access_log)
        self._counters = Counters()
        self._read_to: dict[Partition, int] = {}

    def run(self, when_less: WhenLess) -> Rebuilt | None:
        for number in range(1, _ROUNDS + 1):
            messages = self._read()
            if messages is None:
                return None
            logger.info("round %d: %d messages of %s", number, messages, self._topic)
            self._place.check()
            if messages <= _NEAR_MESSAGES:
                break
        for _ in range(_ATTEMPTS):
            in_service = family(self._client, self._contract, self._settings.elasticsearch.index_prefix)
            self._place.block([index.name for index in in_service])
            if self._read() is None:
                return None
            found = compare(self._client, self._contract, in_service, self._place.built())
            chosen, kept = _choose(found, when_less)
            if self._place.change_hands(chosen):
                return Rebuilt(self._counters, chosen, kept)
        raise CannotReindex(
            f"new indices of {self._topic} appear as fast as old ones are replaced; run it again when none is begun"
        )

    def _read(self) -> int | None:
        """All that the topic holds now beyond what was read; how much that was. None: stopped before its end."""
        reader = RangeReader(self._settings.kafka, self._topic, self._read_to)
        delivery = Delivery(self._client, None, backoff_of(self._settings.indexer), self._counters)
        limits = limits_of(self._settings.indexer)
        Indexer(reader, {self._topic: self._maker}, delivery, limits, self._counters).run(self._stop)
        if not reader.at_the_end():
            return None
        self._read_to.update(reader.ends)
        return reader.messages


def _choose(found: Sequence[Comparison], when_less: WhenLess) -> tuple[list[Comparison], list[Comparison]]:
    """Those that are replaced, and those that stay. Raises WouldLose."""
    lacking = [one for one in found if one.new is not None and one.missing]
    if lacking and when_less == "refuse":
        raise WouldLose(lacking)
    kept = [one for one in found if one.new is None or (one.missing and when_less == "keep")]
    return [one for one in found if one not in kept], kept
