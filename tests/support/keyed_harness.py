"""A keyed function as Flink runs it, without Flink: keyed state, timers, bundles, restarts and rescaling.

As PyFlink does it:
- State is written by the value's own coder, when the bundle is committed, once for each key that was updated in it.
- Timers are unique by key, kind and moment. Processing-time timers fire in order of their moments; those that are over
  when a job is restored fire then. Event-time timers fire when the input has ended.
- A restart makes new function objects, from the pickled function as a TaskManager gets it, over the stored state and
  timers. With another number of instances each key goes, with its state and timers, to one of them.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

import cloudpickle
from pyflink.common import Row
from pyflink.datastream import KeyedProcessFunction, OutputTag
from pyflink.datastream.state import ValueStateDescriptor
from pyflink.fn_execution.coders import from_type_info

Kind = Literal["processing", "event"]
FIRST_MS = 1_795_514_400_000
"""What the clock shows when a harness begins."""
_NO_WATERMARK = -(1 << 63)


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint or savepoint holds of a function: bytes by state and key, and the timers of each key."""

    states: Mapping[str, Mapping[str, bytes]]
    timers: Mapping[str, frozenset[tuple[Kind, int]]]


@dataclass
class _Store:
    """What the JVM has: state by name and key, timers by key. writes: how many updates and deletions reached it."""

    states: dict[str, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    timers: dict[str, set[tuple[Kind, int]]] = field(default_factory=lambda: defaultdict(set))
    writes: int = 0


class KeyedHarness:
    """One keyed function's instances, and what they have put out. Time passes only by `advance`."""

    def __init__(
        self,
        function: KeyedProcessFunction,
        *,
        instances: int = 1,
        restored: Snapshot | None = None,
        now_ms: int = FIRST_MS,
        key_of: Callable[[Any], str] = lambda value: str(value[0]),
    ) -> None:
        """restored: what the job goes on from."""
        self.now_ms = now_ms
        self.main: list[Row] = []
        self.side: dict[str, list[Row]] = defaultdict(list)
        self._pickled = cloudpickle.dumps(function)
        self._key_of = key_of
        self._store = _Store()
        if restored is not None:
            self._load(restored)
        self._instances: list[_Instance] = []
        self._begin(instances)

    def process(self, *values: Any) -> list[Row]:
        """One bundle. Returns the rows of the main output."""
        return self._bundle((self._key_of(value), value, None) for value in values)

    def advance(self, ms: int) -> list[Row]:
        """Let time pass; the timers that are due fire, each at its moment. Returns the rows of the main output."""
        until_ms, before = self.now_ms + ms, len(self.main)
        while (due := self._next("processing", until_ms)) is not None:
            moment, key = due
            self.now_ms = max(self.now_ms, moment)
            self._fire(key, "processing", moment)
        self.now_ms = until_ms
        return self.main[before:]

    def end(self) -> list[Row]:
        """The input has ended: event-time timers fire. Returns the rows of the main output."""
        before = len(self.main)
        while (due := self._next("event", None)) is not None:
            self._fire(due[1], "event", due[0])
        return self.main[before:]

    def snapshot(self) -> Snapshot:
        """As a checkpoint has it."""
        return Snapshot(
            deepcopy({name: dict(keys) for name, keys in self._store.states.items()}),
            {key: frozenset(timers) for key, timers in self._store.timers.items() if timers},
        )

    def restart(self, instances: int | None = None, restored: Snapshot | None = None) -> None:
        """Stop with a savepoint and go on from it; or, as after a crash, from an earlier snapshot."""
        self._load(restored or self.snapshot())
        self._begin(instances or len(self._instances))

    @property
    def instances(self) -> int:
        """How many instances the function has."""
        return len(self._instances)

    @property
    def writes(self) -> int:
        """How many updates and deletions of state have reached the JVM."""
        return self._store.writes

    def timers(self, key: str) -> list[tuple[Kind, int]]:
        """The timers of a key, in order."""
        return sorted(self._store.timers[key])

    def stored(self, key: str) -> dict[str, bytes]:
        """What is stored of a key, by the state's name: the value without its length."""
        found = self._store.states.items()
        return {name: keys[key][4:] for name, keys in found if key in keys}

    @property
    def empty(self) -> bool:
        """Neither state nor timers are left."""
        return not any(self._store.states.values()) and not any(self._store.timers.values())

    def _begin(self, instances: int) -> None:
        self._instances = [_Instance(cloudpickle.loads(self._pickled), self) for _ in range(instances)]

    def _load(self, snapshot: Snapshot) -> None:
        self._store.states = defaultdict(dict, {name: dict(keys) for name, keys in snapshot.states.items()})
        self._store.timers = defaultdict(set, {key: set(timers) for key, timers in snapshot.timers.items()})

    def _next(self, kind: Kind, until_ms: int | None) -> tuple[int, str] | None:
        found = [
            (moment, key)
            for key, timers in self._store.timers.items()
            for one, moment in timers
            if one == kind and (until_ms is None or moment <= until_ms)
        ]
        return min(found, default=None)

    def _fire(self, key: str, kind: Kind, moment: int) -> None:
        self._store.timers[key].discard((kind, moment))
        self._bundle([(key, None, moment)])

    def _bundle(self, work: Iterable[tuple[str, Any, int | None]]) -> list[Row]:
        before = len(self.main)
        for key, value, moment in work:
            instance = self._instances[zlib.crc32(key.encode()) % len(self._instances)]
            for output in instance.run(key, value, moment):
                if isinstance(output, tuple) and isinstance(output[0], OutputTag):
                    self.side[output[0].tag_id].append(output[1])
                else:
                    self.main.append(output)
        for instance in self._instances:
            instance.commit()
        return self.main[before:]

    @property
    def store(self) -> _Store:
        """What the JVM has. For the instances."""
        return self._store


class _Instance:
    """One instance of the function, with the contexts that Flink gives it."""

    def __init__(self, function: KeyedProcessFunction, harness: KeyedHarness) -> None:
        self._function = function
        self._harness = harness
        self._states: dict[str, _ValueState] = {}
        self.key = ""
        function.open(self)

    def run(self, key: str, value: Any, moment: int | None) -> Iterable[Any]:
        self.key = key
        if moment is not None:
            return self._function.on_timer(moment, self) or ()
        return self._function.process_element(value, self) or ()

    def commit(self) -> None:
        for state in self._states.values():
            state.commit()

    # RuntimeContext

    def get_state(self, descriptor: ValueStateDescriptor) -> _ValueState:
        coder = from_type_info(descriptor.type_info).get_impl()
        return self._states.setdefault(descriptor.name, _ValueState(descriptor.name, coder, self))

    def get_metrics_group(self) -> _Metrics:
        return _Metrics()

    # Context and TimerService

    def get_current_key(self) -> str:
        return self.key

    def timer_service(self) -> _Instance:
        return self

    def current_processing_time(self) -> int:
        return self._harness.now_ms

    def current_watermark(self) -> int:
        return _NO_WATERMARK

    def register_processing_time_timer(self, timestamp: int) -> None:
        self._harness.store.timers[self.key].add(("processing", timestamp))

    def register_event_time_timer(self, timestamp: int) -> None:
        self._harness.store.timers[self.key].add(("event", timestamp))

    def delete_processing_time_timer(self, timestamp: int) -> None:
        self._harness.store.timers[self.key].discard(("processing", timestamp))

    def delete_event_time_timer(self, timestamp: int) -> None:
        self._harness.store.timers[self.key].discard(("event", timestamp))

    @property
    def store(self) -> _Store:
        return self._harness.store


class _ValueState:
    """A value for each key: what was updated in this bundle, else what the JVM has."""

    def __init__(self, name: str, coder: Any, instance: _Instance) -> None:
        self._name = name
        self._coder = coder
        self._instance = instance
        self._updated: dict[str, Any] = {}

    def value(self) -> Any:
        key = self._instance.key
        if key in self._updated:
            return self._updated[key]
        stored = self._instance.store.states[self._name].get(key)
        return None if stored is None else self._coder.decode(stored)

    def update(self, value: Any) -> None:
        self._updated[self._instance.key] = value

    def clear(self) -> None:
        self._updated[self._instance.key] = None

    def commit(self) -> None:
        store = self._instance.store
        for key, value in self._updated.items():
            store.writes += 1
            if value is None:
                store.states[self._name].pop(key, None)
            else:
                store.states[self._name][key] = self._coder.encode(value)
        self._updated.clear()


class _Metrics:
    """Counters that nobody reads."""

    def counter(self, name: str) -> _Metrics:
        return self

    def inc(self, number: int = 1) -> None:
        pass
