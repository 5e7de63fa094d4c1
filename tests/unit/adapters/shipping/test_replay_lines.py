"""Reading and moving the time of a line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.lines import T0_MS, at, line
from tidegate.adapters.shipping.replay import parse_speed, shift_seconds_of
from tidegate.adapters.shipping.replay_lines import LineTime, shifted, time_of


def moved(text: bytes, seconds: int) -> bytes:
    time = time_of(text)
    assert time is not None
    return shifted(text, time, seconds)


def test_a_line_ends_at_its_start_plus_its_duration() -> None:
    assert time_of(line(start_time=at(1.5), duration=250).encode()) == LineTime(
        at(1.5), T0_MS + 1500, T0_MS + 1750
    )


@pytest.mark.parametrize("duration", [None, "-", "x", -5, True, [], float("1e300")])
def test_an_unknown_duration_counts_as_none(duration: object) -> None:
    time = time_of(line(start_time=at(1), duration=duration).encode())
    assert time is not None
    assert time.end_ms == time.start_ms


def test_a_duration_may_be_a_text() -> None:
    time = time_of(line(start_time=at(0), duration="12").encode())
    assert time is not None
    assert time.end_ms == T0_MS + 12


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-24T10:00:00Z", 0),
        ("2026-11-24T10:00:00.5Z", 500),
        ("2026-11-24T10:00:00.123456789Z", 123),
        ("2026-11-24T11:30:00.001+01:30", 1),
        ("2026-11-24T05:00:00-05:00", 0),
    ],
)
def test_every_form_of_a_moment_that_the_job_reads_is_read(text: str, ms: int) -> None:
    time = time_of(line(start_time=text).encode())
    assert time is not None
    assert time.start_ms == T0_MS + ms


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[1]", b'"x"', b"{}", b'{"start_time": 5}', b'{"start_time": null}', b'{"start_time": "-"}',
     b'{"start_time": "2026-13-24T10:00:00Z"}', b'{"start_time": "2026-11-24T10:00:00"}', b"\xff\xfe"],
)  # fmt: skip
def test_a_line_without_a_time_is_known_as_such(text: bytes) -> None:
    assert time_of(text) is None


times = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1))  # noqa: DTZ001 (the zone is written)


@given(times, st.text(".0123456789", max_size=5), st.integers(-(10**8), 10**8), st.text(max_size=30))
def test_only_the_start_time_is_moved(moment: datetime, digits: str, seconds: int, odd: str) -> None:
    fraction = "." + digits.replace(".", "") if digits.replace(".", "") else ""
    start = moment.replace(microsecond=0).isoformat() + fraction + "+02:00"
    text = line(start_time=start, user_agent=odd, duration=7).encode()
    result = moved(text, seconds)
    expected = json.loads(text)
    expected["start_time"] = (
        (moment.replace(microsecond=0) + timedelta(seconds=seconds)).isoformat() + fraction + "+02:00"
    )
    assert json.loads(result) == expected
    assert list(json.loads(result)) == list(expected)
    assert len(result) == len(text)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1_796_050_935, 1_796_050_995),
        (1_796_050_935.25, 1_796_050_995.25),
        (1_796_050_935_001, 1_796_050_995_001),
        ("1796050935.001999", "1796050995.001999"),
        ("1796050935001999999", "1796050995001999999"),
        ("2026/11/30T15:02:15.5+0000", "2026/11/30T15:03:15.5+0000"),
        (" 2026-11-30 15:02:15Z", " 2026-11-30 15:03:15Z"),
    ],
)
def test_a_start_time_is_moved_in_its_own_form(given: object, expected: object) -> None:
    assert json.loads(moved(line(start_time=given).encode(), 60))["start_time"] == expected


def test_a_forged_start_time_inside_a_text_is_not_touched() -> None:
    forged = 'x", "start_time": "2000-01-01T00:00:00Z'
    text = line(start_time=at(0), user_agent=forged, path=forged).encode()
    result = json.loads(moved(text, 60))
    assert result["start_time"] == at(60)
    assert result["user_agent"] == result["path"] == forged


def test_a_start_time_inside_an_inner_object_is_not_touched() -> None:
    inner = {"start_time": at(0)}
    text = b'{"a": {"start_time": "%b"}, "start_time": "%b"}' % (at(0).encode(), at(0).encode())
    assert json.loads(moved(text, 60)) == {"a": inner, "start_time": at(60)}


def test_of_two_start_times_the_one_that_counts_is_moved() -> None:
    text = b'{"start_time": "%b", "start_time": "%b"}' % (at(5).encode(), at(0).encode())
    assert json.loads(moved(text, 60)) == {"start_time": at(60)}
    assert at(5).encode() in moved(text, 60)


def test_a_line_with_bytes_that_are_no_text_goes_as_it_is() -> None:
    assert time_of(line(user_agent="A").encode().replace(b'"A"', b'"\xff"')) is None


@given(st.integers(0, 10**13), st.integers(0, 10**9), st.one_of(st.none(), st.floats(0.1, 1000)))
def test_shifted_no_request_ends_after_it_is_sent(first: int, length: int, speed: float | None) -> None:
    now, last = 1_795_514_400_000, first + length
    shift = shift_seconds_of(first, last, speed, now) * 1000
    sent_last = now + (0 if speed is None else length / speed)
    assert first + shift <= now
    assert last + shift <= sent_last + 1
    assert first + shift > now - 2000 or last + shift > sent_last - 2000


def test_speed_is_max_or_a_positive_number() -> None:
    assert parse_speed("max") is None
    assert parse_speed("10") == 10
    for wrong in ("0", "-1", "fast", "nan", "inf"):
        with pytest.raises(ValueError, match=r".+"):
            parse_speed(wrong)


def test_moving_by_now_is_exact() -> None:
    start = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
    assert time_of(moved(line(start_time=at(0.25)).encode(), 3600)) == LineTime(
        at(3600.25),
        int((start + timedelta(seconds=3600.25)).timestamp() * 1000),
        int((start + timedelta(seconds=3600.25)).timestamp() * 1000) + 120,
    )
