"""The demo's gateway: a real Envoy before the demo's replicas, under the demo's load, without the rest."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tidegate.demo import envoy_config
from tidegate.demo.load_report import LoadReport
from tidegate.demo.parts import Clients, DemoGateway, Replicas
from tidegate.demo.scenario import DEMO
from tidegate.schemas.access_log import ACCESS_LOG_FORMAT
from tidegate.schemas.rows.service_metrics import UNROUTED
from tidegate.schemas.settings import Settings, Stack
from tidegate.stack import state
from tidegate.stack.local import LocalStack

pytestmark = pytest.mark.alone

SECONDS = 12.0
GROUPS = {
    task.cluster(version): (task.department, task.name) for task in DEMO.tasks for version in task.versions
}


@dataclass(frozen=True)
class Played:
    """What is known after a day has been played."""

    stack: LocalStack
    report: LoadReport
    lines: list[dict[str, Any]]

    def of_the_day(self) -> list[dict[str, Any]]:
        """The lines of the day's own requests, without the closing ones."""
        assert self.report.cut_off_ms is not None
        return [line for line in self.lines if ended_ms(line) < self.report.cut_off_ms]

    def port(self) -> int:
        return state.read(self.stack.state_dir).ports["gateway.http"]


def ended_ms(line: dict[str, Any]) -> float:
    return float(datetime.fromisoformat(line["start_time"]).timestamp() * 1000 + line["duration"])


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("gateway")
    scenario_file = folder / "scenario.json"
    DEMO.write(scenario_file)
    settings = Settings(stack=Stack(state_dir=folder))
    with LocalStack(settings, [Replicas(DEMO, scenario_file)]) as stack:
        stack.up()
        stack.add(DemoGateway(settings, DEMO, Replicas.listening(folder / "replicas")))
        stack.up(["gateway"])
        port = state.read(folder).ports["gateway.http"]
        stack.add(Clients(scenario_file, port, SECONDS))
        stack.up(["clients"])

        def report() -> LoadReport:
            return Clients.report(folder / "clients") or LoadReport("day", 0, ())

        wait_for(lambda: report().phase == "closing")
        wait_for(lambda: any(ended_ms(line) > (report().cut_off_ms or 0) for line in read_log(folder)))
        stack.down(["clients"])
        yield Played(stack, report(), read_log(folder))


def read_log(folder: Path) -> list[dict[str, Any]]:
    text = envoy_config.Files(folder / "gateway").access_log.read_text()
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def group_of(line: dict[str, Any]) -> tuple[str, str]:
    return GROUPS.get(line["upstream_cluster"], (UNROUTED, UNROUTED))


def test_every_line_has_exactly_the_contracts_keys(played: Played) -> None:
    assert played.lines
    for line in played.lines:
        assert set(line) == set(ACCESS_LOG_FORMAT)


def test_the_log_has_every_request_that_the_clients_sent(played: Played) -> None:
    logged = Counter(group_of(line) for line in played.of_the_day())
    assert logged == {(task.department, task.task): task.sent for task in played.report.tasks}
    assert len(logged) == len(DEMO.tasks) + 1


def test_nothing_broke_and_nothing_was_skipped(played: Played) -> None:
    assert sum(task.broken for task in played.report.tasks) == 0
    assert played.report.skipped == 0


def test_requests_over_the_limit_are_refused_and_marked(played: Played) -> None:
    refused = [line for line in played.of_the_day() if line["response_code"] == 429]
    assert len(refused) == sum(task.limited for task in played.report.tasks) > 0
    for line in refused:
        assert group_of(line) == ("assistants", "summarise")
        assert line["response_flags"] == "RL"
        assert line["response_code_details"] == "local_rate_limited"
        assert line["upstream_host"] is None


def test_clients_that_left_early_have_no_response_code(played: Played) -> None:
    left = [line for line in played.of_the_day() if line["response_code"] == 0]
    assert left
    assert {group_of(line)[1] for line in left} <= {"speech-to-text", "chat"}
    for line in left:
        assert line["response_flags"] == "DC"


