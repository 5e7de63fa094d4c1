"""Which source's word counts: timelines, and laws."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.jobs.logic.replicas.sources import SourceState, accept
from tidegate.schemas.rows.limits import Source

STALE_MS = 90_000
RANK: dict[Source, int] = {"kubernetes": 0, "envoy": 1, "prometheus": 2}


def counted(words: list[tuple[float, Source]]) -> list[bool]:
    """For each word (second, source), whether it counts."""
    state, found = SourceState(), []
    for second, source in words:
        state, counts = accept(state, source, round(second * 1000), STALE_MS)
        found.append(counts)
    return found


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        pytest.param([(0, "prometheus")], [True], id="the only one counts"),
        pytest.param(
            [(0, "kubernetes"), (1, "prometheus"), (2, "envoy")], [True, False, False], id="the API first"
        ),
        pytest.param(
            [(0, "prometheus"), (1, "envoy"), (2, "prometheus")], [True, True, False], id="then Envoy"
        ),
        pytest.param(
            [(0, "prometheus"), (1, "kubernetes")], [True, True], id="a better one takes over at once"
        ),
        pytest.param([(0, "kubernetes"), (90, "prometheus")], [True, False], id="not silent for long enough"),
        pytest.param(
            [
                (0, "kubernetes"),
                (91, "prometheus"),
                (92, "prometheus"),
                (93, "kubernetes"),
                (94, "prometheus"),
            ],
            [True, True, True, True, False],
            id="a worse one stands in, until the better one is back",
        ),
        pytest.param(
            [(0, "kubernetes"), (91, "prometheus"), (92, "envoy")], [True, True, True], id="the best of two"
        ),
        pytest.param(
            [(10, "kubernetes"), (9, "kubernetes"), (10, "kubernetes")], [True, False, True], id="disorder"
        ),
        pytest.param(
            [(1000, "prometheus"), (0, "kubernetes")], [True, False], id="an old word of a better one"
        ),
    ],
)
def test_timeline(words: list[tuple[float, Source]], wanted: list[bool]) -> None:
    assert counted(words) == wanted


sources = st.sampled_from(get_args(Source))
histories = st.lists(st.tuples(st.integers(0, 400_000), sources), max_size=60).map(sorted)


def test_every_source_has_a_rank() -> None:
    for source in get_args(Source):
        accept(SourceState("kubernetes"), source, 0, STALE_MS)
    assert set(RANK) == set(get_args(Source))


@given(history=histories)
def test_a_word_counts_if_no_better_source_that_counted_spoke_within_the_time(
    history: list[tuple[int, Source]],
) -> None:
    state = SourceState()
    spoken: list[tuple[int, Source]] = []
    for at_ms, source in history:
        state, counts = accept(state, source, at_ms, STALE_MS)
        better_spoke = any(
            RANK[other] < RANK[source] and at_ms - other_ms <= STALE_MS for other_ms, other in spoken
        )
        assert counts is not better_spoke
        if counts:
            spoken.append((at_ms, source))


@given(history=histories, late=st.tuples(st.integers(-1_000_000, 400_000), sources))
def test_what_does_not_count_changes_nothing(
    history: list[tuple[int, Source]], late: tuple[int, Source]
) -> None:
    state = SourceState()
    for at_ms, source in history:
        state, _ = accept(state, source, at_ms, STALE_MS)
    after, counts = accept(state, late[1], late[0], STALE_MS)
    assert counts or after == state
