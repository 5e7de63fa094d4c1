"""The job on a Flink cluster for longer: it loses its TaskManager, and its state doesn't grow."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import Producer

from tests.oracle import OracleSettings, Position, RawLine, recompute
from tests.support.flink_cluster import submitted
from tests.support.flink_jobs import problems, written
from tests.support.indexing import documents, index_all, settings_of
from tests.support.kept_topics import make_topics
from tests.support.lines import at, cluster, line
from tests.support.strategies import T0_MS
from tests.support.waiting import until
from tidegate.adapters.queries import line_counts
from tidegate.schemas import topics
from tidegate.schemas.settings import Elasticsearch, Flink, Kafka, Settings
from tidegate.stack.local import LocalStack

PARTITIONS = 3
TASK_MANAGER = "flink-taskmanager"
RECEIVED_MS = T0_MS + 3_600_000


def settings_on(kafka: Kafka, folder: Path) -> Settings:
    return Settings(
        kafka=kafka.model_copy(update={"partitions": PARTITIONS}),
        flink=Flink(
            checkpoint_dir=folder / "checkpoints",
            checkpoint_interval_seconds=1,
            restart_initial_backoff_seconds=0.5,
            restart_max_backoff_seconds=2,
        ),
    )


def one_second(second: int, lines: int, draw: random.Random) -> list[bytes]:
    """Lines that end in this second of the tests' clock, each in any order."""
    return [
        line(
            start_time=at(second + draw.random() * 0.2),
            duration=draw.randrange(800),
            upstream_cluster=cluster(
                task=draw.choice(["chat", "embed", "rank"]), department=draw.choice(["vision", "search"])
            ),
            upstream_host=f"10.0.0.{draw.randrange(4)}:80",
            response_code=draw.choice([200, 200, 200, 404, 503, 0]),
        ).encode()
        for _ in range(lines)
    ]


def closing_lines(second: int) -> list[bytes]:
    """One for each partition, so late that all windows before it close."""
    return [line(start_time=at(second), duration=0).encode()] * PARTITIONS


class Feed:
    """Writes lines to the partitions in turn, and knows where each of them stands."""

    def __init__(self, kafka: Kafka) -> None:
        make_topics(kafka)
        self._topic = kafka.topic(topics.ACCESS_LOGS)
        self._producer = Producer(
            {**kafka.client_config(), "enable.idempotence": True}
        )  # in order, whatever is sent again
        self._offsets = [0] * PARTITIONS
        self.placed: list[RawLine] = []

    def write(self, values: Sequence[bytes]) -> None:
        for value in values:
            partition = len(self.placed) % PARTITIONS
            self._producer.produce(self._topic, value, partition=partition, timestamp=RECEIVED_MS)
            position = Position(self._topic, partition, self._offsets[partition])
            self._offsets[partition] += 1
            self.placed.append(RawLine(value, position, RECEIVED_MS))
        assert self._producer.flush(30) == 0


def test_a_killed_task_manager_costs_no_row_and_changes_none(
    kafka: Kafka,
    elasticsearch: Elasticsearch,
    own_flink_cluster: str,
    own_stack: LocalStack,
    tmp_path: Path,
) -> None:
    settings = settings_on(kafka, tmp_path)
    seconds, kill_at = 70, (35,)
    draw = random.Random(4)
    feed = Feed(settings.kafka)
    with submitted(settings, own_flink_cluster) as job:
        for second in range(seconds):
            if second in kill_at:
                job.wait_for_checkpoint()
                feed.write(one_second(second, 90, draw))  # read after the checkpoint: it will be read again
                time.sleep(0.3)
                own_stack.kill(TASK_MANAGER)
                own_stack.up([TASK_MANAGER])
            else:
                feed.write(one_second(second, 90, draw))
            time.sleep(0.1)
        counted = len(feed.placed)
        real = list(feed.placed)
        feed.write(closing_lines(seconds + 60))
        until(lambda: written(settings.kafka).counts.get("counted", 0) >= counted, "every line is counted")
        expected = recompute(real, OracleSettings.of(settings)).rows
        until(
            lambda: expected.keys() <= {row["id"] for row in written(settings.kafka).rows},
            "a row for every window and group",
        )
        assert job.restored() >= len(kill_at)  # a busy machine may lose a heartbeat once more
        assert job.metric("numLateRecordsDropped") == 0

    found = written(settings.kafka)
    newest = {row["id"]: row for row in found.rows}
    assert problems(found.with_rows(list(newest.values())), real, settings) == []
    assert all(row == newest[row["id"]] for row in found.rows)
    index = settings_of(settings.kafka, elasticsearch)
    names = ("tidegate.service-metrics.1s", "tidegate.service-metrics.1m")
    index_all(index, *names)
    indexed = {**documents(elasticsearch, names[0]), **documents(elasticsearch, names[1])}
    assert indexed.keys() == expected.keys()
    assert {identifier: row["requests"] for identifier, row in indexed.items()} == {
        identifier: row["requests"] for identifier, row in newest.items()
    }


def test_state_stays_flat_while_replicas_come_and_go(
    kafka: Kafka, flink_cluster: str, tmp_path: Path
) -> None:
    """Six minutes of the lines' own time; every ten seconds each task has a new replica. The soak is longer."""
    settings = settings_on(kafka, tmp_path)
    minutes, lines_a_second = 6, 12
    sizes: list[int] = []
    feed = Feed(settings.kafka)
    with submitted(settings, flink_cluster) as job:
        for minute in range(minutes):
            for second in range(minute * 60, minute * 60 + 60):
                feed.write([replaced(second, number) for number in range(lines_a_second)])
                time.sleep(0.01)
            # A job that is behind holds more: what is compared is the state of one that keeps up.
            wait_until_counted(settings.kafka, (minute * 60 + 55) * lines_a_second)
            job.wait_for_checkpoint()
            sizes.append(max(job.state_sizes()))
    first, last = sizes[1:3], sizes[-2:]
    assert min(first) > 0
    assert max(last) <= 1.2 * max(first)


def wait_until_counted(kafka: Kafka, lines: int) -> None:
    until(lambda: line_counts.newest(kafka).get("counted", 0) >= lines, f"{lines} lines are counted")


def replaced(second: int, number: int) -> bytes:
    """A line of task `number`, whose replica is another one every ten seconds."""
    generation = second // 10
    return line(
        start_time=at(second),
        duration=number,
        upstream_cluster=cluster(task=f"task-{number}"),
        upstream_host=f"10.{number}.{generation // 256}.{generation % 256}:80",
    ).encode()