def test_the_streaming_models_lines_have_tokens_and_a_first_byte_well_before_the_end(played: Played) -> None:
    streamed = [line for line in played.of_the_day() if line["output_tokens"] is not None]
    assert streamed
    for line in streamed:
        assert group_of(line) == ("assistants", "chat")
        assert line["model"] == "chat-8b"
        assert int(line["input_tokens"]) > 0
        assert int(line["output_tokens"]) > 0
    times = [(line["response_duration"], line["duration"]) for line in streamed]
    assert all(first <= last for first, last in times)
    assert any(first < last for first, last in times)


def test_an_unknown_path_has_no_cluster_whatever_task_it_names(played: Played) -> None:
    unrouted = [line for line in played.of_the_day() if line["upstream_cluster"] is None]
    assert unrouted
    for line in unrouted:
        assert (line["response_code"], line["response_flags"]) == (404, "NR")
        assert line["taskid"]


def test_both_versions_answer_and_every_replica_does(played: Played) -> None:
    clusters = {line["upstream_cluster"] for line in played.lines}
    assert set(GROUPS) <= clusters
    hosts = {line["upstream_host"] for line in played.lines} - {None}
    assert hosts == set(Replicas.listening(played.stack.state_dir / "replicas").values())


def test_a_failing_replica_fails_and_no_other_does(played: Played) -> None:
    failing = Replicas.listening(played.stack.state_dir / "replicas")["fraud-score-2"]
    hosts = {line["upstream_host"] for line in played.of_the_day() if line["response_code"] == 503}
    assert hosts == {failing}


def test_the_gateways_name_and_the_clients_are_in_the_log(played: Played) -> None:
    assert {line["gateway"] for line in played.lines} == {"gateway-1"}
    assert {line["client"] for line in played.lines} == {"web", "app", "batch"}
    assert all(line["traceparent"] for line in played.lines)


def test_a_limit_changes_on_a_running_gateway_when_its_file_is_replaced(played: Played) -> None:
    def burst(task: str, count: int = 30) -> Counter[int]:
        return Counter(status_of(played.port(), task) for _ in range(count))

    assert burst("spell-check") == {200: 30}
    files = envoy_config.Files(played.stack.state_dir / "gateway")
    envoy_config.replace(files.routes, envoy_config.routes(DEMO, {"spell-check": 2}))
    wait_for(lambda: burst("spell-check")[429] > 0)
    envoy_config.replace(files.routes, envoy_config.routes(DEMO, {}))
    wait_for(lambda: burst("spell-check") == {200: 30})


def test_a_replica_that_left_gets_no_further_request(played: Played) -> None:
    task = next(task for task in DEMO.tasks if task.name == "spell-check")
    replicas = Replicas.listening(played.stack.state_dir / "replicas")
    files = envoy_config.Files(played.stack.state_dir / "gateway")
    stays, leaves = (replicas[replica.name] for replica in task.replicas())
    cluster = task.cluster(task.versions[0])
    envoy_config.replace(files.endpoints(task, task.versions[0]), envoy_config.endpoints(cluster, [stays]))

    def answering() -> set[str]:
        since = len(read_log(played.stack.state_dir))
        for _ in range(20):
            assert status_of(played.port(), task.name) == 200
        wait_for(lambda: len(read_log(played.stack.state_dir)) >= since + 20)
        return {line["upstream_host"] for line in read_log(played.stack.state_dir)[since:]}

    wait_for(lambda: answering() == {stays})
    envoy_config.replace(
        files.endpoints(task, task.versions[0]), envoy_config.endpoints(cluster, [stays, leaves])
    )
    wait_for(lambda: answering() == {stays, leaves})


def status_of(port: int, task: str) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/infer", data=b"hello", headers={"taskid": task}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 (loopback)
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
