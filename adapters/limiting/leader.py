"""One leader among the controllers: whoever Kafka gives the one partition of `tidegate.limit-controls`."""

from __future__ import annotations

import logging

from confluent_kafka import Consumer, TopicPartition

from tidegate.schemas import topics
from tidegate.schemas.settings import Kafka

_LOG = logging.getLogger(__name__)
_SESSION_MS = 6_000
_HEARTBEAT_MS = 2_000


class Leadership:
    """A place in the consumer group. `leads` must be called at least every few seconds: it keeps the place.

    A controller that Kafka takes for dead while it is only slow may act for a moment beside the next leader; the
    target's comparison of revisions is what keeps its writes from doing harm.
    """

    def __init__(self, kafka: Kafka, group: str) -> None:
        """group: the consumer group's name, one for each set of gateways."""
        self._leads = False
        self._told: str | None = None
        self._consumer = Consumer(
            {
                **kafka.client_config(),
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "latest",
                # A controller that comes or goes takes nothing from the one that leads.
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": _SESSION_MS,
                "heartbeat.interval.ms": _HEARTBEAT_MS,
                "max.poll.interval.ms": 30_000,
                "log_level": 4,
            }
        )
        self._consumer.subscribe(
            [kafka.topic(topics.LIMIT_CONTROLS)],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._revoked,
        )

    def leads(self, timeout_seconds: float = 0) -> bool:
        """Whether this controller is the leader now. Waits for up to the timeout for news."""
        message = self._consumer.poll(timeout_seconds)
        if message is not None and (error := message.error()):
            # Told once: it comes again and again while it lasts.
            if self._told != error.str():
                self._told = error.str()
                _LOG.warning("who leads is not known: %s", self._told)
        elif self._leads:
            self._told = None
        return self._leads

    def close(self) -> None:
        """Give the place to another one at once."""
        self._consumer.close()

    def _assigned(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        # Only what is new: nothing for who leads already.
        self._leads = self._leads or bool(places)

    def _revoked(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._leads = False
