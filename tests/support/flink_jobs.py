"""Runs the job service-metrics over lines in the real Kafka, and reads back everything that it wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, Producer

from tests.oracle import (
    OracleSettings,
    Position,
    RawLine,
    compare,
    compare_fates,
    groups_that_differ_from_their_children,
    minutes_that_differ_from_their_seconds,
    recompute,
    unlawful_lateness,
)
from tests.support.kafka_messages import messages
from tests.support.kept_topics import make_topics
from tests.support.waiting import until
from tidegate.adapters.kafka.client import partition_range
from tidegate.adapters.queries import line_counts
from tidegate.jobs import environment, service_metrics
from tidegate.schemas import topics
from tidegate.schemas.rows.accounting import DeadLetter
from tidegate.schemas.rows.service_metrics import ServiceMetricsRow
from tidegate.schemas.settings import Kafka, Settings

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Written:
    """All that one run wrote. Rows of both spans are in one list, as they came."""

    rows: list[dict[str, Any]]
    late: dict[Position, bytes]
    dead: Mapping[Position, str]
    letters: list[dict[str, Any]]
    counts: Mapping[str, int]
    folded_names: Sequence[str]

    def with_rows(self, rows: list[dict[str, Any]]) -> Written:
        """The same with other rows."""
        return replace(self, rows=rows)


def put(kafka: Kafka, lines: Sequence[RawLine]) -> list[RawLine]:
    """The lines into the access-log topic, each in its partition, in order. Returns them with the topic's name."""
    make_topics(kafka)
    topic = kafka.topic(topics.ACCESS_LOGS)
    # A batch that is sent again must not come after later ones: their windows would be closed.
    producer = Producer({**kafka.client_config(), "enable.idempotence": True})
    refused: list[str] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            refused.append(str(error))

    placed = []
    for raw in sorted(lines, key=lambda raw: raw.position):
        stamp = {} if raw.timestamp_ms is None else {"timestamp": raw.timestamp_ms}
        producer.produce(topic, raw.value, partition=raw.position.partition, on_delivery=delivered, **stamp)
        position = Position(topic, raw.position.partition, raw.position.offset)
        placed.append(RawLine(raw.value, position, raw.timestamp_ms))
        producer.poll(0)
    assert producer.flush(TIMEOUT_SECONDS) == 0
    assert refused == []
    # A bounded run ends where the topic ends when it starts: the broker must say so to everybody by then.
    until(lambda: _held(kafka, topic) >= len(placed), "the topic holds all lines")
    return placed


def _held(kafka: Kafka, topic: str) -> int:
    """How many messages a topic holds, as a new client sees it."""
    consumer = Consumer({**kafka.client_config(), "group.id": "tidegate-tests"})
    try:
        partitions = consumer.list_topics(topic, timeout=TIMEOUT_SECONDS).topics[topic].partitions
        ranges = [partition_range(consumer, topic, partition, TIMEOUT_SECONDS) for partition in partitions]
        return sum(high - low for low, high in ranges)
    finally:
        consumer.close()


def run_bounded(settings: Settings) -> Written:
    """The job over what is in the topic, to its end."""
    where = environment.Where(bounded=True)
    tables = environment.create(settings, where, service_metrics.NAME)
    service_metrics.main(tables, settings, bounded=True).execute().wait()
    return written(settings.kafka)


def written(kafka: Kafka) -> Written:
    """What stands in the job's topics now."""
    letters = [json.loads(message.value() or b"") for message in messages(kafka, topics.DEAD_LETTERS)]
    rows = [
        json.loads(message.value() or b"")
        for topic in (topics.SERVICE_METRICS_1S, topics.SERVICE_METRICS_1M)
        for message in messages(kafka, topic)
    ]
    return Written(
        rows=rows,
        late={_position(message): message.value() or b"" for message in messages(kafka, topics.LATE)},
        dead={
            Position(letter["topic"], letter["partition"], letter["offset"]): letter["reason"]
            for letter in letters
        },
        letters=letters,
        counts=line_counts.newest(kafka),
        folded_names=line_counts.folded_names(line_counts.rows(kafka)),
    )


def problems(written: Written, placed: list[RawLine], settings: Settings) -> list[str]:
    """Everything that is not as the oracle says, in rows, fates and laws."""
    oracle_settings = OracleSettings.of(settings)
    expected = recompute(placed, oracle_settings, late=written.late)
    rows = {row["id"]: row for row in written.rows}
    for row in written.rows:
        assert ServiceMetricsRow.model_validate(row).expected_id() == row["id"]
    for letter in written.letters:
        DeadLetter.model_validate(letter)
    return [
        *compare(written.rows, expected.rows),
        *compare_fates(expected, written.late, written.dead, written.counts),
        *unlawful_lateness(placed, written.late, oracle_settings),
        *minutes_that_differ_from_their_seconds(rows),
        *groups_that_differ_from_their_children(rows),
    ]


def _position(message: Message) -> Position:
    headers = dict(message.headers() or [])
    topic, partition, offset = headers["id"].decode().rsplit("-", 2)
    return Position(topic, int(partition), int(offset))
