"""Topics read as logs, on the real Kafka: what they hold, then what comes, and what happens to the topics meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from tests.support.waiting import until
from tidegate.adapters.kafka import log
from tidegate.adapters.kafka.client import KafkaUnavailable, ensure_topics
from tidegate.adapters.kafka.log import LogMessage, TopicLog
from tidegate.schemas.rows.limits import LimitControl
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import Topic

ROWS = Topic("rows", partitions=3)
TABLE = Topic("table", partitions=2, cleanup="compact")
NOW_MS = 1_700_000_000_000


class Writer:
    """Writes to topics, and waits until Kafka has it."""

    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka
        self._producer = Producer(kafka.client_config())

    def write(self, topic: Topic, rows: Mapping[str, bytes | None], at_ms: int = NOW_MS) -> None:
        """One message for each key, in this order."""
        for key, value in rows.items():
            self._producer.produce(self.kafka.topic(topic), value, key, timestamp=at_ms)
        assert self._producer.flush(30) == 0


@pytest.fixture
def writer(kafka: Kafka) -> Writer:
    ensure_topics(kafka, [ROWS, TABLE])
    return Writer(kafka)


@pytest.fixture
def topic_log(writer: Writer) -> Iterator[TopicLog]:
    with TopicLog(writer.kafka, [ROWS, TABLE]) as made:
        yield made


def held(messages: Iterator[LogMessage] | list[LogMessage]) -> list[tuple[str, bytes | None]]:
    """Keys and values, in an order of their own: partitions are read side by side."""
    return sorted(((message.key, message.value) for message in messages), key=str)


def test_a_snapshot_is_all_that_the_topics_hold_and_following_goes_on_behind_it(
    writer: Writer, topic_log: TopicLog
) -> None:
    writer.write(ROWS, {"a": b"1", "b": b"2", "c": b"3"})
    writer.write(TABLE, {"a": b"4", "b": None})
    everything = topic_log.snapshot()
    writer.write(ROWS, {"d": b"5"})
    assert held(everything) == [("a", b"1"), ("a", b"4"), ("b", None), ("b", b"2"), ("c", b"3")]
    topic_log.follow()
    writer.write(TABLE, {"e": b"6"})
    come: list[LogMessage] = []
    until(lambda: len(come) >= 2, step=lambda: come.extend(topic_log.poll(0.1)))
    assert held(come) == [("d", b"5"), ("e", b"6")]
    assert topic_log.missing == []


def test_following_from_a_moment_knows_when_it_has_caught_up(writer: Writer, topic_log: TopicLog) -> None:
    writer.write(ROWS, {"a": b"old"}, NOW_MS - 1)
    writer.write(ROWS, {"a": b"new", "b": b"new"})
    writer.write(TABLE, {"a": b"old", "b": None}, NOW_MS - 1)
    topic_log.follow({ROWS: datetime.fromtimestamp(NOW_MS / 1000, UTC), TABLE: None})
    assert not topic_log.caught_up()
    come: list[LogMessage] = []
    until(topic_log.caught_up, step=lambda: come.extend(topic_log.poll(0.1)))
    assert held(come) == [("a", b"new"), ("a", b"old"), ("b", None), ("b", b"new")]


def test_only_messages_with_one_of_the_keys_are_given(writer: Writer) -> None:
    writer.write(ROWS, {"a": b"1", "b": b"2"})
    with TopicLog(writer.kafka, [ROWS], ["b", "c"]) as found:
        assert held(found.snapshot()) == [("b", b"2")]


def test_a_topic_that_is_created_later_is_followed_from_its_first_message(writer: Writer) -> None:
    later = Topic("later", partitions=2)
    with TopicLog(writer.kafka, [later]) as found:
        assert list(found.snapshot()) == []
        assert found.missing == [writer.kafka.topic(later)]
        found.follow()
        ensure_topics(writer.kafka, [later])
        writer.write(later, {"a": b"1", "b": b"2"})
        come: list[LogMessage] = []
        until(lambda: len(come) >= 2, step=lambda: come.extend(found.poll(0.1)))
        assert held(come) == [("a", b"1"), ("b", b"2")]
        assert found.missing == []


def test_partitions_that_are_added_are_followed(
    writer: Writer, topic_log: TopicLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "_GROWTH_EVERY_SECONDS", 0.2)
    writer.write(ROWS, {"before": b""})
    assert len(list(topic_log.snapshot())) == 1
    topic_log.follow()
    name = writer.kafka.topic(ROWS)
    admin = AdminClient(writer.kafka.client_config())
    admin.create_partitions([NewPartitions(name, 6)])[name].result(30)
    seen: set[int] = set()
    number = 0

    def in_new_ones() -> bool:
        """A producer, too, needs a while until it knows of them."""
        nonlocal number
        number += 1
        Writer(writer.kafka).write(ROWS, {f"{number}-{part}": b"" for part in range(20)})
        seen.update(message.partition for message in topic_log.poll(0.2))
        return seen >= {3, 4, 5}

    until(in_new_ones)


def test_a_topic_that_is_deleted_and_created_again_is_read_from_its_first_message(
    writer: Writer, topic_log: TopicLog
) -> None:
    writer.write(TABLE, {str(number): b"old" for number in range(50)})
    topic_log.follow({TABLE: None})
    old: list[LogMessage] = []
    until(lambda: len(old) == 50, step=lambda: old.extend(topic_log.poll(0.1)))
    name = writer.kafka.topic(TABLE)
    admin = AdminClient(writer.kafka.client_config())
    admin.delete_topics([name])[name].result(30)
    until(lambda: name not in admin.list_topics(timeout=10).topics)
    ensure_topics(writer.kafka, [TABLE])
    Writer(writer.kafka).write(TABLE, {"a": b"new", "b": b"new"})
    come: list[LogMessage] = []
    until(lambda: len(come) >= 2, step=lambda: come.extend(topic_log.poll(0.1)))
    assert held(come) == [("a", b"new"), ("b", b"new")]


def test_the_newest_row_of_each_key_without_what_was_removed_or_is_invalid(writer: Writer) -> None:
    def row(task: str, reason: str) -> bytes:
        control = LimitControl(
            id=f"vision/{task}",
            department="vision",
            task=task,
            paused=True,
            override_qps=None,
            expires_at=None,
            by="test",
            reason=reason,
            set_at=datetime.fromtimestamp(NOW_MS / 1000, UTC),
        )
        return control.model_dump_json().encode()

    writer.write(TABLE, {f"vision/{task}": row(task, "first") for task in ("chat", "tags", "ocr")})
    writer.write(TABLE, {"vision/chat": row("chat", "second"), "vision/tags": None, "vision/ocr": b"{}"})
    rows = log.newest(writer.kafka, TABLE, LimitControl)
    assert {key: one.reason for key, one in rows.items()} == {"vision/chat": "second", "vision/ocr": "first"}


def test_no_broker_is_a_fault_with_its_address() -> None:
    away = Kafka(bootstrap_servers="127.0.0.1:1")
    with TopicLog(away, [ROWS]) as found, pytest.raises(KafkaUnavailable, match=r"127\.0\.0\.1:1 "):
        found.snapshot()
