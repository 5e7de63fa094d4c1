"""The job replica-changes on Flink and the real Kafka, against a second-by-second reading of the contract."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.support.flink_cluster import replica_changes_submitted
from tests.support.kafka_messages import messages
from tests.support.limit_rows import replicas_row
from tests.support.waiting import until
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.jobs import environment, replica_changes
from tidegate.jobs.messages import OPTIONS
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import ReplicaChange, ReplicasRow
from tidegate.schemas.settings import Flink, Kafka, Settings, Stack
from tidegate.stack.local import LocalStack

START_MS = 1_795_514_400_000
TASKS = [f"task-{index}" for index in range(20)]


def put(kafka: Kafka, rows: list[ReplicasRow], *raw: bytes) -> None:
    # A retry must not put an older row behind a newer one: the watcher's rows never are.
    producer = Producer({**kafka.client_config(), "enable.idempotence": True})
    for row in rows:
        producer.produce(kafka.topic(topics.REPLICAS), row.model_dump_json(), f"{row.department}/{row.task}")
    for value in raw:
        producer.produce(kafka.topic(topics.REPLICAS), value)
    assert producer.flush(30) == 0


def changes(kafka: Kafka) -> dict[str, list[ReplicaChange]]:
    """All changes by task, in the order of the topic."""
    found: dict[str, list[ReplicaChange]] = {}
    for message in messages(kafka, topics.REPLICA_CHANGES):
        change = ReplicaChange.model_validate_json(message.value() or b"")
        assert (message.key() or b"").decode() == f"{change.department}/{change.task}"
        found.setdefault(change.task, []).append(change)
    return found


def timeline(dice: random.Random, task: str) -> list[ReplicasRow]:
    """Ten minutes of a task: whole seconds, some calm, some wild, a refresh every 30 s."""
    rows, replicas = [], dice.randint(0, 6)
    for second in range(600):
        if dice.random() < (0.4 if second // 100 % 2 else 0.03):
            replicas = max(0, replicas + dice.choice((-3, -1, -1, 1, 1, 2)))
        elif second % 30:
            continue
        rows.append(replicas_row(START_MS + second * 1000, replicas, task=task))
    return rows


def expected(rows: list[ReplicasRow]) -> list[tuple[int, int, int]]:
    """(second, before, after) by the contract, with a count for each second and nothing else.

    A lower count settles when it held for 2 s, a higher one for 10 s: the highest, or lowest, of these seconds.
    """
    counts = {(row.observed_at.timestamp() * 1000 - START_MS) // 1000: row.replicas_ready for row in rows}
    seen: list[int] = []
    settled, found = counts[0], []
    for second in range(640):
        seen.append(counts.get(second, seen[-1] if seen else settled))
        if second >= 2 and (highest := max(seen[second - 2 : second])) < settled:
            found.append((second, settled, highest))
            settled = highest
        if second >= 10 and (lowest := min(seen[second - 10 : second])) > settled:
            found.append((second, settled, lowest))
            settled = lowest
    return found


def test_what_settles_is_what_a_reading_second_by_second_says(kafka: Kafka, tmp_path: Path) -> None:
    dice = random.Random(5)
    rows = {task: timeline(dice, task) for task in TASKS}
    ensure_topics(kafka, topics.ALL_TOPICS)
    mixed = sorted((row for some in rows.values() for row in some), key=lambda row: row.observed_at)
    put(kafka, mixed, b"not JSON", json.dumps({"department": "vision"}).encode())
    settings = Settings(kafka=kafka, stack=Stack(state_dir=tmp_path))
    run_bounded(settings)
    found = changes(kafka)
    assert set(found) == set(TASKS)
    for task, some in found.items():
        first, *later = some
        assert (first.cause, first.replicas_before, first.revision) == ("resync", None, 1)
        assert [change.revision for change in some] == list(range(1, len(some) + 1))
        reported = [
            (
                round(change.settled_at.timestamp() - START_MS / 1000),
                change.replicas_before,
                change.replicas_after,
            )
            for change in later
        ]
        assert reported == expected(rows[task]), task
    assert sum(len(some) for some in found.values()) > 300
    letters = [json.loads(message.value() or b"") for message in messages(kafka, topics.DEAD_LETTERS)]
    assert sorted(letter["reason"].split(":")[0] for letter in letters) == ["id", "the whole"]
    assert {letter["topic"] for letter in letters} == {kafka.topic(topics.REPLICAS)}
    again = {change.id: change for some in found.values() for change in some}
    run_bounded(settings)
    assert {change.id: change for some in changes(kafka).values() for change in some} == again


def run_bounded(settings: Settings) -> None:
    where = environment.Where(bounded=True)
    tables = environment.create(settings, where, replica_changes.NAME, OPTIONS)
    replica_changes.main(tables, settings, {}, bounded=True).execute().wait()


class Live:
    """A task whose count is said now, and every second again."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka

    def say(self, replicas: int, seconds: float = 0) -> None:
        deadline = time.monotonic() + seconds
        while True:
            put(self._kafka, [replicas_row(int(time.time() * 1000), replicas)])
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.5))

    def settled(self) -> list[int]:
        return [change.replicas_after for change in changes(self._kafka).get("chat", [])]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_revisions_and_what_is_pending_survive_a_crash_and_a_restart(
    kafka: Kafka, own_stack: LocalStack, own_flink_cluster: str, tmp_path: Path
) -> None:
    ensure_topics(kafka, topics.ALL_TOPICS)
    settings = Settings(
        kafka=kafka,
        flink=Flink(rest_address=own_flink_cluster, checkpoint_dir=tmp_path, checkpoint_interval_seconds=1),
    )
    live = Live(kafka)
    with replica_changes_submitted(settings, own_flink_cluster) as job:
        live.say(4)
        until(lambda: live.settled() == [4], "the first count")
        live.say(3, 1.0)  # a blip
        live.say(4, 3.0)
        assert live.settled() == [4]
        live.say(2)  # and not a word more: the timer settles it
        until(lambda: live.settled() == [4, 2], "the cut")
        job.wait_for_checkpoint()
        own_stack.kill("flink-taskmanager")
        live.say(1)
        own_stack.up(["flink-taskmanager"])
        until(lambda: live.settled() == [4, 2, 1], "the cut during the crash", 120)
        assert job.restored() >= 1
    # Started anew without its state: it goes on from what it said last.
    with replica_changes_submitted(settings, own_flink_cluster):
        live.say(1, 1.0)
        live.say(0)
        until(lambda: live.settled() == [4, 2, 1, 0], "the cut after the restart")
    reported: list[Any] = changes(kafka)["chat"]
    assert [change.revision for change in reported] == [1, 2, 3, 4]
    assert [change.cause for change in reported] == [
        "resync",
        "flapping",
        "scale_down",
        "scale_down",
    ]  # 4 3 4 2: to and fro
    for change in reported[1:]:
        assert (change.settled_at - change.first_seen_at).total_seconds() == 2
