"""The whole demo, in its short form: every part real, all of it on free ports in a folder of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from tidegate.demo.envoy_config import Files
from tidegate.demo.load_report import LoadReport
from tidegate.demo.parts import Clients
from tidegate.demo.scenario import DEMO
from tidegate.schemas.rows.service_metrics import UNROUTED
from tidegate.schemas.settings import Settings, Stack
from tidegate.stack import local_stack, state

pytestmark = [pytest.mark.timeout(600), pytest.mark.alone]

_COMMAND = (sys.executable, "-m", "tidegate.cli.main")
_ROW = re.compile(r"^(\w+) +([\w-]*[a-z][\w-]*)? +([\d,]+) +([\d,]+) .*(equal|differs)", re.MULTILINE)
"""Department, task (absent for what was routed nowhere), sent, counted."""
_CUT = re.compile(
    r"^translate: 2 left" + r" +([\d.]+)" * 4 + r" +20 -> 10 +([\d.]+) +([\d.]+) *$", re.MULTILINE
)
"""Seconds after: seen, settled, decided, in force; then the admitted requests before and after, in % of the limit."""


@dataclass(frozen=True)
class Run:
    """One demo that has ended."""

    folder: Path
    code: int
    output: str

    def report(self) -> LoadReport:
        report = LoadReport.read(self.folder / Clients.name / "report.json")
        assert report is not None
        return report

    def counted(self) -> dict[tuple[str, str], int]:
        """Department and task to the requests that tidegate counted, as the summary tells them."""
        return {
            (row[1], row[2] or row[1]): int(row[4].replace(",", ""))
            for row in _ROW.finditer(self.output)
            if row[1] != "all"
        }


def environment(state_dir: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    return clean | {"TIDEGATE_STACK__STATE_DIR": str(state_dir), "COLUMNS": "140"}


def left_running(state_dir: Path) -> list[str]:
    """Processes that have anything to do with this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            reported = [*process.cmdline(), process.cwd()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(state_dir) in text for text in reported):
            found.append(f"{process.pid} {' '.join(reported)[:200]}")
    return found


def purge(state_dir: Path) -> None:
    """Remove what servers put outside of the demo's folder: under root, Elasticsearch can't enter pytest's."""
    local_stack(Settings(stack=Stack(state_dir=state_dir))).down(purge=True)


@pytest.fixture(scope="module")
def short_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    state_dir = tmp_path_factory.mktemp("demo")
    result = subprocess.run(
        (*_COMMAND, "demo", "--seconds", "20"),
        env=environment(state_dir),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=540,
        check=False,
    )
    yield Run(state_dir / "demo", result.returncode, result.stdout)
    purge(state_dir / "demo")


def test_it_ends_by_itself_and_well(short_demo: Run) -> None:
    assert short_demo.code == 0, short_demo.output
    assert "Every request that the clients sent is accounted for." in short_demo.output


def test_it_leaves_nothing_running(short_demo: Run) -> None:
    assert left_running(short_demo.folder) == []
    assert state.read(short_demo.folder).servers == {}


def test_tidegate_counted_exactly_the_requests_that_envoy_logged(short_demo: Run) -> None:
    cut_off_ms = short_demo.report().cut_off_ms
    assert cut_off_ms is not None
    groups = {
        task.cluster(version): (task.department, task.name)
        for task in DEMO.tasks
        for version in task.versions
    }
    lines = map(json.loads, Files(short_demo.folder / "gateway").access_log.read_text().splitlines())
    logged = Counter(
        groups.get(line["upstream_cluster"], (UNROUTED, UNROUTED))
        for line in lines
        if ended_ms(line) < cut_off_ms
    )
    assert len(logged) == len(DEMO.tasks) + 1
    assert short_demo.counted() == logged, short_demo.output


def test_its_output_says_what_it_does_and_what_it_measured(short_demo: Run) -> None:
    for text in ("1/8", "8/8", "newest 10 s", "lag from a second's end to its rows", "Next steps"):
        assert text in short_demo.output


def test_one_failed_request_is_looked_up_down_to_its_models_stack_trace(short_demo: Run) -> None:
    reported = short_demo.output.partition("One failed request")[2]
    for text in (
        "commerce/fraud-score, replica 127.0.0.1:",
        "503 (via_upstream)",
        "fraud-score-2",
        "<- its second",
    ):
        assert text in reported
    assert "fraud_score.pool.StoreUnavailable: features-2:9000 gave no answer within 0.02 s" in reported


