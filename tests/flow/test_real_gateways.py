"""Lines of real gateways in the job: inputs that were read wrongly once, and every way in which a request can end."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.oracle import OracleSettings, Request, Skipped, raw_lines, read
from tests.support.envoy_gateway import BY_NAME, DEPARTMENT, ENDINGS
from tests.support.envoy_traffic import TOKENS, lines_of_real_requests, requests_of
from tests.support.flink_jobs import Written, problems, put, run_bounded
from tests.support.paths import ROOT
from tidegate.schemas.settings import Flink, Kafka, ServiceMetrics, Settings

CASES = ROOT / "tests" / "fixtures" / "access_log"


@pytest.fixture
def settings(kafka: Kafka, tmp_path: Path) -> Settings:
    # The cases' lines aren't in the order of time.
    return Settings(
        kafka=kafka,
        flink=Flink(checkpoint_dir=tmp_path / "checkpoints"),
        service_metrics=ServiceMetrics(watermark_delay_seconds=60),
    )


Values = dict[str, float | None]


def whole(written: Written, department: str) -> dict[str, Values]:
    """Sums over the minutes of each task of a department, with its error rate and its longest latency."""
    found: dict[str, Values] = defaultdict(lambda: defaultdict(float))
    for row in written.rows:
        if (row["span"], row["level"], row["department"]) == ("1m", "task", department):
            for name in (
                "requests",
                "errors_4xx",
                "errors_5xx",
                "aborted",
                "rate_limited",
                "upgraded",
                "latency_count",
            ):
                found[row["task"]][name] += row[name]
            found[row["task"]]["longest"] = max(
                found[row["task"]]["longest"] or 0, row["latency_max_ms"] or 0
            )
            found[row["task"]]["apdex"] = row["apdex"]
    return found


def test_inputs_that_were_read_wrongly_once_come_out_as_expected(settings: Settings) -> None:
    lines = [line for case in sorted(CASES.glob("*.log")) for line in case.read_bytes().splitlines()]
    placed = put(settings.kafka, raw_lines(lines))

    written = run_bounded(settings)

    assert problems(written, placed, settings) == []
    bugs = whole(written, "bugs")
    assert (written.counts["tcp"], written.counts["dead"]) == (7 + 5, 2 + 2)
    assert not {"a05", "a05t", "tcp"} & bugs.keys()
    assert (bugs["a06"]["requests"], bugs["a06"]["errors_5xx"], bugs["a06"]["apdex"]) == (5, 4, 0.2)
    assert set(whole(written, "external")) == {
        *("api.openrouter.example", "api.example.com", "api.example.org", "api.example.net"),
        *("sts.amazonaws.com", "10.20.30.40", "localhost", "my-svc"),
    }
    assert set(whole(written, "models")) == {"chat", "ocr", "rerank", "asr"}
    assert (bugs["a15"]["requests"], bugs["a15"]["latency_count"], bugs["a15"]["longest"]) == (11, 10, 50)
    assert (bugs["a16"]["rate_limited"], bugs["a16"]["errors_5xx"]) == (3, 2)
    flags: Counter[str] = Counter()
    for row in written.rows:
        if (row["span"], row["level"], row["task"]) == ("1m", "task", "a16"):
            flags.update(row["response_flags"])
    assert flags["UF"] == flags["URX"] == flags["UpstreamConnectionFailure"] == flags["RateLimited"] == 1
    assert bugs["vllm-llama"]["requests"] == 1
    assert bugs["a21"]["requests"] == 4
    for task in ("grpc-uf", "grpc-uh", "grpc-ut"):
        assert bugs[task]["errors_5xx"] == bugs[task]["requests"] > 0
    assert bugs["plain"]["errors_5xx"] == 4
    unquoted = [reason for reason in written.dead.values() if "unquoted" in reason]
    assert len(unquoted) == 2


def outcomes(lines: Iterable[bytes]) -> dict[str, Counter[str]]:
    """By ending, how many requests had which outcome as the oracle has it; `tcp` for lines that are no request."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for raw in raw_lines(lines):
        fields = json.loads(raw.value or b"")
        ending = fields["taskid"] or fields["upstream_cluster"].split("service-")[1].split(".")[0]
        what = read(raw, OracleSettings())
        if isinstance(what, Skipped):
            found[ending]["tcp"] += 1
        elif isinstance(what, Request):
            found[ending][str(what.outcome)] += 1
    return found


def test_each_way_in_which_a_real_request_ends_has_its_outcome(settings: Settings, tmp_path: Path) -> None:
    wanted = requests_of(2500)
    lines = lines_of_real_requests(tmp_path, wanted)
    placed = put(settings.kafka, raw_lines(lines))

    written = run_bounded(settings)

    assert problems(written, placed, settings) == []
    expected = {ending.name: Counter({ending.outcome: wanted[ending.name]}) for ending in ENDINGS}
    for limited in (ending for ending in ENDINGS if ending.outcome == "rate_limited"):
        expected[limited.name] = Counter({"rate_limited": wanted[limited.name] - 1, "ok": 1})
    assert outcomes(lines) == expected
    assert written.counts["tcp"] == sum(wanted[ending.name] for ending in ENDINGS if ending.outcome == "tcp")
    rows = whole(written, DEPARTMENT)
    for task, values in rows.items():
        outcome = BY_NAME[task].outcome
        if outcome not in ("ok", "rate_limited"):
            assert values[outcome] == values["requests"] == wanted[task]
    assert rows["websocket"]["upgraded"] == wanted["websocket"]
    assert rows["tunnel"]["upgraded"] == wanted["tunnel"]
    assert all(row["latency_count"] == 0 for row in written.rows if row["task"] in ("websocket", "tunnel"))
    streams = [
        row for row in written.rows if (row["span"], row["level"], row["task"]) == ("1m", "task", "stream")
    ]
    assert sum(row["output_tokens"] for row in streams) == TOKENS * wanted["stream"]
    assert all(row["first_byte_p50_ms"] < row["latency_p50_ms"] for row in streams)
    assert (
        sum(
            row["retries"]
            for row in written.rows
            if row["task"] == "flaky" and row["level"] == "task" and row["span"] == "1m"
        )
        == wanted["flaky"]
    )
