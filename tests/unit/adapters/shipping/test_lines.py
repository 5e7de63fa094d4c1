"""Cutting a stream of bytes into lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidegate.adapters.shipping.lines import (
    ANCHOR_BYTES,
    EXCERPT_BYTES,
    Item,
    Lines,
    LineSplitter,
    Overlong,
    lines_of,
    offset_of,
)

MAX = 20


def cut(text: bytes, sizes: list[int]) -> list[bytes]:
    parts = []
    for size in sizes:
        parts.append(text[:size])
        text = text[size:]
    return [*parts, text]


def fed(parts: list[bytes], end: bool = True) -> list[Item]:
    splitter = LineSplitter(0, MAX)
    items = [item for part in parts for item in splitter.feed(part)]
    return items + (splitter.rest() if end else [])


texts = st.lists(st.binary(max_size=50), max_size=20).map(b"\n".join)
cuts = st.lists(st.integers(0, 30), max_size=40)


@given(texts, cuts)
def test_however_it_is_cut_the_lines_are_the_same(text: bytes, sizes: list[int]) -> None:
    items = fed(cut(text, sizes))
    lines = [line for item in items if isinstance(item, Lines) for line in item.block.split(b"\n") if line]
    assert lines == [line for line in text.split(b"\n") if 0 < len(line) <= MAX]


@given(texts, cuts)
def test_the_items_cover_every_byte_once(text: bytes, sizes: list[int]) -> None:
    end = 0
    for item in fed(cut(text, sizes)):
        if isinstance(item, Lines | Overlong):
            assert item.start == end
        if isinstance(item, Lines):
            assert item.block == text[item.start : item.end]
        assert item.end >= end
        assert item.anchor == text[max(0, item.end - ANCHOR_BYTES) : item.end]
        end = item.end
    assert end == len(text)


@given(texts, cuts)
def test_each_overlong_line_is_reported_once_with_its_beginning(text: bytes, sizes: list[int]) -> None:
    reported = [(item.start, item.excerpt) for item in fed(cut(text, sizes)) if isinstance(item, Overlong)]
    start, expected = 0, []
    for line in text.split(b"\n"):
        if len(line) > MAX:
            expected.append((start, line))
        start += len(line) + 1
    assert [place for place, _ in reported] == [place for place, _ in expected]
    for (_, excerpt), (_, line) in zip(reported, expected, strict=True):
        assert (line + b"\n").startswith(excerpt)
        assert len(excerpt) >= min(MAX, EXCERPT_BYTES)


@given(texts, cuts, st.integers(0, 40))
def test_reading_on_from_any_item_gives_the_items_that_follow(
    text: bytes, sizes: list[int], place: int
) -> None:
    items = fed(cut(text, sizes))
    before, after = items[:place], items[place:]
    inside = bool(before) and not isinstance(before[-1], Lines) and before[-1].inside
    splitter = LineSplitter(before[-1].end if before else 0, MAX, inside)
    again = [*splitter.feed(text[splitter.offset :]), *splitter.rest()]

    def lines(of: list[Item]) -> list[bytes]:
        return [line for item in of if isinstance(item, Lines) for line in item.block.split(b"\n") if line]

    assert lines(again) == lines(after)
    assert [item.start for item in again if isinstance(item, Overlong)] == [
        item.start for item in after if isinstance(item, Overlong)
    ]


@given(st.integers(MAX + 1, 2000), st.integers(1, 64))
def test_no_more_than_one_line_is_ever_held(size: int, part: int) -> None:
    splitter = LineSplitter(0, MAX)
    for _ in range(0, size, part):
        splitter.feed(b"x" * part)
        assert splitter.read_offset - splitter.offset <= MAX


def test_a_line_as_long_as_allowed_is_sent() -> None:
    (item,) = fed([b"x" * MAX, b"\n"])
    assert isinstance(item, Lines)
    (overlong,) = fed([b"x" * MAX, b"x\n"])
    assert isinstance(overlong, Overlong)


def test_an_unfinished_line_is_not_given_before_the_end() -> None:
    assert fed([b"ab", b"cd"], end=False) == []
    assert fed([b"ab", b"cd"]) == [Lines(0, 4, b"abcd", b"abcd")]


def test_line_ends_are_lf_or_crlf_and_empty_lines_are_counted() -> None:
    assert lines_of(b"a\nb\n") == ([b"a", b"b"], 0)
    assert lines_of(b"a\r\nb\r\n") == ([b"a", b"b"], 0)
    assert lines_of(b"a\n\nb") == ([b"a", b"b"], 1)
    assert lines_of(b"\n\r\na\n\n") == ([b"a"], 3)


def test_no_other_byte_of_a_line_is_touched() -> None:
    odd = b"\xff\xfe\x00 \r inside \xc3( \t"
    assert lines_of(odd + b"\n" + odd + b"\r\n") == ([odd, odd], 0)


def test_a_line_is_found_where_it_stands_and_not_inside_another() -> None:
    block = b"abc\nbc\nabc\n"
    assert offset_of(b"bc", block) == 4
    assert offset_of(b"abc", block) == 0
    assert offset_of(b"abc", block, after=1) == 7
    assert offset_of(b"c", block) == -1
