"""The controller as a dry run: what it would do, and why. It reads the same inputs, and changes nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager

from tidegate.adapters.catalog.source import catalog_source
from tidegate.adapters.kafka.client import KafkaUnavailable, ensure_topics
from tidegate.adapters.limiting.controller import LeaderSession
from tidegate.adapters.limiting.feed import now_ms
from tidegate.adapters.limiting.sink import ShownRows
from tidegate.adapters.limiting.targets.base import Refused, Target, TargetFailed
from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.schemas.catalog import Gateway
from tidegate.schemas.rows.limits import RateLimitRow
from tidegate.schemas.settings import Settings

_READING_SECONDS = 60.0


class DryRunTarget:
    """A target that is read and never written: it reports written limits as if they were in force."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._written: dict[str, dict[TaskKey, Limit]] = {}

    @property
    def name(self) -> str:
        """The real target's name, marked as a dry run."""
        return f"{self._target.name} (dry run)"

    def use_gateways(self, gateways: Mapping[str, Gateway]) -> None:
        """Use these gateways from now on."""
        self._target.use_gateways(gateways)

    def read(self, gateway: str) -> Mapping[TaskKey, Limit]:
        """The limits of the real target, overridden by those that were written here. Raises TargetFailed."""
        return {**self._target.read(gateway), **self._written.get(gateway, {})}

    def write(self, gateway: str, limits: Iterable[Limit]) -> Mapping[TaskKey, Refused]:
        """Keep these limits in memory."""
        self._written.setdefault(gateway, {}).update({limit.key: limit for limit in limits})
        return {}


def run_dry(
    settings: Settings, target: Target, stop: threading.Event, show: Callable[[RateLimitRow], None]
) -> None:
    """Decide as the leader would, beside the current leader, until `stop` is set.

    Raises CatalogError, KafkaUnavailable and KafkaException at the start.
    """
    with _session(settings, DryRunTarget(target), show, lambda: not stop.is_set()) as session:
        session.catch_up()
        while not stop.is_set():
            session.turn()


def explained(settings: Settings, target: Target, name: str) -> list[str]:
    """The explanation of a task's limit, as lines. name: `department/task`, or the task if its name is unique.

    A gateway that can't be read is part of the explanation. Raises LookupError for an unknown or ambiguous task, and
    the errors of `run_dry`.
    """
    deadline = time.monotonic() + _READING_SECONDS
    with _session(
        settings, DryRunTarget(target), lambda row: None, lambda: time.monotonic() < deadline
    ) as session:
        if not session.catch_up():
            raise KafkaUnavailable(
                f"reading the topics from Kafka at {settings.kafka.bootstrap_servers} took longer than "
                f"{_READING_SECONDS:g} s; check that the brokers run, then try again"
            )
        key = _key(session.book.task_keys(), name)
        gateway = session.book.gateway_of(key)
        try:
            session.book.observe_limits(gateway, target.read(gateway), now_ms())
        except TargetFailed as error:
            session.book.observe_failure(gateway, str(error), now_ms())
        return session.book.explain(key, now_ms())


@contextmanager
def _session(
    settings: Settings, target: Target, show: Callable[[RateLimitRow], None], goes_on: Callable[[], bool]
) -> Iterator[LeaderSession]:
    ensure_topics(settings.kafka, ())  # checks only that Kafka answers, and creates no topic
    with (
        closing(catalog_source(settings)) as catalog,
        closing(
            LeaderSession(settings, target, ShownRows(show), catalog, goes_on=goes_on, missing_is_empty=True)
        ) as session,
    ):
        yield session


def _key(keys: Iterable[TaskKey], name: str) -> TaskKey:
    every = sorted(keys)
    found = [key for key in every if name in (str(key), key.task)]
    if len(found) == 1:
        return found[0]
    if found:
        raise LookupError(
            f"{name}: several tasks match ({', '.join(map(str, found))}); give one of them as department/task"
        )
    some = ", ".join(map(str, every[:10])) + (" ..." if len(every) > 10 else "")
    raise LookupError(f"{name}: not in the catalog, which has {some or 'no tasks'}")
