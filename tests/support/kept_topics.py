"""Topics without an end to what they keep: the tests' lines have a date, and Kafka deletes by a record's own time."""

from __future__ import annotations

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tidegate.adapters.kafka.client import ensure_topics
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import ALL_TOPICS


def make_topics(kafka: Kafka) -> None:
    """All topics of this prefix, without an end to what they keep."""
    ensure_topics(kafka, ALL_TOPICS)
    for_ever = ConfigEntry("retention.ms", "-1", incremental_operation=AlterConfigOpType.SET)
    resources = [
        ConfigResource(ResourceType.TOPIC, kafka.topic(topic), incremental_configs=[for_ever])
        for topic in ALL_TOPICS
    ]
    admin = AdminClient(kafka.client_config())  # it must outlive its answers
    for altered in admin.incremental_alter_configs(resources).values():
        altered.result(30)
