"""The job replica-changes goes on from savepoints on a real Flink: rescaled, and of an earlier release."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.fixtures.savepoint import FOLDER, PREFIX, first_rows, settings_on, then_rows
from tests.flow.test_replica_changes import START_MS, changes, expected, put, timeline
from tests.support.flink_cluster import replica_changes_submitted
from tests.support.waiting import until
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import ReplicasRow
from tidegate.schemas.settings import Flink, Kafka, Settings

TASKS = [f"task-{index}" for index in range(12)]
PART_SECONDS = 200


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_rescaling_from_one_to_two_and_back_changes_no_row(
    kafka: Kafka, flink_cluster: str, tmp_path: Path
) -> None:
    """The short form is on the harness: tests/unit/jobs/test_keyed_functions.py."""
    ensure_topics(kafka, topics.ALL_TOPICS)
    dice = random.Random(7)
    # Nothing is pending where a part ends: while the job is away its timers' time passes, and the rows' doesn't.
    by_task = {
        task: [row for row in timeline(dice, task) if _second(row) % PART_SECONDS < PART_SECONDS - 12]
        for task in TASKS
    }
    rows = sorted((row for some in by_task.values() for row in some), key=lambda row: row.observed_at)
    savepoint = None
    for part, parallelism in enumerate((1, 2, 1)):
        settings = Settings(
            kafka=kafka,
            flink=Flink(
                rest_address=flink_cluster, checkpoint_dir=tmp_path / "checkpoints", parallelism=parallelism
            ),
        )
        with replica_changes_submitted(settings, flink_cluster, savepoint) as job:
            put(kafka, [row for row in rows if _part(row) == part])
            until(lambda: _published(kafka) == _expected(by_task, part), f"the changes of part {part}")  # noqa: B023
            if part < 2:
                savepoint = job.stop_with_savepoint(tmp_path / "savepoints")


def _expected(by_task: dict[str, list[ReplicasRow]], part: int) -> dict[str, list[tuple[int, int, int]]]:
    """By the contract, of the rows up to the end of a part."""
    end = PART_SECONDS * (part + 1)
    return {task: [change for change in expected(rows) if change[0] < end] for task, rows in by_task.items()}


def _second(row: ReplicasRow) -> int:
    return round(row.observed_at.timestamp() - START_MS / 1000)


def _part(row: ReplicasRow) -> int:
    """Of three parts, by the row's own time; 600 s in all."""
    return _second(row) // PART_SECONDS


def _published(kafka: Kafka) -> dict[str, list[tuple[int, int, int]]]:
    """Second, count before and count after of each change but the first, each once."""
    found = {}
    for task, some in changes(kafka).items():
        once = {change.id: change for change in some}
        found[task] = [
            (
                round(change.settled_at.timestamp() - START_MS / 1000),
                change.replicas_before or 0,
                change.replicas_after,
            )
            for change in list(once.values())[1:]
        ]
    return found


@pytest.mark.parametrize("release", sorted(path.name for path in FOLDER.iterdir() if path.name[0].isdigit()))
def test_a_savepoint_of_an_earlier_release_is_restored(
    release: str, kafka: Kafka, flink_cluster: str, tmp_path: Path
) -> None:
    """Its topics have names of their own: a savepoint holds the names and offsets of its partitions."""
    fixed = kafka.model_copy(update={"topic_prefix": PREFIX})
    ensure_topics(fixed, topics.ALL_TOPICS)
    put(fixed, first_rows())  # the offsets that the savepoint goes on from
    savepoint = tmp_path / "savepoint"
    shutil.copytree(FOLDER / release, savepoint)
    with replica_changes_submitted(settings_on(fixed, flink_cluster, tmp_path), flink_cluster, savepoint):
        put(fixed, then_rows())
        until(lambda: len(changes(fixed).get("chat", [])) >= 2, "what was pending, and what came then")
    chat = changes(fixed)["chat"]
    assert [(change.revision, change.replicas_before, change.replicas_after) for change in chat] == [
        (2, 4, 5),
        (3, 5, 3),
    ]
