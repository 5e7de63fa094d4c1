"""The desired number of replicas of a task, from its profile: Kubernetes' HPA algorithm with further inputs.

For each signal, as in an HPA: desired = ceil(ready x value / target), no change within the tolerance; the highest wins.
Starting replicas count as current, so that warm-up causes no further scale-up. Then come the schedules' floors and the
policy's range; then stabilization (the lowest recommendation of the window upwards, the highest downwards), and the
steps of a period. Unlike in an HPA, offered requests count, also those that the rate limit rejects, since they need
replicas; sudden load (Knative's panic: the last 6 s against the last 60 s) is followed at once, without a scale-down
for a while after it; and a stale or missing signal never scales down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tidegate.schemas.autoscaling_policy import AutoscalingPolicy, Direction
from tidegate.schemas.rows.resources import TaskProfile
from tidegate.schemas.rows.signals import AutoscalingSignals, Signal
from tidegate.schemas.timestamps import from_epoch_ms


@dataclass(frozen=True)
class Past:
    """An earlier decision: its moment, the recommendation before stabilization, the current replicas."""

    at_ms: int
    recommended: int
    replicas: int


@dataclass(frozen=True)
class SignalMemory:
    """The earlier decisions of a task, as far as the next one needs them."""

    past: tuple[Past, ...] = ()
    panic_until_ms: int = 0
    desired: int | None = None
    revision: int = 0


def decide(
    profile: TaskProfile, policy: AutoscalingPolicy, memory: SignalMemory, now_ms: int, valid_ms: int
) -> tuple[AutoscalingSignals, SignalMemory]:
    """The current signals of a task. valid_ms: how long they are valid."""
    ready = profile.replicas_ready
    if ready is None:
        return _row(
            profile,
            policy,
            memory,
            now_ms,
            valid_ms,
            (),
            None,
            "the number of ready replicas is unknown",
            held=True,
        )
    there = ready + (profile.replicas_starting or 0)
    panics = _panics(profile, policy, ready)
    memory = replace(
        memory, panic_until_ms=now_ms + 1000 * policy.panic_seconds if panics else memory.panic_until_ms
    )
    panic = memory.panic_until_ms > now_ms
    signals = tuple(_signals(profile, policy, ready, there, panic=panic))
    known = [signal for signal in signals if signal.desired_replicas is not None]
    recommended = max((signal.desired_replicas or 0 for signal in known), default=there)
    first = next((signal for signal in known if signal.desired_replicas == recommended), None)
    reason = _asks(first) if first is not None else "no signal is known"
    held = False
    if len(known) < len(signals) and recommended < there:
        missing = ", ".join(signal.name for signal in signals if signal.desired_replicas is None)
        recommended, held = there, True
        reason = f"{missing} is not known, so nothing is scaled down"
    if panic and recommended < there:
        recommended, held = there, True
        reason = "sudden load: nothing is scaled down for a while"
    floor, why = _floor(policy, now_ms)
    if recommended < floor:
        recommended, reason = floor, why
    if recommended > policy.max_replicas:
        recommended, reason = policy.max_replicas, f"{reason}; max_replicas is {policy.max_replicas}"
    memory = _remembered(memory, policy, Past(now_ms, recommended, there))
    desired = _stepped(_stabilized(memory, policy, there, now_ms), memory, policy, there, now_ms)
    # Neither stabilization nor steps keep a task outside of the policy's range.
    desired = min(max(desired, floor), policy.max_replicas)
    if desired != recommended:
        held = True
        reason = f"{reason}; {recommended} held at {desired} by stabilization or step"
    return _row(profile, policy, memory, now_ms, valid_ms, signals, desired, reason, held=held, panic=panic)


def _signals(
    profile: TaskProfile, policy: AutoscalingPolicy, ready: int, there: int, *, panic: bool
) -> Iterator[Signal]:
    targets = policy.targets
    if targets.qps_per_replica is not None:
        offered = profile.qps
        if panic and offered is not None and profile.qps_recent is not None:
            offered = max(offered, profile.qps_recent)
        wanted = None if offered is None else offered / targets.qps_per_replica
        value = None if offered is None else offered / max(1, ready)
        yield _signal("qps_per_replica", value, targets.qps_per_replica, wanted, there, policy)
    for name in ("cpu_of_limit_ratio", "gpu_utilization_ratio"):
        target = getattr(targets, name)
        if target is None:
            continue
        value = getattr(profile, name)
        # Without a ready replica there is no resource use to measure.
        wanted = None if value is None or ready == 0 else ready * value / target
        yield _signal(name, value, target, wanted, there, policy)


def _signal(
    name: str, value: float | None, target: float, wanted: float | None, there: int, policy: AutoscalingPolicy
) -> Signal:
    """A signal. wanted: the number of replicas, not rounded yet."""
    desired: int | None = None
    if wanted is not None:
        within = there > 0 and abs(wanted / there - 1) <= policy.tolerance
        # A rounding error of floats must not ask for one more replica.
        desired = there if within else math.ceil(wanted - 1e-9)
    return Signal(name=name, value=value, target=target, desired_replicas=desired)


def _panics(profile: TaskProfile, policy: AutoscalingPolicy, ready: int) -> bool:
    target = policy.targets.qps_per_replica
    if target is None or profile.qps_recent is None:
        return False
    return profile.qps_recent >= policy.panic_threshold * target * max(1, ready)


def _floor(policy: AutoscalingPolicy, now_ms: int) -> tuple[int, str]:
    """The current minimum, and its reason."""
    floor, why = policy.min_replicas, f"min_replicas is {policy.min_replicas}"
    moment = from_epoch_ms(now_ms)
    for schedule in policy.schedules:
        if schedule.min_replicas > floor and schedule.holds(moment):
            floor, why = schedule.min_replicas, f"schedule {schedule.name!r} asks for {schedule.min_replicas}"
    return floor, why


def _remembered(memory: SignalMemory, policy: AutoscalingPolicy, newest: Past) -> SignalMemory:
    directions = (policy.scale_up, policy.scale_down)
    longest = max(max(one.stabilization_seconds, one.period_seconds) for one in directions)
    since_ms = newest.at_ms - 1000 * longest
    kept = tuple(one for one in memory.past if since_ms <= one.at_ms < newest.at_ms)
    return replace(memory, past=(*kept, newest))


def _stabilized(memory: SignalMemory, policy: AutoscalingPolicy, there: int, now_ms: int) -> int:
    up = min(one.recommended for one in _since(memory, now_ms, policy.scale_up.stabilization_seconds))
    down = max(one.recommended for one in _since(memory, now_ms, policy.scale_down.stabilization_seconds))
    return min(max(there, up), down)


def _stepped(wanted: int, memory: SignalMemory, policy: AutoscalingPolicy, there: int, now_ms: int) -> int:
    if wanted > there:
        base = min(one.replicas for one in _since(memory, now_ms, policy.scale_up.period_seconds))
        return max(there, min(wanted, base + _step(policy.scale_up, base)))
    if wanted < there:
        base = max(one.replicas for one in _since(memory, now_ms, policy.scale_down.period_seconds))
        return min(there, max(wanted, base - _step(policy.scale_down, base)))
    return wanted


def _step(direction: Direction, base: int) -> int:
    return max(direction.step_replicas, math.ceil(base * direction.step_percent / 100))


def _since(memory: SignalMemory, now_ms: int, seconds: int) -> list[Past]:
    """The decisions of the last seconds, the newest included."""
    return [one for one in memory.past if one.at_ms >= now_ms - 1000 * seconds]


def _asks(signal: Signal) -> str:
    if signal.value is None or signal.target is None:
        return f"{signal.name} asks for {signal.desired_replicas}"
    return (
        f"{signal.name} is {signal.value:.3g}, target {signal.target:.3g}: {signal.desired_replicas} replicas"
    )


def _row(
    profile: TaskProfile,
    policy: AutoscalingPolicy,
    memory: SignalMemory,
    now_ms: int,
    valid_ms: int,
    signals: tuple[Signal, ...],
    desired: int | None,
    reason: str,
    *,
    held: bool,
    panic: bool = False,
) -> tuple[AutoscalingSignals, SignalMemory]:
    changed = desired != memory.desired or memory.revision == 0
    memory = replace(memory, desired=desired, revision=memory.revision + changed)
    row = AutoscalingSignals(
        id=profile.id,
        department=profile.department,
        task=profile.task,
        replicas=profile.replicas_ready,
        signals=signals,
        desired_replicas=desired,
        panic=panic,
        held=held,
        reason=reason,
        computed_at=from_epoch_ms(now_ms),
        valid_until=from_epoch_ms(now_ms + valid_ms),
        revision=memory.revision,
    )
    return row, memory
