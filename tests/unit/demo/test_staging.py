"""How the demo notices a part that fails, and what it says then."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from tidegate.demo import flink_job
from tidegate.demo import workspace as workspaces
from tidegate.demo.failure import DemoFailed
from tidegate.demo.progress import Progress
from tidegate.demo.scenario import DEMO
from tidegate.demo.staging import Staging
from tidegate.jobs import cluster
from tidegate.schemas.settings import Flink, Settings, Stack
from tidegate.stack import processes, state
from tidegate.stack.local import Phase, PhaseChange
from tidegate.stack.processes import Launch
from tidegate.stack.state import StackState, StartedServer

JOB = "service-metrics"
TRACE = """org.apache.flink.runtime.JobException: Recovery is suppressed
\tat org.apache.flink.Some.method(Some.java:1)
Caused by: java.lang.IllegalStateException: a bad thing
\tat org.apache.flink.Other.method(Other.java:2)
"""


class FakeFlink(ThreadingHTTPServer):
    """Answers as Flink's REST address does, with the state that a test gives the job."""

    state = "RUNNING"
    running_tasks = 2

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: FakeFlink

    def do_GET(self) -> None:
        answer: dict[str, Any]
        if self.path == "/jobs/overview":
            tasks = {"running": self.server.running_tasks, "total": 2}
            answer = {"jobs": [{"jid": "a1", "name": JOB, "state": self.server.state, "tasks": tasks}]}
        else:
            answer = {"exceptionHistory": {"entries": [{"stacktrace": TRACE}]}}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def flink() -> Iterator[FakeFlink]:
    with FakeFlink(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def staging_in(folder: Path, flink_address: str) -> tuple[Staging, Path]:
    workspace = workspaces.prepare(Settings(stack=Stack(state_dir=folder)), DEMO)
    settings = workspace.settings.model_copy(update={"flink": Flink(rest_address=flink_address)})
    workspace = workspaces.Workspace(workspace.folder, settings)
    return Staging(workspace, DEMO, 20, Progress(Console(file=StringIO()))), workspace.folder


def test_a_job_runs_when_all_of_its_tasks_do(flink: FakeFlink) -> None:
    assert cluster.running(flink.address, JOB)
    flink.running_tasks = 1
    assert not cluster.running(flink.address, JOB)
    flink.running_tasks, flink.state = 2, "RESTARTING"
    assert not cluster.running(flink.address, JOB)


def test_all_of_the_named_jobs_must_run(flink: FakeFlink) -> None:
    assert not cluster.running(flink.address, JOB, "replica-changes")


def submit(folder: Path, flink: FakeFlink, script: str, *names: str) -> None:
    """With a shell script for `tidegate`: its second argument is the job."""
    flink_job.submit(("sh", "-c", script, "tidegate"), names or (JOB,), flink.address, folder)


def test_a_submitted_job_is_waited_for_until_it_runs(tmp_path: Path, flink: FakeFlink) -> None:
    submit(tmp_path, flink, "echo handed over $1 $2")
    assert (tmp_path / f"submit-{JOB}.log").read_text() == f"handed over submit {JOB}\n"


def test_a_failed_submission_is_reported_with_its_log_and_the_other_one_is_stopped(
    tmp_path: Path, flink: FakeFlink
) -> None:
    script = "test $2 = other && exec sleep 611; echo no such cluster; exit 1"
    with pytest.raises(DemoFailed, match=rf"job {JOB} can't be submitted(?s:.*)no such cluster"):
        submit(tmp_path, flink, script, "other", JOB)
    assert not [
        process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["sleep", "611"]
    ]


def test_a_submitted_job_that_ends_at_once_is_reported_with_its_causes(
    tmp_path: Path, flink: FakeFlink
) -> None:
    flink.state = "FAILED"
    with pytest.raises(DemoFailed, match="a bad thing"):
        submit(tmp_path, flink, "true")


def test_a_job_that_restarts_is_no_problem_and_one_that_failed_is_reported_with_its_causes(
    flink: FakeFlink,
) -> None:
    flink.state = "RESTARTING"
    assert cluster.problem(flink.address) is None
    flink.state = "FAILED"
    assert cluster.problem(flink.address) == (
        "the job service-metrics is FAILED: org.apache.flink.runtime.JobException: Recovery is suppressed\n"
        "Caused by: java.lang.IllegalStateException: a bad thing"
    )


def test_a_flink_that_does_not_answer_runs_nothing(flink: FakeFlink) -> None:
    address = flink.address
    flink.server_close()
    assert not cluster.running(address, JOB)
    assert cluster.problem(address) is None


def test_a_part_that_ended_fails_the_demo_with_the_last_lines_of_its_log(
    tmp_path: Path, flink: FakeFlink
) -> None:
    staging, folder = staging_in(tmp_path, flink.address)
    staging.check()
    log = folder / "shipper.log"
    process = processes.start(Launch(("sh", "-c", "echo first; echo '[/] last'"), tmp_path), log, "a-mark")
    while processes.alive(process):
        pass
    server = StartedServer(process=process, started_at=datetime.now(UTC), log=log)
    state.write(folder, StackState().with_server("shipper", server))
    with pytest.raises(DemoFailed, match=r"shipper has ended(?s:.*)first\n\[/\] last"):
        staging.check()


def test_a_job_that_failed_fails_the_demo(tmp_path: Path, flink: FakeFlink) -> None:
    staging, _ = staging_in(tmp_path, flink.address)
    flink.state = "FAILED"
    with pytest.raises(DemoFailed, match="a bad thing"):
        staging.check()


def test_progress_is_reported_as_it_is_even_with_brackets_in_it() -> None:
    output = StringIO()
    progress = Progress(Console(file=output, width=100))
    progress.phase_changed(PhaseChange("kafka", Phase.PREPARING))
    progress.phase_changed(PhaseChange("kafka", Phase.FAILED, "[/] broke"))
    assert "kafka failed: [/] broke" in output.getvalue()
