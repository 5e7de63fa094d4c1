"""The operators that a job's state belongs to: their uids are part of every savepoint, and don't change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pyflink.datastream import StreamExecutionEnvironment

from tidegate.jobs import alerts, environment, replica_changes, resource_metrics, task_profile
from tidegate.jobs.messages import OPTIONS
from tidegate.schemas.alert_rules import parse
from tidegate.schemas.settings import Settings

SETTINGS = Settings()
RULES = parse(
    """
    rules:
      - name: slow
        level: interface
        source: service-metrics.1s
        when: {field: latency_p99_ms, op: ">", value: 800}
        message: "{value}"
    """,
    "rules.yaml",
)
OURS = ("Read", "ReadPods", "Settle", "Pods", "Tasks", "Profile", "Evaluate")
"""The functions that jobs have of their own. All else comes from SQL, or is PyFlink's and has no state."""


def nodes(name: str, build: Callable[[Any], Any]) -> list[tuple[str, str | None]]:
    """Name and uid of each operator."""
    tables = environment.create(SETTINGS, environment.Where(), name, OPTIONS)
    build(tables).attach_as_datastream()
    streams = StreamExecutionEnvironment(tables._j_tenv.getPlanner().getExecEnv())
    found = streams._generate_stream_graph(clear_transformations=True).getStreamNodes().toArray()
    return [(node.getOperatorName(), node.getTransformationUID()) for node in found]


@pytest.mark.parametrize(
    ("name", "build", "uids"),
    [
        (
            "replica-changes",
            lambda tables: replica_changes.main(tables, SETTINGS, {}, bounded=False),
            {"replica-changes-read", "replica-changes-settle"},
        ),
        (
            "resource-metrics",
            lambda tables: resource_metrics.main(tables, SETTINGS, bounded=False),
            {
                "resource-metrics-read-samples",
                "resource-metrics-read-replicas",
                "resource-metrics-pods",
                "resource-metrics-tasks",
            },
        ),
        (
            "task-profile",
            lambda tables: task_profile.main(tables, SETTINGS, bounded=False),
            {"task-profile-profile"},
        ),
        (
            "alerts",
            lambda tables: alerts.main(tables, SETTINGS, RULES, {}, bounded=False),
            {"alerts-evaluate"},
        ),
    ],
)
def test_each_operator_of_ours_has_its_uid(name: str, build: Callable[[Any], Any], uids: set[str]) -> None:
    found = nodes(name, build)
    assert {uid for _, uid in found if uid is not None} == uids
    # PyFlink chains a function with the ones beside it: "Pods, _stream_key_by_map_operator".
    ours = [uid for operator, uid in found if any(part.strip() in OURS for part in operator.split(","))]
    assert None not in ours
    assert len(ours) == len(uids)
