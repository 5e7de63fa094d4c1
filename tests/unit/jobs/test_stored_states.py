"""What is stored of each keyed state is restored exactly; what can't be restored is explained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.signal_rows import alert
from tidegate.jobs.logic.alerts import evaluation_state as alert_evaluation_state
from tidegate.jobs.logic.alerts.evaluation import Evaluation
from tidegate.jobs.logic.alerts.evaluation_state import EvaluatedKey
from tidegate.jobs.logic.alerts.states import AlertState
from tidegate.jobs.logic.profile import task_profile_state
from tidegate.jobs.logic.profile.autoscaling import Past, SignalMemory
from tidegate.jobs.logic.profile.sustained_capacity import Learned, Minute, Promise
from tidegate.jobs.logic.profile.task_profile import ObservedRow, TaskState
from tidegate.jobs.logic.profile.task_profile_state import ProfiledTask, Scaling
from tidegate.jobs.logic.replicas import task_replicas_state
from tidegate.jobs.logic.replicas.changes import Seen, State
from tidegate.jobs.logic.replicas.sources import BEST_FIRST, SourceState
from tidegate.jobs.logic.replicas.task_replicas import TaskReplicas
from tidegate.jobs.logic.replicas.task_replicas_state import SettlingTask
from tidegate.jobs.logic.resources import task_resources_state
from tidegate.jobs.logic.resources import windows_state as resource_windows_state
from tidegate.jobs.logic.resources.counter_rates import Increase
from tidegate.jobs.logic.resources.task_resources import TaskWindows
from tidegate.jobs.logic.resources.task_resources_state import WaitingTask
from tidegate.jobs.logic.resources.windows import Gauge, Pod, Use
from tidegate.jobs.logic.resources.windows_state import ObservedPod
from tidegate.jobs.logic.state_format import StateFormat, StateUnreadable, StoredForm
from tidegate.schemas.autoscaling_policy import AutoscalingPolicy, Schedule, Targets
from tidegate.schemas.rows.limits import RateLimitRow, Replica, ReplicasRow, TaskRow
from tidegate.schemas.rows.resources import ResourceMetricsRow

FORMATS: Mapping[str, StateFormat[Any, Any]] = {
    form.name: form
    for form in (
        alert_evaluation_state.FORMAT,
        resource_windows_state.FORMAT,
        task_profile_state.FORMAT,
        task_replicas_state.FORMAT,
        task_resources_state.FORMAT,
    )
}

ms = st.integers(-(1 << 63), (1 << 63) - 1)
counts = st.integers(0, (1 << 63) - 1)
texts = st.text(max_size=6)
any_float = st.floats()  # NaN and the infinities too
finite = st.floats(allow_nan=False, allow_infinity=False)
amounts = st.floats(0, 1e300)
moments = st.integers(0, 1 << 52).map(
    lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
)
figures = st.none() | counts | finite
"""Numbers of a row that nobody has checked: a count may be a float."""
series = st.tuples(texts, texts)
timers = st.none() | st.tuples(ms, ms)


def lists(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, max_size=3).map(tuple)


def dicts(keys: st.SearchStrategy[Any], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[Any, Any]]:
    return st.dictionaries(keys, values, max_size=3)


replicas_rows = st.builds(
    ReplicasRow,
    id=texts,
    department=texts,
    task=texts,
    workload=texts,
    source=st.sampled_from(BEST_FIRST),
    replicas_ready=counts,
    replicas_starting=counts,
    replicas_terminating=counts,
    replicas=lists(
        st.builds(
            Replica,
            name=texts,
            address=st.none() | texts,
            state=st.sampled_from(["ready", "starting", "terminating"]),
        )
    ),
    observed_at=moments,
)
limit_rows = st.builds(
    RateLimitRow,
    id=texts,
    department=texts,
    task=texts,
    gateway=texts,
    replicas=st.none() | counts,
    qps_per_replica=st.floats(1e-300, 1e300),
    gateways=st.none() | counts,
    limit_qps=st.none() | st.floats(1e-300, 1e300),
    limit_qps_per_gateway=st.none(),
    burst=st.none() | st.integers(1, 1 << 40),
    state=st.sampled_from(["decided", "applied", "held", "failed"]),
    reason=texts,
    change_id=st.none() | texts,
    revision=counts,
    decided_at=moments,
    applied_at=st.none() | moments,
    target=texts,
)
names = st.from_regex(r"\A[a-z]{1,6}\Z")
policies = st.builds(
    AutoscalingPolicy,
    min_replicas=st.integers(0, 3),
    max_replicas=st.integers(5, 100),
    targets=st.builds(Targets, qps_per_replica=st.floats(0.1, 1e5)),
    tolerance=st.floats(0, 0.5),
    schedules=st.lists(
        st.just(
            Schedule(
                name="day", begin="0 8 * * mon-fri", end="0 20 * * *", zone="Asia/Shanghai", min_replicas=2
            )
        ),
        max_size=2,
    ),
)


@st.composite
def catalog_rows(draw: st.DrawFn) -> TaskRow:
    return TaskRow.model_validate(
        {
            "id": "vision/chat",
            "department": draw(names),
            "task": draw(names),
            "gateway": {"name": "edge", "namespace": "istio", "labels": draw(dicts(names, names))},
            "route": "chat-route",
            "qps_per_replica": draw(st.floats(0.1, 1e5)),
            "headroom": draw(st.floats(0.1, 2)),
            "floor_qps": draw(st.floats(0.1, 1e5)),
            "ceiling_qps": draw(st.none() | st.floats(0.1, 1e5)),
            "burst_seconds": draw(st.floats(0.1, 60)),
            "owner": draw(st.none() | texts),
            "slo": {"p99_ms": draw(st.none() | st.floats(1, 1e6)), "error_rate": 0.01},
            "clients": {},
            "autoscaling": draw(st.none() | policies),
            "published_at": draw(moments),
        }
    )


@st.composite
def resource_rows(draw: st.DrawFn, replica: str | None = "pod") -> ResourceMetricsRow:
    values: dict[str, Any] = dict.fromkeys(ResourceMetricsRow.model_fields)
    for name in ("cpu_cores", "memory_working_set_bytes", "network_receive_bytes_per_second"):
        values[name] = draw(st.none() | amounts)
    for name in (
        "replicas_seen",
        "replicas_with_cpu",
        "replicas_with_memory",
        "replicas_with_gpu",
        "samples",
    ):
        values[name] = draw(counts)
    values |= {
        "id": draw(texts),
        "span": draw(st.sampled_from(["10s", "1m"])),
        "level": "replica" if replica else "task",
        "window_start": draw(moments),
        "window_end": draw(moments),
        "department": draw(texts),
        "task": draw(texts),
        "replica": replica,
        "gpu_utilization_ratio": draw(st.none() | st.floats(0, 1)),
        "restarts": draw(st.none() | counts),
    }
    return ResourceMetricsRow(**values)


def observed(rows: st.SearchStrategy[Any]) -> st.SearchStrategy[ObservedRow | None]:
    return st.none() | st.builds(ObservedRow, row=rows, at_ms=ms)


minutes: st.SearchStrategy[Any] = st.builds(
    Minute,  # the figures come from rows as they are
    start_ms=ms,
    admitted=counts | finite,
    replicas=counts | finite,
    latency_count=counts,
    p99_ms=figures,
    error_rate=figures,
)
learned = st.builds(
    Learned,
    promise=st.none() | st.builds(Promise, p99_ms=amounts, error_rate=st.none() | amounts),
    run=lists(minutes),
    qps_per_replica=st.none() | amounts,
    held_until_ms=st.none() | ms,
)
known_tasks = st.builds(
    TaskState,
    department=texts,
    task=texts,
    learned=learned,
    replicas=observed(replicas_rows),
    limit=observed(limit_rows),
    resources=observed(resource_rows(None)),
    catalog=st.none() | catalog_rows(),
    observed_ms=ms,
    restored=st.just(True),
)
scalings = st.builds(
    Scaling,
    memory=st.builds(
        SignalMemory,
        past=lists(st.builds(Past, at_ms=ms, recommended=counts, replicas=counts)),
        panic_until_ms=ms,
        desired=st.none() | counts,
        revision=counts,
    ),
    published_ms=ms,
)
alert_states = st.builds(
    AlertState,
    began_ms=st.none() | ms,
    fired_ms=st.none() | ms,
    false_since_ms=st.none() | ms,
    published_ms=ms,
    seen_ms=ms,
    was_otherwise=st.booleans(),
)
newest_alerts = st.lists(
    st.builds(
        alert,
        rule=texts,
        state=st.sampled_from(["pending", "firing"]),
        value=st.none() | finite,
        message=texts,
        labels=dicts(texts, texts),
        observed_at=moments,
    ),
    max_size=3,
).map(lambda rows: {row.alert_key: row for row in rows})
evaluations = st.builds(
    Evaluation,
    states=dicts(texts, alert_states),
    newest=newest_alerts,
    slo=dicts(texts, figures),
    minutes=dicts(ms, st.tuples(figures, figures)),
    lines=st.lists(st.tuples(ms, figures), max_size=3),
    observed_ms=ms,
    arrived_ms=ms,
)
uses = st.builds(
    Use,
    rates=dicts(series, st.builds(Increase, amount=any_float, covered_ms=any_float)),
    gauges=dicts(series, st.builds(Gauge, total=any_float, count=counts, highest=any_float, last=any_float)),
    events=dicts(series, any_float),
    samples=counts,
)
pods = st.builds(
    Pod,
    series=dicts(series, st.lists(st.tuples(ms, any_float), max_size=3)),
    newest_ms=ms,
    closed_ms=ms,
    minute=uses,
    minute_ms=ms,
    late=counts,
)


@st.composite
def task_windows(draw: st.DrawFn) -> TaskWindows:
    windows = draw(dicts(st.tuples(st.sampled_from(["10s", "1m"]), ms), dicts(texts, resource_rows())))
    published = {window for window in windows if draw(st.booleans())}
    groups = draw(dicts(st.sampled_from(["10s", "1m"]), st.frozensets(texts, max_size=3)))
    return TaskWindows(windows, published, groups, draw(st.none() | counts))


settling = st.builds(
    SettlingTask,
    known=st.builds(
        TaskReplicas,
        department=texts,
        task=texts,
        workload=texts,
        source=st.builds(SourceState, source=st.none() | st.sampled_from(BEST_FIRST), spoke_ms=ms),
        state=st.builds(
            State,
            settled=st.none() | counts,
            revision=counts,
            seen=lists(st.builds(Seen, at_ms=ms, replicas=counts)),
            now_ms=ms,
            observed_ms=ms,
        ),
    ),
    timer=timers,
)
STATES: Mapping[str, st.SearchStrategy[Any]] = {
    "replica-changes": settling,
    "task-profile": st.builds(ProfiledTask, known=known_tasks, scaling=st.none() | scalings),
    "alerts": st.builds(EvaluatedKey, known=evaluations, timer=st.booleans()),
    "resource-metrics-pod": st.builds(
        ObservedPod, pod=st.none() | pods, task=st.none() | texts, timer=timers
    ),
    "resource-metrics-task": st.builds(WaitingTask, known=task_windows(), timer=st.booleans()),
}


def in_words(value: Any) -> str:
    """All of an object: NaN equals NaN, 1 isn't 1.0, -0.0 isn't 0.0, and a dictionary has its order."""
    if isinstance(value, WaitingTask):
        known = value.known
        groups = {span: sorted(names) for span, names in known.pods.items()}
        return repr((known.windows, sorted(known.published), groups, known.desired, value.timer))
    return repr(value)


def test_every_state_has_a_strategy() -> None:
    assert STATES.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", sorted(STATES))
@settings(max_examples=examples(40))
@given(data=st.data())
def test_what_is_stored_is_restored_exactly(name: str, data: st.DataObject) -> None:
    known = data.draw(STATES[name])
    stored = FORMATS[name].encode(known)
    assert in_words(FORMATS[name].decode(stored)) == in_words(known)
    stored.decode("utf-8")  # PyFlink's coder of texts carries it


# The format itself, on a state of which there are three versions.


@dataclass(frozen=True)
class StoredPoint(StoredForm):
    """Version 3."""

    x_mm: float
    y_mm: float
    label: str | None


def _in_millimetres(plain: Any) -> Any:
    return {"x_mm": plain["x"] * 1000, "y_mm": plain["y"] * 1000}


POINT: StateFormat[StoredPoint, StoredPoint] = StateFormat(
    "point",
    3,
    StoredPoint,
    lambda known: known,
    lambda stored: stored,
    {1: _in_millimetres, 2: lambda plain: plain | {"label": None}},
)


@pytest.mark.parametrize(
    "stored",
    [
        b'point 1\n{"x":1,"y":2.5}',
        b'point 2\n{"x_mm":1000,"y_mm":2500}',
        b'point 3\n{"x_mm":1000,"y_mm":2500,"label":null}',
    ],
)
def test_an_older_version_is_upgraded_step_by_step(stored: bytes) -> None:
    assert POINT.decode(stored) == StoredPoint(1000, 2500, None)


@pytest.mark.parametrize(
    ("stored", "wrong"),
    [
        (b"point 4\n{}", r"version 4 is stored, .* restores versions 1, 2, 3: a newer release wrote it"),
        (b"point 0\n{}", r"version 0 is stored, .* restores versions 1, 2, 3: it is too old"),
        (b"line 3\n{}", r"begins with b'line 3' instead of the state's name and version"),
        (b"\x80\x04\x95\x1f", r"begins with .* instead of the state's name and version"),
        (b"", r"begins with b'' instead of the state's name and version"),
        (b"point x\n{}", r"begins with b'point x' instead"),
        (b'point 3\n{"x_mm":1', r"version 3 is stored, and doesn't fit its schema: the whole: Invalid JSON"),
        (b'point 3\n{"x_mm":1,"y_mm":"far","label":null}', r"schema: y_mm: Input should be a valid number"),
        (b'point 3\n{"x_mm":1,"y_mm":1}', r"schema: label: Field required"),
        (b'point 3\n{"x_mm":1,"y_mm":1,"label":null,"z_mm":1}', r"schema: z_mm: Unexpected keyword"),
        (b'point 1\n{"x":1}', r"version 1 is stored, and doesn't fit its schema: KeyError\('y'\)"),
    ],
)
def test_what_cannot_be_restored_is_named_with_what_to_do(stored: bytes, wrong: str) -> None:
    with pytest.raises(StateUnreadable, match=rf"(?s)^state point: .*{wrong}.*Run the release that wrote"):
        POINT.decode(stored)


def test_versions_without_an_upgrade_between_them_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"upgrades lead from versions \[1\], which doesn't reach version 3"):
        StateFormat("point", 3, StoredPoint, lambda known: known, lambda stored: stored, {1: _in_millimetres})


def test_floats_that_json_lacks_are_kept() -> None:
    pod = Pod(series={("n", "p"): [(1, math.nan), (2, math.inf), (3, -math.inf), (4, -0.0)]})
    form = resource_windows_state.FORMAT
    assert in_words(form.decode(form.encode(ObservedPod(pod)))) == in_words(ObservedPod(pod))
