"""The alerts that haven't ended, as their topic has them: the job goes on with them, and the sender sends them."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from tidegate.adapters.kafka.client import messages
from tidegate.schemas import topics
from tidegate.schemas.alert_rules import RulesFile
from tidegate.schemas.rows.signals import AlertRow
from tidegate.schemas.settings import Kafka

_LOG = logging.getLogger(__name__)


def alert_of(value: bytes, place: str) -> AlertRow | None:
    """The alert that a message says; None, and a warning, for what is none."""
    try:
        return AlertRow.model_validate_json(value)
    except ValidationError as error:
        _LOG.warning("%s is no alert: %s", place, error.errors()[0]["msg"])
        return None


def newest(kafka: Kafka) -> dict[str, AlertRow]:
    """The newest row of each alert, by its key. Raises KafkaException when the topic can't be read."""
    found: dict[str, AlertRow] = {}
    for message in messages(kafka, topics.ALERTS):
        place = f"{message.topic()}-{message.partition()}-{message.offset()}"
        if (value := message.value()) and (row := alert_of(value, place)):
            found[row.alert_key] = row
    return found


def open_alerts(kafka: Kafka, rules: RulesFile) -> dict[str, list[AlertRow]]:
    """What hasn't ended, by the key of the messages that it is about: `department/task`, a department, a count's kind.

    Raises KafkaException when the topic can't be read.
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
