"""What becomes of a Kafka message on its way to Elasticsearch."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.lines import at, record
from tidegate.adapters.indexing.documents import (
    MAX_ID_BYTES,
    Document,
    DocumentMaker,
    Position,
    Received,
    Refusal,
    document_id,
    read_time,
)
from tidegate.jobs.logic.outcome import outcome_of
from tidegate.schemas.elasticsearch import contract_of
from tidegate.schemas.settings import AccessLog

KAFKA_MS = int(datetime(2026, 11, 25, 0, 0, 5, tzinfo=UTC).timestamp() * 1000)
"""Five seconds after midnight: the day after `start_time`'s in most tests."""


def received(value: bytes | None, topic: str = "gateway.access-logs", **more: Any) -> Received:
    return Received(Position(topic, 2, 77), KAFKA_MS, value, **more)


def made(content: object, topic: str = "gateway.access-logs", **more: Any) -> Document:
    maker = DocumentMaker(contract_of(topic), "p-")
    document = maker.make(received(json.dumps(content).encode(), topic, **more))
    assert isinstance(document, Document), document
    return document


def refused(value: bytes, topic: str = "tidegate.service-metrics.1s") -> Refusal:
    refusal = DocumentMaker(contract_of(topic), "p-").make(received(value, topic))
    assert isinstance(refusal, Refusal), refusal
    return refusal


def row(**fields: object) -> dict[str, object]:
    return {"id": "1s|task|vision|chat|||1795514400000", "window_start": "2026-11-24T10:00:00.000Z"} | fields


def test_a_row_keeps_its_own_id_and_goes_to_its_own_day() -> None:
    document = made(row(requests=3), "tidegate.service-metrics.1s")
    assert document.id == "1s|task|vision|chat|||1795514400000"
    assert document.index_name == "p-tidegate-service-metrics-1s-2026.11.24"
    assert json.loads(document.body) == row(requests=3)


def test_a_row_of_what_is_true_now_has_one_index_for_all_days() -> None:
    document = made({"id": "gateway.access-logs|counted", "lines": 4}, "tidegate.line-counts")
    assert document.index_name == "p-tidegate-line-counts"


def test_the_day_is_utc_whatever_zone_the_time_is_written_in() -> None:
    document = made(row(window_start="2026-11-25T01:30:00.000+02:00"), "tidegate.service-metrics.1s")
    assert document.index_name.endswith("2026.11.24")


@pytest.mark.parametrize("row_id", [None, "", 7, ["x"]])
def test_a_row_without_an_id_is_refused(row_id: object) -> None:
    assert refused(json.dumps(row(id=row_id)).encode()).reason.startswith("id: ")


@pytest.mark.parametrize("time", [None, "", "yesterday", 12, "2026-11-24T10:00:00", "1969-12-31T23:59:59Z"])
def test_a_row_whose_day_is_unknown_is_refused(time: object) -> None:
    assert refused(json.dumps(row(window_start=time)).encode()).reason.startswith("window_start: ")


@pytest.mark.parametrize("value", [b"", b"{", b"[1]", b'"text"', b"12", b"null", b"\xff\xfe", b'{"a":NaN}'])
def test_what_is_no_json_object_is_refused(value: bytes) -> None:
    refusal = refused(value, "gateway.access-logs")
    assert refusal.reason.startswith("value: ")
    assert refusal.value == value


def test_a_tombstone_is_neither_document_nor_refusal() -> None:
    assert DocumentMaker(contract_of("tidegate.line-counts"), "").make(received(None)) is None


def test_a_line_is_named_after_where_it_lies() -> None:
    document = made(record(start_time=at(0)))
    assert document.id == "gateway.access-logs-2-77"
    assert document.index_name == "p-gateway-access-logs-2026.11.24"


def test_a_late_line_keeps_the_name_that_it_came_with() -> None:
    assert (
        made(record(), "tidegate.late", header_id="gateway.access-logs-0-9").id == "gateway.access-logs-0-9"
    )
    assert made(record(), "tidegate.late").id == "tidegate.late-2-77"


def test_a_line_stays_as_it_is_but_for_its_time_and_dashes_where_numbers_belong() -> None:
    line = record(start_time=at(1.5), duration="-", upstream_service_time="41", response_flags="-", path="-")
    document = json.loads(made(line).body)
    assert document.pop("@timestamp") == at(1.5)
    whose = {
        "department": "vision",
        "task": "chat",
        "version": None,
        "replica": "10.60.1.10:8080",
        "outcome": "ok",
    }
    assert document == {key: value for key, value in line.items() if key != "duration"} | whose


