"""Timestamps: every reader agrees on the same text, and each refuses what isn't of its form."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle.values import Unreadable, epoch_ms, strict_json
from tests.support.times import TIMES
from tidegate.adapters.indexing.documents import read_time
from tidegate.adapters.shipping.replay_lines import time_of
from tidegate.jobs.logic.logs.fields import fields_of
from tidegate.jobs.logic.resources.raw_samples import at_ms_of
from tidegate.schemas.timestamps import from_log_text, from_text, line_epoch_ms, to_epoch_ms, to_text
from tidegate.ui.series import start_of

_MINUTES = st.integers(-23 * 60 - 59, 23 * 60 + 59)
MOMENTS = st.datetimes(
    datetime(1970, 1, 2),  # noqa: DTZ001 (the strategy adds the zone)
    datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=_MINUTES.map(lambda m: timezone(timedelta(minutes=m))),
)
NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """An RFC 3339 text: 0 to 9 digits of the second's fraction, Z or an offset."""
    moment = draw(MOMENTS)
    digits = draw(st.text("0123456789", max_size=9))
    zone = moment.strftime("%z")
    shown = "Z" if zone == "+0000" and draw(st.booleans()) else f"{zone[:3]}:{zone[3:5]}"
    return f"{moment.replace(tzinfo=None):%Y-%m-%dT%H:%M:%S}{'.' if digits else ''}{digits}{shown}"


@given(texts())
def test_every_reader_agrees_on_the_same_text(text: str) -> None:
    moment = from_text(text)
    at_ms = to_epoch_ms(moment)
    line = time_of(orjson.dumps({"start_time": text}))
    assert line is not None
    assert line.start_ms == line_epoch_ms(text) == at_ms_of({"timestamp": text}) == at_ms
    assert read_time(text) == from_log_text(text) == moment
    assert fields_of(f"{text} INFO started", NOW).time == moment
    assert fields_of(orjson.dumps({"time": text}).decode(), NOW).time == moment
    assert start_of({"window_start": text}) == at_ms // 1000
    assert to_epoch_ms(from_text(to_text(moment))) == at_ms


@pytest.mark.parametrize("text", ["", "soon", "2026-11-24T10:00:00", "2026-13-24T10:00:00Z", "2026-11-24"])
def test_a_row_needs_a_whole_moment_with_a_time_zone(text: str) -> None:
    with pytest.raises(ValueError, match=r"Invalid isoformat|needs a time zone|month must be"):
        from_text(text)


@pytest.mark.parametrize(("given", "at_ms"), TIMES)
def test_a_line_is_read_as_the_table_has_it(given: object, at_ms: int | None) -> None:
    assert line_epoch_ms(given) == at_ms


@pytest.mark.parametrize(("given", "at_ms"), TIMES)
def test_the_oracle_reads_a_line_as_the_table_has_it(given: object, at_ms: int | None) -> None:
    value = strict_json(json.dumps(given).encode())
    if at_ms is None:
        with pytest.raises(Unreadable):
            epoch_ms(value)
    else:
        assert epoch_ms(value) == at_ms


@pytest.mark.parametrize(
    "text", ["2026/11/24 10:00:00,5", "[2026-11-24T11:00:00.5+0100]", "2026-11-24 10:00:00.5 UTC"]
)
def test_a_log_record_is_read_as_loggers_write_it(text: str) -> None:
    assert from_log_text(text) == datetime(2026, 11, 24, 10, 0, 0, 500_000, tzinfo=UTC)


def test_a_log_records_time_begins_within_so_many_characters() -> None:
    record = "INFO  2026-11-24T10:00:00Z ready"
    assert from_log_text(record) is None
    assert from_log_text(record, within=4) == datetime(2026, 11, 24, 10, tzinfo=UTC)
    assert from_log_text(record, within=3) is None
