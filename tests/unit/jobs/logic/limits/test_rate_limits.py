"""Limit decisions: timelines, and the laws of the contract."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tidegate.jobs.logic.limits.rate_limits import (
    SHORTEST_FILL_MS,
    Capacity,
    Hold,
    LimitInForce,
    Pace,
    Push,
    burst_of,
    decide,
    token_bucket,
)

PACE = Pace()
CAPACITY = Capacity(qps_per_replica=10)


def pushed(push: Push, now_ms: int) -> LimitInForce:
    return LimitInForce(push.replicas, push.gateways, push.limit_qps_per_gateway, push.burst, now_ms)


def holding(limit_qps: float, at_ms: int) -> LimitInForce:
    """One replica's limit on one gateway, with a burst of a second."""
    return LimitInForce(1, 1, limit_qps, burst_of(1, limit_qps), at_ms)


def pushes(
    events: list[tuple[float, int | None, int | None]], until: float, capacity: Capacity = CAPACITY
) -> list[tuple[float, float]]:
    """(second, limit of all gateways) of every push, where somebody looks every half a second.

    events: (second, replicas, gateways) from then on.
    """
    in_force: LimitInForce | None = None
    found = []
    for half in range(int(until * 2) + 1):
        now_ms = half * 500
        _, replicas, gateways = [event for event in events if event[0] * 1000 <= now_ms][-1]
        decision = decide(capacity, PACE, in_force, replicas=replicas, gateways=gateways, now_ms=now_ms)
        if isinstance(decision, Push):
            in_force = pushed(decision, now_ms)
            found.append((now_ms / 1000, decision.limit_qps))
    return found


@pytest.mark.parametrize(
    ("events", "wanted"),
    [
        pytest.param([(0, 4, 1)], [(0, 40)], id="the first limit comes whole"),
        pytest.param([(0, 4, 1), (1, 2, 1)], [(0, 40), (1, 20)], id="a cut comes at once"),
        pytest.param([(0, 2, 1), (1, 4, 1)], [(0, 20), (10, 40)], id="a raise waits"),
        pytest.param(
            [(0, 1, 1), (1, 8, 1)], [(0, 10), (10, 20), (20, 40), (30, 80)], id="a large raise goes in steps"
        ),
        pytest.param([(0, 4, 1), (5, None, 1), (20, 4, 1)], [(0, 40)], id="silence holds"),
        pytest.param([(0, 4, 1), (5, 0, 1)], [(0, 40), (5, 1)], id="no replica: the floor"),
        pytest.param([(0, 4, 2), (5, 4, 4)], [(0, 40), (5, 40)], id="more gateways: each gets less, at once"),
        pytest.param([(0, 4, 2), (5, 4, 1)], [(0, 40), (10, 40)], id="fewer gateways: a raise"),
        pytest.param([(0, 4, 2), (5, 2, 1)], [(0, 40), (5, 20)], id="the same share for half of both"),
        pytest.param([(0, 4, 1), (5, 4, 0), (20, 4, None)], [(0, 40)], id="no gateway known: nothing"),
        pytest.param(
            [(0, 4, 1), (1, 2, 1), (2, 4, 1)], [(0, 40), (1, 20), (11, 40)], id="a raise after a cut waits"
        ),
    ],
)
def test_timeline(
    events: list[tuple[float, int | None, int | None]], wanted: list[tuple[float, float]]
) -> None:
    assert pushes(events, until=60) == wanted


def test_a_small_raise_is_not_worth_a_push_and_a_small_cut_is() -> None:
    in_force = holding(100, 0)
    late_ms = 1_000_000
    little_more = decide(Capacity(104.9), PACE, in_force, replicas=1, gateways=1, now_ms=late_ms)
    little_less = decide(Capacity(99.9), PACE, in_force, replicas=1, gateways=1, now_ms=late_ms)
    assert isinstance(little_more, Hold)
    assert "deadband" in little_more.reason
    assert isinstance(little_less, Push)
    assert little_less.limit_qps == 99.9


def test_a_waiting_raise_says_when_to_look_again() -> None:
    decision = decide(CAPACITY, PACE, holding(10, 3_000), replicas=2, gateways=1, now_ms=4_000)
    assert decision == Hold("a raise to 20 waits: at most one push in 10 s", 13_000)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize(
    "field", ["qps_per_replica", "headroom", "floor_qps", "ceiling_qps", "burst_seconds"]
)
def test_a_capacity_that_is_none_is_refused_by_name(field: str, wrong: float) -> None:
    with pytest.raises(ValueError, match=field):
        Capacity(**({"qps_per_replica": 1.0} | {field: wrong}))


def test_a_ceiling_below_the_floor_is_refused() -> None:
    with pytest.raises(ValueError, match="below floor_qps"):
        Capacity(10, floor_qps=5, ceiling_qps=4)


rates = st.floats(0.01, 1e6)
capacities = st.builds(
    lambda qps, headroom, floor, above, burst: Capacity(
        qps, headroom, floor, None if above is None else floor + above, burst
    ),
    rates,
    st.floats(0.1, 2),
    rates,
    st.none() | rates,
    st.floats(0.1, 60),
)
paces = st.builds(Pace, st.floats(1.01, 10), st.integers(0, 60_000), st.floats(0, 0.5))
in_forces = st.builds(
    LimitInForce,
    st.integers(0, 500),
    st.integers(1, 50),
    rates,
    st.integers(1, 1000),
    st.integers(0, 100_000),
)
counts = st.integers(0, 500)
gateway_counts = st.integers(1, 50)
moments = st.integers(0, 1_000_000)


