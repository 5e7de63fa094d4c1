"""The newest alerts in their topic: the job continues those that have not ended, and the sender sends them."""

from __future__ import annotations

from tidegate.adapters.kafka import log
from tidegate.schemas import topics
from tidegate.schemas.alert_rules import RulesFile
from tidegate.schemas.rows.signals import AlertRow
from tidegate.schemas.settings import Kafka


def newest(kafka: Kafka) -> dict[str, AlertRow]:
    """The newest row of each alert, by its key. Raises KafkaUnavailable when the topic can't be read."""
    return log.newest(kafka, topics.ALERTS, AlertRow)


def open_alerts(kafka: Kafka, rules: RulesFile) -> dict[str, list[AlertRow]]:
    """The alerts that have not ended, by the key of their input: `department/task`, a department, a line count's kind.

    Raises KafkaUnavailable when the topic can't be read.
    """
    kinds = {rule.name: rule.select.kinds[0] for rule in rules.rules if rule.source == "line-counts"}
    found: dict[str, list[AlertRow]] = {}
    for row in newest(kafka).values():
        if row.state == "resolved":
            continue
        task_key = row.department if row.task is None else f"{row.department}/{row.task}"
        key = kinds.get(row.rule, "counted") if task_key is None else task_key
        found.setdefault(key, []).append(row)
    return found
