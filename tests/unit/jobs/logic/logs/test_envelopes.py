"""Access-log lines out of the envelopes of log agents."""

from __future__ import annotations

import json

import pytest

from tests.support.envelopes import CRI, CRI_PART, ENVELOPES, LINE
from tidegate.adapters.shipping.envelopes import EnvelopeSplitter, access_lines
from tidegate.adapters.shipping.lines import Lines
from tidegate.jobs.logic.logs.envelopes import joined_end, opened, opened_lines

_CUT = 300
_PART = (CRI_PART + LINE[:_CUT]).encode()
_REST = (CRI + LINE[_CUT:]).encode()
_OTHER = b"2026-11-30T15:00:00Z stderr F warning"


@pytest.mark.parametrize(("wrapped", "counted"), ENVELOPES)
def test_what_the_job_counts_is_the_line_itself_once_it_is_opened(wrapped: bytes, counted: bool) -> None:
    line = json.loads(LINE)
    try:
        content = json.loads(opened(wrapped))
    except json.JSONDecodeError:
        content = {}
    whole = isinstance(content, dict) and content.items() >= line.items()
    assert whole == counted


def test_the_parts_of_a_line_are_joined_by_stream() -> None:
    assert opened_lines([_PART, _OTHER, _REST]) == [b"warning", LINE.encode()]
    assert opened_lines([_PART]) == [LINE[:_CUT].encode()]


def test_a_block_ends_where_no_line_is_unfinished() -> None:
    block = b"\n".join([LINE.encode(), _PART, _OTHER]) + b"\n"
    assert joined_end(block) == len(LINE) + 1
    assert joined_end(block + _REST + b"\n") == len(block) + len(_REST) + 1
    assert joined_end(LINE.encode()) == 0


@pytest.mark.parametrize("size", [1, 7, 100, 400, 5000])
def test_a_file_gives_the_same_lines_however_it_is_read(size: int) -> None:
    data = b"\n".join([LINE.encode(), _PART, _OTHER, _REST, (CRI + LINE).encode()]) + b"\n"
    splitter = EnvelopeSplitter(0, 2000)
    found: list[bytes] = []
    for start in range(0, len(data), size):
        for item in splitter.feed(data[start : start + size]):
            assert isinstance(item, Lines)
            found += access_lines(item.block)[0]
    line = LINE.encode()
    assert found == [line, b"warning", line, line]
    assert splitter.offset == len(data)


def test_parts_without_an_end_take_bounded_memory() -> None:
    splitter = EnvelopeSplitter(0, 2000)
    blocks = [item for _ in range(50) for item in splitter.feed(_PART + b"\n")]
    assert all(isinstance(item, Lines) for item in blocks)
    assert splitter.read_offset == 50 * (len(_PART) + 1)
    assert splitter.read_offset - splitter.offset <= 2000
