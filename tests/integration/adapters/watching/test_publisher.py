"""A watcher's rows on their way into a real Kafka, also while that is away."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from queue import Empty, SimpleQueue

import orjson
import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient

from tests.support.kafka_messages import messages
from tests.support.waiting import until
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.watching.publisher import RowPublisher, WatchRow, run_watcher
from tidegate.schemas.rows.limits import GatewayRow, Replica, ReplicasRow
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import GATEWAYS, REPLICAS, Topic
from tidegate.stack.local import LocalStack


def row(ready: int, task: str = "chat") -> ReplicasRow:
    return ReplicasRow(
        id=f"vision|{task}|kubernetes",
        department="vision",
        task=task,
        workload=f"vision/service-{task}",
        source="kubernetes",
        replicas_ready=ready,
        replicas_starting=0,
        replicas_terminating=0,
        replicas=(),
        observed_at=datetime.now(UTC),
    )


def gateway(ready: int) -> GatewayRow:
    return GatewayRow(
        id="edge|kubernetes",
        gateway="edge",
        source="kubernetes",
        gateways_ready=ready,
        gateways=tuple(f"edge-{n}" for n in range(ready)),
        observed_at=datetime.now(UTC),
    )


def reported(kafka: Kafka, topic: Topic) -> list[tuple[str, int]]:
    """Key and count of each message, in each key's order."""
    found = []
    for message in messages(kafka, topic):
        value = orjson.loads(message.value() or b"")
        key = message.key()
        assert isinstance(key, bytes)
        count = value["replicas_ready"] if "replicas_ready" in value else value["gateways_ready"]
        found.append((key.decode(), count))
    return found


class Given:
    """A source that tells what a test gives it."""

    about = "what the test says"

    def __init__(self) -> None:
        self.queue: SimpleQueue[WatchRow] = SimpleQueue()
        self.closed = False

    def rows(self, wait_seconds: float) -> Iterable[WatchRow]:
        try:
            return [self.queue.get(timeout=wait_seconds)]
        except Empty:
            return []

    def close(self) -> None:
        self.closed = True


class Running:
    """The watcher's loop in a thread, over a source that the test feeds."""

    def __init__(self, kafka: Kafka) -> None:
        self.source = Given()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=run_watcher, args=(kafka, self.source, self._stop))

    def __enter__(self) -> Given:
        self._thread.start()
        return self.source

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.source.closed


def test_each_row_goes_to_its_topic_with_its_key_in_order(kafka: Kafka) -> None:
    with Running(kafka) as source:
        for ready in (4, 3, 5):
            source.queue.put(row(ready))
        source.queue.put(gateway(2))
        until(source.queue.empty)
    rows = reported(kafka, REPLICAS)
    assert rows[-1] == ("vision/chat", 5)  # of rows that came while one was under way the newest is enough
    assert [ready for _, ready in rows] == [ready for ready in (4, 3, 5) if ("vision/chat", ready) in rows]
    assert reported(kafka, GATEWAYS) == [("edge", 2)]


def test_while_kafka_is_away_the_newest_row_of_each_task_is_kept(
    own_kafka: Kafka, own_stack: LocalStack
) -> None:
    with Running(own_kafka) as source:
        source.queue.put(row(4))
        source.queue.put(row(4, "embed"))
        until(source.queue.empty)
        until(lambda: len(reported(own_kafka, REPLICAS)) == 2)
        own_stack.down(["kafka"])
        for ready in range(100):
            source.queue.put(row(ready))
        source.queue.put(row(7, "embed"))
        until(source.queue.empty)
        own_stack.up(["kafka"])
        until(lambda: ("vision/embed", 7) in reported(own_kafka, REPLICAS))
        until(lambda: ("vision/chat", 99) in reported(own_kafka, REPLICAS))
    rows = reported(own_kafka, REPLICAS)
    assert [ready for key, ready in rows if key == "vision/chat"][-1] == 99
    assert [ready for key, ready in rows if key == "vision/embed"] == [4, 7]
    assert len(rows) < 10


@pytest.mark.slow
def test_a_topic_that_was_removed_is_made_again(kafka: Kafka) -> None:
    with Running(kafka) as source:
        source.queue.put(row(4))
        until(lambda: source.queue.empty() and reported(kafka, REPLICAS) != [])
        admin = AdminClient({**kafka.client_config()})
        admin.delete_topics([kafka.topic(REPLICAS)])[kafka.topic(REPLICAS)].result(30)
        source.queue.put(row(3))
        until(lambda: kafka.topic(REPLICAS) in admin.list_topics(timeout=10).topics)
        until(lambda: reported(kafka, REPLICAS) == [("vision/chat", 3)])


def test_a_client_that_gives_up_is_replaced_and_its_rows_come(
    own_kafka: Kafka, own_stack: LocalStack
) -> None:
    ensure_topics(own_kafka, [REPLICAS, GATEWAYS])
    publisher = RowPublisher(own_kafka)
    own_stack.down(["kafka"])
    publisher.publish(row(4))
    publisher.publish(row(3, "embed"))
    publisher.publish(row(5))
    # What only a broker with another's data would cause, as the client tells it.
    publisher._client_error(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "out of order", fatal=True))
    publisher.serve()
    own_stack.up(["kafka"])
    assert publisher.flush(30) == 0
    assert sorted(reported(own_kafka, REPLICAS)) == [("vision/chat", 5), ("vision/embed", 3)]


def test_a_row_that_kafka_never_takes_holds_no_other_up(kafka: Kafka) -> None:
    ensure_topics(kafka, [REPLICAS, GATEWAYS])
    publisher = RowPublisher(kafka)
    many = tuple(Replica(name="pod-" + "x" * 200, address=None, state="ready") for _ in range(8_000))
    publisher.publish(row(8_000).model_copy(update={"replicas": many}))
    publisher.publish(row(3, "embed"))
    assert publisher.flush(30) == 0
    assert reported(kafka, REPLICAS) == [("vision/embed", 3)]
