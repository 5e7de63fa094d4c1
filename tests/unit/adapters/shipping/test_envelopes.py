"""Blocks of a container's log: no line's end is missing, and a line that is too long is reported."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.adapters.shipping.envelopes import EnvelopeSplitter, access_lines
from tidegate.adapters.shipping.lines import Item, Lines, Overlong, Skipped

MAX = 64
CRI = "2026-12-01T10:00:00.000000001Z stdout"


def lines_and_overlong(pieces: list[bytes]) -> tuple[bytes, list[int]]:
    """The bytes of all blocks, and where the overlong lines begin. Items lie one behind the other."""
    splitter = EnvelopeSplitter(0, MAX)
    items: list[Item] = [item for piece in pieces for item in splitter.feed(piece)]
    items += splitter.rest()
    end = 0
    for item in items:
        if not isinstance(item, Skipped):
            assert item.start == end
        end = item.end
    assert end == sum(map(len, pieces))
    blocks = b"".join(item.block for item in items if isinstance(item, Lines))
    return blocks, [item.start for item in items if isinstance(item, Overlong)]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 63, 64, 65, 10_000])
def test_an_overlong_line_among_others_is_reported_however_the_file_is_read(size: int) -> None:
    before, overlong, after = b"{before}\n", b"y" * 500 + b"\n", b"{after}\n"
    assert lines_and_overlong(cut(before + overlong + after, size)) == (before + after, [len(before)])


@pytest.mark.parametrize("size", [1, 7, 63, 64, 65, 10_000])
def test_so_is_one_among_the_parts_of_a_line(size: int) -> None:
    part, overlong, rest = f"{CRI} P abc\n".encode(), b"y" * 500 + b"\n", f"{CRI} F def\n".encode()
    assert lines_and_overlong(cut(part + overlong + rest, size)) == (part + rest, [len(part)])


@pytest.mark.parametrize("size", [1, 7, 63, 64, 65, 10_000])
def test_a_part_waits_for_the_end_of_its_line(size: int) -> None:
    splitter = EnvelopeSplitter(0, 1000)
    part, rest = f"{CRI} P abc\n".encode(), f"{CRI} F def\n".encode()
    assert [item for piece in cut(part, size) for item in splitter.feed(piece)] == []
    (item,) = [item for piece in cut(rest, size) for item in splitter.feed(piece)]
    assert isinstance(item, Lines)
    assert item.block == part + rest


@pytest.mark.parametrize("size", [1, 7, 99, 100, 300, 10_000])
def test_parts_behind_an_overlong_line_are_one_line(size: int) -> None:
    splitter = EnvelopeSplitter(0, 100)
    data = b"y" * 250 + f"\n{CRI} P abc\n{CRI} F def\n".encode()
    items = [item for piece in cut(data, size) for item in splitter.feed(piece)]
    lines = [line for item in items if isinstance(item, Lines) for line in access_lines(item.block)[0]]
    assert lines == [b"abcdef"]


@given(
    st.lists(
        st.one_of(
            st.sampled_from([f"{CRI} P abc", f"{CRI} F def", "{}", ""]),
            st.integers(0, 3 * MAX).map(lambda length: "z" * length),
        ),
        max_size=12,
    ),
    st.integers(1, 4 * MAX),
)
def test_all_but_the_overlong_lines_is_in_blocks(lines: list[str], size: int) -> None:
    data = "".join(f"{line}\n" for line in lines).encode()
    blocks, overlong = lines_and_overlong(cut(data, size))
    assert blocks == "".join(f"{line}\n" for line in lines if len(line) <= MAX).encode()
    assert len(overlong) == sum(len(line) > MAX for line in lines)