@given(capacities, paces, st.none() | in_forces, counts, gateway_counts, moments)
def test_all_gateways_together_never_admit_more_than_the_limit(
    capacity: Capacity, pace: Pace, in_force: LimitInForce | None, replicas: int, gateways: int, now_ms: int
) -> None:
    decision = decide(capacity, pace, in_force, replicas=replicas, gateways=gateways, now_ms=now_ms)
    assume(isinstance(decision, Push))
    assert isinstance(decision, Push)
    limit = capacity.limit_qps(replicas)
    bucket = token_bucket(decision.limit_qps_per_gateway, decision.burst)
    assert bucket.qps * gateways <= limit * (1 + 1e-12)
    assert capacity.floor_qps <= limit <= (capacity.ceiling_qps or math.inf)


@given(capacities, paces, in_forces, counts, gateway_counts, moments)
def test_a_raise_keeps_its_pace_and_a_cut_is_never_held(
    capacity: Capacity, pace: Pace, in_force: LimitInForce, replicas: int, gateways: int, now_ms: int
) -> None:
    decision = decide(capacity, pace, in_force, replicas=replicas, gateways=gateways, now_ms=now_ms)
    current, target = in_force.limit_qps_per_gateway, capacity.limit_qps(replicas) / gateways
    if isinstance(decision, Hold):
        assert target >= current
        return
    wanted = decision.limit_qps_per_gateway
    assert wanted <= target
    if wanted > current:
        assert wanted <= current * pace.max_raise
        assert now_ms >= in_force.pushed_ms + pace.raise_every_ms
    else:
        assert wanted == (target if target < current else current)


@given(capacities, paces, st.none() | in_forces, st.none() | gateway_counts, moments)
def test_what_is_not_known_changes_nothing(
    capacity: Capacity, pace: Pace, in_force: LimitInForce | None, gateways: int | None, now_ms: int
) -> None:
    assert isinstance(decide(capacity, pace, in_force, replicas=None, gateways=gateways, now_ms=now_ms), Hold)
    assert isinstance(decide(capacity, pace, in_force, replicas=3, gateways=None, now_ms=now_ms), Hold)


@given(capacities, counts, counts)
def test_more_replicas_never_mean_a_lower_limit(capacity: Capacity, one: int, other: int) -> None:
    few, many = sorted((one, other))
    assert capacity.limit_qps(few) <= capacity.limit_qps(many)


@given(capacities, paces, st.none() | in_forces, counts, gateway_counts)
def test_in_time_the_limit_is_reached_but_for_the_deadband(
    capacity: Capacity, pace: Pace, in_force: LimitInForce | None, replicas: int, gateways: int
) -> None:
    target = capacity.limit_qps(replicas) / gateways
    now_ms = in_force.pushed_ms if in_force else 0
    for _ in range(8000):  # a push and a wait each: steps of 1 % come to any limit from any other
        decision = decide(capacity, pace, in_force, replicas=replicas, gateways=gateways, now_ms=now_ms)
        if isinstance(decision, Push):
            in_force = pushed(decision, now_ms)
        elif decision.until_ms is None:
            break
        else:
            assert decision.until_ms > now_ms
            now_ms = decision.until_ms
    assert in_force is not None
    assert target / (1 + pace.deadband) <= in_force.limit_qps_per_gateway * (1 + 1e-9)
    assert in_force.limit_qps_per_gateway <= target


@given(rates, st.floats(0.1, 60))
def test_a_bucket_admits_the_limit_and_not_more(limit_qps: float, burst_seconds: float) -> None:
    burst = burst_of(burst_seconds, limit_qps)
    bucket = token_bucket(limit_qps, burst)
    assert limit_qps * (0.998 if burst_seconds >= 1.1 else 0.98) <= bucket.qps <= limit_qps * (1 + 1e-12)
    assert 1 <= bucket.tokens_per_fill <= bucket.max_tokens == burst
    assert bucket.fill_interval_ms >= SHORTEST_FILL_MS


@pytest.mark.parametrize(
    ("limit_qps", "tokens", "ms"),
    [(20, 1, 50), (15, 3, 200), (19.9, 7, 352), (100, 5, 50), (0.5, 1, 2000), (1, 1, 1000)],
)
def test_bucket(limit_qps: float, tokens: int, ms: int) -> None:
    bucket = token_bucket(limit_qps, burst=100)
    assert (bucket.tokens_per_fill, bucket.fill_interval_ms) == (tokens, ms)


def test_a_burst_below_one_fill_is_refused() -> None:
    with pytest.raises(ValueError, match="burst_seconds"):
        Capacity(10, burst_seconds=0.05)
    with pytest.raises(ValueError, match="one fill"):
        token_bucket(1000, 40)


def test_another_burst_is_pushed_though_the_limit_stays() -> None:
    decision = decide(
        Capacity(10, burst_seconds=5), PACE, holding(10, 0), replicas=1, gateways=1, now_ms=60_000
    )
    assert isinstance(decision, Push)
    assert (decision.limit_qps, decision.burst) == (10, 50)


def test_no_limit_is_taken_for_one() -> None:
    with pytest.raises(ValueError, match="limit_qps_per_gateway"):
        LimitInForce(1, 1, 0.0, 1, 0)