def test_every_failed_request_has_one_record_with_its_id(short_demo: Run) -> None:
    lines = map(json.loads, Files(short_demo.folder / "gateway").access_log.read_text().splitlines())
    failed = {line["request_id"] for line in lines if line["response_code"] == 503}
    logs = (short_demo.folder / "replicas" / "logs").rglob("*.log")
    reported = Counter(
        re.findall(
            r"ERROR .*request_id=(\S+)", "\n".join(log.read_text() for log in logs if "chat" not in log.name)
        )
    )
    assert failed
    assert reported == Counter(failed)


def test_the_limit_followed_the_replicas_that_left_and_the_summary_says_how_soon(short_demo: Run) -> None:
    cut = _CUT.search(short_demo.output)
    assert cut is not None, short_demo.output
    seen, settled, decided, applied, before, after = map(float, cut.groups())
    assert seen <= settled <= decided <= applied
    assert round(settled - seen, 1) >= 1.9, "a lower count settles after two seconds, each shown to a tenth"
    # A bucket is filled once a second: in the few seconds of this short day one more or less is a fifth.
    assert (before, after) == (pytest.approx(100, abs=25), pytest.approx(100, abs=25))


def test_the_gateway_admitted_what_the_replicas_that_stayed_can_take(short_demo: Run) -> None:
    """By Envoy's own log: the last seconds of the day are long after the cut."""
    cut_off_ms = short_demo.report().cut_off_ms
    assert cut_off_ms is not None
    lines = map(json.loads, Files(short_demo.folder / "gateway").access_log.read_text().splitlines())
    begins = [
        (datetime.fromisoformat(line["start_time"]).timestamp(), line["response_code"])
        for line in lines
        if "service-translate." in (line["upstream_cluster"] or "") and ended_ms(line) < cut_off_ms
    ]
    end = max(at for at, _ in begins)
    codes = Counter(code for at, code in begins if end - 5 <= at < end)
    assert codes[200] / 5 == pytest.approx(10, rel=0.1)
    assert codes[429] / 5 > 10


def test_a_real_prometheus_scrape_and_an_alert_are_in_what_was_known_at_the_end(short_demo: Run) -> None:
    """The replicas' CPU has gone through Prometheus, remote write, Kafka, windows and profile."""
    known = short_demo.output.partition("Task profiles at the end")[2]
    (line,) = re.findall(r"^  translate +(.*)$", known, re.MULTILINE)
    ready, qps, _, _, _, _, cpu, _, memory, gpu = line.split()
    assert ready == "4/4", line
    assert float(qps) > 0
    assert 0 < float(cpu) < 60, line
    assert 0 < float(memory) < 60, line
    assert 0 < float(gpu) <= 100, line
    assert re.search(r"firing warning half-refused: \d+% of the requests of translate are refused", known)


def test_every_part_stays_within_the_memory_meant_for_the_demo(short_demo: Run) -> None:
    assert "GiB, within the 6 GiB" in short_demo.output


def has_load(folder: Path) -> bool:
    report = LoadReport.read(folder / Clients.name / "report.json")
    return report is not None and report.sent > 500


def submits_jobs(folder: Path) -> bool:
    return (folder / "logs" / "submit-replica-changes.log").exists()


def starts_servers(folder: Path) -> bool:
    return (folder / "logs" / "kafka.log").exists()


@pytest.mark.parametrize(
    "moment",
    [
        starts_servers,
        pytest.param(submits_jobs, marks=pytest.mark.slow),
        pytest.param(has_load, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_demo_ends_everything_and_says_so(
    tmp_path: Path, moment: Callable[[Path], bool]
) -> None:
    process = subprocess.Popen(
        (*_COMMAND, "demo", "--seconds", "120"),
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not moment(tmp_path / "demo"):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, "not there after five minutes"
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
    assert process.returncode == 130, output
    assert ("ended early" in output) == (moment is has_load)
    assert left_running(tmp_path) == []
    purge(tmp_path / "demo")


def ended_ms(line: dict[str, Any]) -> float:
    return float(datetime.fromisoformat(line["start_time"]).timestamp() * 1000 + line["duration"])
