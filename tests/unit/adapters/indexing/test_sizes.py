"""What the days that are kept come to take, from what is measured."""

from __future__ import annotations

from datetime import date

import pytest

from tidegate.adapters.indexing.retention import Requests, Room


def room(per_million: float | None, keep_days: int | None) -> Room:
    return Room("a.topic", 3, 1000, 5_000_000, per_million, keep_days)


def test_the_kept_days_and_today_take_so_much_for_so_many_requests_a_day() -> None:
    assert room(131e6, 2).kept_bytes(10e6) == pytest.approx(131e6 * 10 * 3)


def test_a_topic_without_days_stays_as_large_as_it_is() -> None:
    assert room(None, None).kept_bytes(10e6) == 5_000_000


def test_nothing_is_made_up_where_no_request_is_known() -> None:
    assert room(None, 2).kept_bytes(10e6) is None
    assert Requests({}, 0).per_day is None


def test_a_day_that_is_not_over_counts_for_the_minutes_that_it_has() -> None:
    two_days = {date(2026, 11, 23): 1_440_000, date(2026, 11, 24): 60_000}
    assert Requests(two_days, 1440 + 60).per_day == pytest.approx(1_440_000)
