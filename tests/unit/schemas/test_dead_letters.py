"""Dead letters: one id, excerpt and set of fields, whoever writes them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyflink.common import Row

from tidegate.jobs import messages
from tidegate.schemas.dead_letters import EXCERPT_CHARACTERS, dead_letter, excerpt_of

SEEN_AT = datetime(2026, 11, 24, 10, 0, 0, 123_456, tzinfo=UTC)


def test_the_bytes_of_a_letter_on_the_wire() -> None:
    letter = dead_letter("tidegate.access-logs", 3, 17, "line: not JSON", b"{\xff", "indexer", SEEN_AT)
    assert letter.model_dump_json() == (
        '{"id":"tidegate.access-logs-3-17|indexer","topic":"tidegate.access-logs","partition":3,"offset":17,'
        '"reason":"line: not JSON","excerpt":"{\ufffd","seen_at":"2026-11-24T10:00:00.123Z"}'
    )


@pytest.mark.parametrize(
    ("partition", "offset", "source", "expected"),
    [(0, 0, None, "t-0-0|w"), (None, None, "1:2@30", "t-1:2@30|w"), (None, None, None, "t--|w")],
)
def test_the_id_names_the_input_and_the_writer(
    partition: int | None, offset: int | None, source: str | None, expected: str
) -> None:
    assert dead_letter("t", partition, offset, "", b"", "w", SEEN_AT, source).id == expected


@given(st.text(min_size=0, max_size=4) | st.just("\N{GRINNING FACE}"), st.binary(max_size=8))
def test_an_excerpt_is_the_beginning_of_the_whole_decoded_input(text: str, odd: bytes) -> None:
    value = odd + text.encode("utf-8", "surrogatepass") * 2000 + odd
    assert excerpt_of(value) == value.decode("utf-8", "replace")[:EXCERPT_CHARACTERS]


@pytest.mark.parametrize("message", [None, b"", b"{\xff", "é".encode() * 3000])
def test_a_jobs_letter_has_the_columns_of_any_other(message: bytes | None) -> None:
    row = messages.dead_letter("bad", "t", "job", message, 1, 2, "2026-11-24T10:00:00.123Z")
    excerpt = (message or b"").decode("utf-8", "replace")[:1000]
    assert row == Row("t-1-2|job", "t", 1, 2, "bad", excerpt, "2026-11-24T10:00:00.123Z")
