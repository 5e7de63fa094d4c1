"""The catalog's topic as a source, on a real Kafka."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from tidegate.adapters.catalog import topic
from tidegate.adapters.catalog.source import TopicSource
from tidegate.schemas import catalog as catalogs
from tidegate.schemas.settings import Kafka


def publish(kafka: Kafka, folder: Path, qps: int, *tasks: str) -> None:
    """A catalog of these tasks behind one gateway."""
    file = folder / "catalog.yaml"
    entries = ", ".join(f"{task}: {{qps_per_replica: {qps}}}" for task in tasks)
    file.write_text(
        f"gateways: {{edge: {{}}}}\ndepartments: {{vision: {{gateway: edge, tasks: {{{entries}}}}}}}\n"
    )
    wanted = catalogs.load(file)
    topic.publish(kafka, topic.plan(topic.read(kafka).rows, wanted, datetime.now(UTC)))


def names(source: TopicSource) -> dict[str, float]:
    """Each task of the source's catalog, and what one replica takes."""
    return {task.name: task.qps_per_replica for task in source.catalog.tasks.values()}


def test_a_refreshed_source_holds_what_the_topic_holds_now(kafka: Kafka, tmp_path: Path) -> None:
    publish(kafka, tmp_path, 10, "chat", "ocr")
    with closing(TopicSource(kafka)) as source:
        assert names(source) == {"chat": 10, "ocr": 10}
        publish(kafka, tmp_path, 20, "chat", "rank")
        source.refresh()
        assert names(source) == {"chat": 20, "rank": 20}
        assert not source.changed(), "a refresh leaves nothing to read"
