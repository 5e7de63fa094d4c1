"""Which lines of a service's log belong together, and what a record says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.jobs.logic.logs.fields import LogFields, fields_of
from tidegate.jobs.logic.logs.records import records_of, text_of

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TEN = datetime(2026, 11, 24, 10, 0, 0, 123000, tzinfo=UTC)

PYTHON = b"""2026-11-24 10:00:00,123 ERROR infer request_id=3f2a9c1e-0001 failed
Traceback (most recent call last):
  File "/app/model.py", line 12, in infer
    return self.head(batch)
           ^^^^^^^^^^^^^^^^
ValueError: shapes (3,4) and (5,) not aligned

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/app/server.py", line 40, in handle
    raise InferenceFailed("batch 7") from error
app.errors.InferenceFailed: batch 7"""
JAVA = b"""2026-11-24T10:00:00.123Z ERROR [http-1] c.e.Model - inference failed
java.lang.IllegalStateException: no weights
\tat com.example.Model.infer(Model.java:41)
\tat com.example.Server.handle(Server.java:12)
Caused by: java.io.IOException: closed
\tat com.example.Weights.read(Weights.java:7)
\t... 2 more"""
GO = b"""panic: runtime error: index out of range [3] with length 3

goroutine 18 [running]:
main.infer(0xc000010000)
\t/app/main.go:22 +0x1d
created by main.serve
\t/app/main.go:40 +0x5e"""
PLAIN = b"INFO 2026-11-24 10:00:01 ready"


@pytest.mark.parametrize("trace", [PYTHON, JAVA, GO])
def test_a_trace_is_one_record_with_the_message_above_it(trace: bytes) -> None:
    block = b"\n".join((PLAIN, trace, PLAIN, trace, PLAIN)) + b"\n"
    assert records_of(block) == [PLAIN, trace, PLAIN, trace, PLAIN]
    assert records_of(block.replace(b"\n", b"\r\n")) == [
        one.replace(b"\n", b"\r\n") for one in (PLAIN, trace, PLAIN, trace, PLAIN)
    ]


def test_a_trace_that_nothing_announces_begins_a_record() -> None:
    trace = PYTHON.partition(b"\n")[2]
    assert records_of(trace + b"\n" + PLAIN) == [trace, PLAIN]


def test_what_only_looks_like_a_trace_does_not_swallow_lines() -> None:
    lines = [b"Error rate is low", b"ValueErrors: none today", b"{", b"atlas loaded", b"Caused trouble"]
    assert records_of(b"\n".join(lines)) == lines


def test_a_containers_lines_are_joined_within_a_stream_and_over_partial_ones() -> None:
    def cri(text: bytes, stream: bytes = b"stderr", tag: bytes = b"F") -> bytes:
        return b"2026-11-24T10:00:00.123000001Z " + stream + b" " + tag + b" " + text

    trace = b"\n".join(cri(line) for line in PYTHON.split(b"\n"))
    out = cri(b"  indented, and of another stream", b"stdout")
    parts = b"\n".join((cri(b"half a ", tag=b"P"), cri(b"line")))
    assert records_of(b"\n".join((trace, out, parts))) == [trace, out, parts]
    prefix, text = text_of(trace)
    assert prefix is not None
    assert (prefix.stream, prefix.time) == ("stderr", b"2026-11-24T10:00:00.123000001Z")
    assert text == PYTHON
    assert text_of(parts)[1] == b"half a line"


@given(st.lists(st.sampled_from([PYTHON, JAVA, PLAIN, b"x", b"  y", b"", b"} "]), max_size=12))
def test_records_hold_every_line_that_says_something_once_and_in_order(parts: list[bytes]) -> None:
    block = b"\n".join(parts)
    said = [line.strip() for line in block.split(b"\n") if line.strip()]
    found = records_of(block)
    assert [line.strip() for line in b"\n".join(found).split(b"\n") if line.strip()] == said
    at = 0
    for record in found:
        at = block.index(record, at) + len(record)
        assert records_of(record) == [record], "cut anywhere between records, the same records come out"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (PYTHON.decode(), LogFields(TEN, "ERROR", "3f2a9c1e-0001")),
        (JAVA.decode(), LogFields(TEN, "ERROR")),
        (GO.decode(), LogFields(None, None)),
        (PLAIN.decode(), LogFields(datetime(2026, 11, 24, 10, 0, 1, tzinfo=UTC), "INFO")),
        ("[2026-11-24 12:00:00,123 +0200] [7] [WARNING] slow", LogFields(TEN, "WARN")),
        ("2026/11/24 10:00:00.123 done", LogFields(TEN)),
        (
            "E1124 10:00:00.123456 7 server.cc:41] failed",
            LogFields(TEN + timedelta(microseconds=456), "ERROR"),
        ),
        (
            '{"ts": "2026-11-24T10:00:00.123Z", "level": "warning", "msg": "x", "requestId": "abcdefgh-1"}',
            LogFields(TEN, "WARN", "abcdefgh-1"),
        ),
        ('{"time": 1795514400.123, "severity": "info"}', LogFields(TEN, "INFO")),
        (
            "INFO traceparent=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 x-request-id: abc12345",
            LogFields(
                None, "INFO", "abc12345", "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
            ),
        ),
        (
            "level=error trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7",
            LogFields(None, "ERROR", None, "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"),
        ),
        ("ValueError: no batch", LogFields(None, "ERROR")),
        ("loaded 3 layers, no error so far", LogFields()),
        ("2026-13-45 99:00:00 what", LogFields()),
        ("GET /info HTTP/1.1", LogFields()),
        ("{ not json", LogFields()),
    ],
)  # fmt: skip
def test_what_a_record_says(text: str, wanted: LogFields) -> None:
    assert fields_of(text, NOW) == wanted


def test_a_time_without_a_year_is_never_far_ahead() -> None:
    new_year = datetime(2027, 1, 1, 0, 0, 5, tzinfo=UTC)
    reported = fields_of("I1231 23:59:59.500000 7 a.cc:1] x", new_year)
    assert reported.time == datetime(2026, 12, 31, 23, 59, 59, 500000, tzinfo=UTC)


@given(st.text(max_size=300))
def test_whatever_a_record_holds_it_is_read(text: str) -> None:
    fields_of(text, NOW)
    records_of(text.encode("utf-8", "surrogatepass"))
