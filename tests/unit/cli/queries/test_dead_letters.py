"""How `tidegate dead-letters` groups letters and shows them."""

from __future__ import annotations

from datetime import UTC, datetime

from tidegate.adapters.queries.dead_letters import LetterFilter, by_reason, kind_of
from tidegate.cli.queries.dead_letters import group_lines, letter_line, shown
from tidegate.schemas.dead_letters import dead_letter
from tidegate.schemas.rows.accounting import DeadLetter


def letter(offset: int, reason: str, text: bytes = b"what") -> DeadLetter:
    moment = datetime(2026, 12, 1, 10, 0, offset, tzinfo=UTC)
    return dead_letter("gateway.access-logs", 0, offset, reason, text, "service-metrics", moment)


def test_letters_of_one_kind_are_one_group_with_the_newest_excerpt() -> None:
    letters = [
        letter(1, "start_time: 'soon' is not a time"),
        letter(3, "start_time: 'later' is not a time", b"{later"),
        letter(2, "not JSON"),
        letter(2, "not JSON"),
    ]
    times, other = by_reason(letters)
    assert (times.letters, times.reason) == (2, "start_time: … is not a time")
    assert times.newest == letters[1]
    assert (other.letters, other.reason) == (1, "not JSON"), "written twice, counted once"
    assert list(group_lines(times)) == [
        "2 of gateway.access-logs, 2026-12-01T10:00:01.000Z to 2026-12-01T10:00:03.000Z: "
        "start_time: 'later' is not a time",
        '    gateway.access-logs-0-3: "{later"',
    ]


def test_an_apostrophe_is_not_a_quote() -> None:
    assert kind_of("duration: isn't a number, can't be 'x' or \"y\" or 12.5") == (
        "duration: isn't a number, can't be … or … or …"
    )


def test_a_letter_that_came_is_one_line_also_with_control_characters() -> None:
    line = letter_line(letter(1, "not JSON", b"\x1b[31mred\nnext\xc2\x9b"))
    assert line.isprintable()
    assert "\\u001b[31mred\\nnext\\u009b" in line
    assert shown("x" * 1000).endswith('x"…')


def test_a_filter_takes_a_part_of_the_reason_and_a_whole_topic() -> None:
    one = letter(1, "not JSON")
    assert LetterFilter("gateway.access-logs", "json").wants(one)
    assert not LetterFilter("gateway", None).wants(one)
    assert not LetterFilter(None, "time").wants(one)
