"""The watcher's source envoy: ready replicas from Envoy's own health checks, for gateways without Kubernetes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any
from urllib.request import urlopen

import orjson

from tidegate.adapters.watching.publisher import PublishedRows, SourceFailed, WatchRow
from tidegate.jobs.logic.identity import Identity
from tidegate.jobs.logic.replicas.envoy_hosts import TaskHosts, hosts_of, row_of
from tidegate.schemas.rows.limits import GatewayRow
from tidegate.schemas.settings import Settings

log = logging.getLogger(__name__)

_ANSWER_SECONDS = 2.0
_MOST_THREADS = 16


class EnvoySource:
    """Polls every Envoy of `watcher.envoy_admins`, several times a second.

    Emits tasks while at least one Envoy answers. An Envoy that doesn't answer is not ready; if none of a gateway's
    answers, the gateway has no row, since the network may be the cause.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises SourceFailed without a configured Envoy."""
        watcher = settings.watcher
        self._admins = {name: admins for name, admins in watcher.envoy_admins.items() if admins}
        if not self._admins:
            raise SourceFailed(
                "source envoy needs watcher.envoy_admins: for each gateway the host:port of its Envoys' admin pages"
            )
        self._settings = settings.access_log
        self._poll_seconds = watcher.envoy_poll_seconds
        self._published = PublishedRows(watcher.refresh_seconds)
        self._known: dict[Identity, TaskHosts] = {}
        self._due = 0.0
        self._silent: set[str] = set()
        everyone = sum(len(admins) for admins in self._admins.values())
        self._threads = ThreadPoolExecutor(min(everyone, _MOST_THREADS), thread_name_prefix="envoy-admin")

    @property
    def about(self) -> str:
        """The gateways and their Envoys."""
        return "Envoys " + "; ".join(
            f"{name}: {', '.join(admins)}" for name, admins in sorted(self._admins.items())
        )

    def rows(self, wait_seconds: float) -> Iterable[WatchRow]:
        """The rows that have changed since the last call, or are due for a refresh."""
        left = self._due - time.monotonic()
        if left > wait_seconds:
            time.sleep(wait_seconds)
            return []
        time.sleep(max(0.0, left))
        self._due = time.monotonic() + self._poll_seconds
        return self._poll()

    def close(self) -> None:
        """Stop polling."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _poll(self) -> list[WatchRow]:
        everyone = [(name, admin) for name, admins in self._admins.items() for admin in admins]
        observed_at = datetime.now(UTC)
        answer_of = dict(
            zip(everyone, self._threads.map(lambda one: _clusters(one[1]), everyone), strict=True)
        )
        rows: list[WatchRow] = []
        answers = []
        for name, admins in self._admins.items():
            live = [admin for admin in admins if isinstance(answer_of[name, admin], dict)]
            self._log_silence(name, admins, live, answer_of)
            answers += [answer for admin in live if isinstance(answer := answer_of[name, admin], dict)]
            if live:
                rows.append(_gateway_row(name, live, observed_at))
        if answers:
            found = hosts_of(answers, self._settings)
            rows += [row_of(key, task, observed_at) for key, task in found.items()]
            if len(answers) == len(everyone):
                # A cluster that all of them have removed has no replica: published once, and then no more.
                rows += [
                    row_of(key, TaskHosts(task.workload, {}), observed_at)
                    for key, task in self._known.items()
                    if key not in found
                ]
                self._known = found
        return [row for row in rows if self._published.due(row)]

    def _log_silence(
        self,
        name: str,
        admins: tuple[str, ...],
        live: list[str],
        answer_of: Mapping[tuple[str, str], dict[str, Any] | Exception],
    ) -> None:
        for admin in admins:
            if admin in live:
                self._silent.discard(admin)
            elif admin not in self._silent:
                self._silent.add(admin)
                log.warning(
                    "gateway %s: the Envoy at %s is not ready, it doesn't answer: %s",
                    name,
                    admin,
                    answer_of[name, admin],
                )


def _gateway_row(name: str, live: list[str], observed_at: datetime) -> GatewayRow:
    return GatewayRow(
        id=f"{name}|envoy",
        gateway=name,
        source="envoy",
        gateways_ready=len(live),
        gateways=tuple(live),
        observed_at=observed_at,
    )


def _clusters(admin: str) -> dict[str, Any] | Exception:
    try:
        with urlopen(f"http://{admin}/ready", timeout=_ANSWER_SECONDS):
            pass
        with urlopen(f"http://{admin}/clusters?format=json", timeout=_ANSWER_SECONDS) as answer:
            return dict(orjson.loads(answer.read()))
    except (OSError, HTTPException, ValueError, TypeError) as error:
        return error
