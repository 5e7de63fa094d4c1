"""What the demo's models write is what the shipper reads: whole records, each with its severity and its request."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import h11
import pytest

from tidegate.adapters.shipping.services import LogFiles, message_of
from tidegate.demo import workspace as workspaces
from tidegate.demo.model_log import Ids, ModelLog
from tidegate.demo.scenario import DEMO, Task
from tidegate.demo.watching import count_records
from tidegate.jobs.logic.logs.records import records_of
from tidegate.schemas.rows.lines import InferenceLogLine
from tidegate.schemas.settings import AccessLog, Settings, Stack, load

AT = datetime(2026, 11, 24, 10, 30, 0, 120_000, tzinfo=UTC)
IDS = Ids("8f14e45f-ceea-467f-9f6b-1d3a5c7e9b02", "4bf92f3577b34da6a3ce929d0e0e4736")
TASKS = {
    style: next(task for task in DEMO.tasks if task.log_style == style)
    for style in ("python", "java", "json")
}


def write(folder: Path, task: Task) -> Path:
    """One record of each kind, of the task's first replica."""
    replica = next(task.replicas())
    log = ModelLog(folder, task, replica, lambda: AT)
    log.started("127.0.0.1:4000")
    log.failed(IDS, 21)
    log.slow(IDS, 950)
    log.client_left(IDS, 500)
    log.close()
    return folder / task.department / task.name / f"{replica.name}.log"


def shipped(path: Path, pattern: str) -> list[InferenceLogLine]:
    owner = LogFiles((pattern,), AccessLog()).owner_of(path)
    return [message_of(record, owner, path.name, AT) for record in records_of(path.read_bytes())]


@pytest.mark.parametrize("style", TASKS)
def test_the_shipper_reads_its_records_as_they_are_meant(tmp_path: Path, style: str) -> None:
    task = TASKS[style]
    workspace = workspaces.prepare(Settings(stack=Stack(state_dir=tmp_path)), DEMO)
    (pattern,) = load(workspace.config_file).service_logs.files
    path = write(workspace.model_logs, task)
    rows = shipped(path, pattern)
    assert [(row.severity, row.request_id, row.trace_id) for row in rows] == [
        ("INFO", None, None),
        ("ERROR", IDS.request, IDS.trace),
        ("WARN", IDS.request, IDS.trace),
        ("WARN", IDS.request, IDS.trace),
    ]
    assert {row.timestamp for row in rows} == {AT}
    assert {(row.department, row.task, row.replica) for row in rows} == {
        (task.department, task.name, next(task.replicas()).name)
    }
    assert count_records(path) == len(rows)


@pytest.mark.parametrize(
    ("style", "frame"), [("python", "pool.py"), ("java", "Slots.java:38"), ("json", "pool.py")]
)
def test_a_failed_request_has_its_stack_trace_in_one_record(tmp_path: Path, style: str, frame: str) -> None:
    path = write(tmp_path, TASKS[style])
    failed = shipped(path, f"{tmp_path}/{{department}}/{{task}}/{{replica}}.log")[1]
    assert frame in failed.message
    assert TASKS[style].name.replace("-", "_") in failed.message


def test_ids_are_those_of_the_requests_head() -> None:
    parent = f"00-{IDS.trace}-00f067aa0ba902b7-01"
    head = h11.Request(
        method="POST",
        target="/v1/infer",
        headers=[("host", "a"), ("X-Request-Id", IDS.request), ("traceparent", parent)],
    )
    assert Ids.of_headers(head.headers) == IDS
    assert Ids.of_headers([(b"traceparent", b"odd")]) == Ids("-", "-")