@pytest.mark.parametrize(
    ("value", "indexed"),
    [("Unavailable", 14), ("DEADLINE_EXCEEDED", 4), (" OK ", 0), (5, 5), ("Teapot", "Teapot"), (None, None)],
)
def test_a_grpc_status_that_is_a_name_is_searchable_as_its_number(value: object, indexed: object) -> None:
    assert json.loads(made(record(grpc_status=value)).body)["grpc_status"] == indexed


@pytest.mark.parametrize(
    ("cluster", "whose"),
    [
        ("outbound|8080|v2|service-chat.vision.svc.cluster.local", ("vision-team", "chat", "v2")),
        ("local_models", ("default", "local_models", None)),
        ("httproute/vision/chat/rule/0", ("vision-team", "chat", None)),
        ("outbound|443||api.example.com", ("external", "api.example.com", None)),
        ("a name with spaces", ("default", "__overflow__", None)),
        (None, ("__unrouted__", "__unrouted__", None)),
        ("-", ("__unrouted__", "__unrouted__", None)),
        (7, ("__unrouted__", "__unrouted__", None)),
    ],
)
def test_a_line_gets_whose_it_is_by_what_the_gateway_decided(
    cluster: object, whose: tuple[str, str, str | None]
) -> None:
    maker = DocumentMaker(
        contract_of("gateway.access-logs"), "", AccessLog(departments={"vision": "vision-team"})
    )
    line = record(taskid="another") | {"upstream_cluster": cluster, "task": "a client's word"}
    document = maker.make(received(json.dumps(line).encode()))
    assert isinstance(document, Document)
    found = json.loads(document.body)
    assert (found["department"], found["task"], found["version"]) == whose


@pytest.mark.parametrize(
    ("host", "replica"),
    [
        ("envoy://connect_originate/[::1]:8080", "[::1]:8080"),
        ("10.0.0.1:80", "10.0.0.1:80"),
        ("-", None),
        (None, None),
    ],
)
def test_a_line_gets_its_replica_as_rows_name_it(host: str | None, replica: str | None) -> None:
    assert json.loads(made(record(upstream_host=host)).body)["replica"] == replica


def test_a_line_is_named_by_the_key_of_the_settings() -> None:
    maker = DocumentMaker(contract_of("gateway.access-logs"), "", AccessLog(name_key="route_name"))
    for route, task in (("ocr", "ocr"), ("-", "chat")):
        document = maker.make(received(json.dumps(record(route_name=route)).encode()))
        assert isinstance(document, Document)
        assert json.loads(document.body)["task"] == task


@pytest.mark.parametrize("start_time", [None, "-", "soon", 5, "1971-01-01T00:00:00Z", "2031-01-01T00:00:00Z"])
def test_a_line_with_no_credible_time_is_filed_under_kafkas(start_time: object) -> None:
    document = made(record() | {"start_time": start_time})
    assert document.index_name == "p-gateway-access-logs-2026.11.25"
    assert json.loads(document.body)["@timestamp"] == "2026-11-25T00:00:05.000Z"


def test_a_key_that_comes_twice_is_one_field() -> None:
    line = received(b'{"start_time":"2026-11-24T10:00:00Z","taskid":"a","taskid":"b"}')
    document = DocumentMaker(contract_of("gateway.access-logs"), "").make(line)
    assert isinstance(document, Document)
    assert document.body.count(b'"taskid"') == 1


@given(st.text(min_size=1, max_size=700))
def test_an_id_always_fits_and_two_ids_never_become_one(text: str) -> None:
    made_of = document_id(text)
    assert len(made_of.encode("utf-8", "surrogatepass")) <= MAX_ID_BYTES
    assert document_id(text + "x") != made_of


FINITE = st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.integers(min_value=-(2**63), max_value=2**63 - 1)


@given(st.dictionaries(st.text(), st.none() | st.booleans() | WHOLE | FINITE | st.text()))
def test_any_object_becomes_a_document_of_one_line_with_all_that_it_says(line: dict[str, object]) -> None:
    document = made(line)
    assert b"\n" not in document.body
    numbers = contract_of("gateway.access-logs").numbers
    kept = {key: value for key, value in line.items() if not (key in numbers and value == "-")}
    added = {"@timestamp": "2026-11-25T00:00:05.000Z"} | dict.fromkeys(("department", "task"), "__unrouted__")
    nothing = dict.fromkeys(("version", "replica"))
    assert json.loads(document.body) == kept | added | nothing | {"outcome": outcome_of(line)}


@given(st.text() | st.integers() | st.none() | st.datetimes().map(str))
def test_reading_a_time_never_fails(value: object) -> None:
    moment = read_time(value)
    assert moment is None or moment.tzinfo is UTC
