"""Leader election: the leader is the controller that Kafka assigns the only partition of `tidegate.limit-controls`."""

from __future__ import annotations

import logging

from confluent_kafka import Consumer, TopicPartition

from tidegate.schemas import topics
from tidegate.schemas.settings import Kafka

_LOG = logging.getLogger(__name__)
_SESSION_MS = 6_000
_HEARTBEAT_MS = 2_000


class Leadership:
    """A membership in the consumer group. `leads` must be called every few seconds: it keeps the membership.

    A slow controller that Kafka considers dead may act beside the next leader for a moment; the target's comparison of
    revisions fences its writes.
    """

    def __init__(self, kafka: Kafka, group: str) -> None:
        """group: the name of the consumer group, one for each set of gateways."""
        self._leads = False
        self._logged: str | None = None
        self._consumer = Consumer(
            {
                **kafka.client_config(),
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "latest",
                # A controller that joins or leaves takes nothing from the leader.
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
        """Whether this controller is the leader now. Waits up to the timeout for a change."""
        message = self._consumer.poll(timeout_seconds)
        if message is not None and (error := message.error()):
            # Logged once: it is repeated while it lasts.
            if self._logged != error.str():
                self._logged = error.str()
                _LOG.warning(
                    "the leader election does not work (this controller keeps its role): %s", self._logged
                )
        elif self._leads:
            self._logged = None
        return self._leads

    def close(self) -> None:
        """Leave the group, so that another controller leads at once."""
        self._consumer.close()

    def _assigned(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        # The incremental assignment: empty for the current leader.
        self._leads = self._leads or bool(places)

    def _revoked(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._leads = False
