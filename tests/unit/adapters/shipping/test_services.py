"""The logs of services: blocks of whole records, their owners, and the messages that records become."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tidegate.adapters.shipping.lines import Item, Lines, Overlong
from tidegate.adapters.shipping.records import RecordSplitter
from tidegate.adapters.shipping.services import LogFiles, LogOwner, message_of
from tidegate.jobs.logic.logs.records import records_of
from tidegate.schemas.settings import AccessLog, ServiceLogs

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TRACE = b"""ERROR failed
Traceback (most recent call last):
  File "a.py", line 1, in f
ValueError: x
"""
CHAT = LogOwner("vision", "chat", "chat-0")


def blocks(items: list[Item]) -> list[bytes]:
    assert all(isinstance(item, Lines) for item in items)
    return [item.block for item in items if isinstance(item, Lines)]


def test_a_record_is_held_until_the_next_one_begins_or_all_is_quiet() -> None:
    splitter = RecordSplitter(0, 1000)
    assert splitter.feed(b"one\n") == []
    assert blocks(splitter.feed(TRACE[:20])) == [b"one\n"]
    assert splitter.offset == 4
    assert splitter.feed(TRACE[20:]) == []
    assert blocks(splitter.quiet()) == [TRACE]
    assert splitter.quiet() == []
    assert splitter.feed(b"half") == []
    assert splitter.quiet() == [], "a line without its end isn't whole"
    assert blocks(splitter.rest()) == [b"half"]
    assert splitter.offset == 4 + len(TRACE) + 4


def test_a_record_that_is_too_long_is_cut_between_its_lines() -> None:
    splitter = RecordSplitter(0, 30)
    items = splitter.feed(b"ERROR\n" + b"  at f\n" * 10 + b"next\n")
    assert b"".join(blocks(items)) + b"".join(blocks(splitter.quiet())) == (
        b"ERROR\n" + b"  at f\n" * 10 + b"next\n"
    )
    assert all(len(block) <= 30 for block in blocks(items))


def test_an_overlong_line_is_reported_and_skipped() -> None:
    splitter = RecordSplitter(0, 30)
    items = [*splitter.feed(b"one\n" + b"x" * 100), *splitter.feed(b"y" * 10 + b"\ntwo\n"), *splitter.quiet()]
    assert [type(item) for item in items].count(Overlong) == 1
    assert [item.block for item in items if isinstance(item, Lines)] == [b"one\n", b"two\n"]


@given(
    st.lists(st.sampled_from([TRACE, b"one\n", b"  more\n", b"\n", b"Caused by: x\n"]), max_size=15),
    st.lists(st.integers(0, 60), max_size=20),
)
def test_however_it_is_read_the_records_are_the_same(parts: list[bytes], sizes: list[int]) -> None:
    text = b"".join(parts)
    splitter, found, at = RecordSplitter(0, 10_000), list[bytes](), 0
    for size in [*sizes, len(text)]:
        found += blocks(splitter.feed(text[at : at + size]))
        at += size
    found += blocks(splitter.rest())
    assert b"".join(found) == text
    assert [record for block in found for record in records_of(block)] == records_of(text)


@pytest.mark.parametrize(
    ("pattern", "path", "wanted"),
    [
        ("/logs/{department}/{task}/{replica}.log", "/logs/vision/chat/chat-0.log", CHAT),
        ("/logs/{department}/{task}/{replica}.log", "/logs/vision/chat/chat-0.log.2.gz", CHAT),
        ("/logs/{department}/{task}/{replica}.log", "/logs/vision/chat/chat-0.log-20261124", CHAT),
        (
            "/var/log/pods/{namespace}_{pod}_{any}/model/*.log",
            "/var/log/pods/vision_service-chat-7d9f8c6b5-x2b4z_0a1b-2c/model/0.log.20261124-100000",
            LogOwner("vision-team", "chat", "service-chat-7d9f8c6b5-x2b4z"),
        ),
        ("/logs/**/{department}.{task}.log", "/logs/a/b/vision.chat.log", LogOwner("vision", "chat", "vision.chat")),
        ("/logs/{department}/{task}.log", "/elsewhere/x.log", LogOwner("__overflow__", "__overflow__", "x")),
    ],
)  # fmt: skip
def test_a_path_contains_the_owner_of_the_log(pattern: str, path: str, wanted: LogOwner) -> None:
    files = LogFiles([pattern], AccessLog(departments={"vision": "vision-team"}))
    assert files.owner_of(Path(path)) == wanted
    assert "{" not in files.globs[0]


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("/logs/*.log", "must have {task} or {pod}"),
        ("/logs/{task}.log", "{department} or {namespace}"),
        ("/logs/{department}/{tsk}.log", "{tsk} is none of"),
    ],
)
def test_a_pattern_that_names_no_task_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ServiceLogs(files=(pattern,))


def test_a_record_becomes_a_message() -> None:
    record = (
        b"2026-11-24T10:00:00.5Z stderr F ERROR request_id=abcd-1234 failed\n"
        b"2026-11-24T10:00:00.6Z stderr F   at f"
    )
    message = message_of(record, CHAT, "0.log", NOW)
    assert message.model_dump(mode="json") == {
        "timestamp": "2026-11-24T10:00:00.500Z",
        "department": "vision",
        "task": "chat",
        "replica": "chat-0",
        "stream": "stderr",
        "message": "ERROR request_id=abcd-1234 failed\n  at f",
        "severity": "ERROR",
        "request_id": "abcd-1234",
        "trace_id": None,
        "span_id": None,
    }
    plain = message_of(b"ready", CHAT, "chat.log", NOW)
    assert (plain.timestamp, plain.stream, plain.severity) == (None, "chat.log", None)
