"""The watcher's source envoy: for gateways without Kubernetes, who is ready is what their own health checks say."""

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
    """Asks every Envoy of `watcher.envoy_admins`, several times a second.

    Tasks are told while at least one Envoy answers. An Envoy that doesn't answer isn't ready; when none of a gateway
    answers nothing is told of it, since that may be the network's fault.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises SourceFailed where no Envoy is named."""
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
        """What has changed since, and what is due once more."""
        left = self._due - time.monotonic()
        if left > wait_seconds:
            time.sleep(wait_seconds)
            return []
        time.sleep(max(0.0, left))
        self._due = time.monotonic() + self._poll_seconds
        return self._ask()

    def close(self) -> None:
        """Ask no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self) -> list[WatchRow]:
        everyone = [(name, admin) for name, admins in self._admins.items() for admin in admins]
        observed_at = datetime.now(UTC)
        said = dict(zip(everyone, self._threads.map(lambda one: _clusters(one[1]), everyone), strict=True))
        rows: list[WatchRow] = []
        answers = []
        for name, admins in self._admins.items():
            live = [admin for admin in admins if isinstance(said[name, admin], dict)]
            self._tell_silence(name, admins, live, said)
            answers += [answer for admin in live if isinstance(answer := said[name, admin], dict)]
            if live:
                rows.append(_gateway_row(name, live, observed_at))
        if answers:
            found = hosts_of(answers, self._settings)
            rows += [row_of(key, task, observed_at) for key, task in found.items()]
            if len(answers) == len(everyone):
                # A cluster that all of them have forgotten has no replica; that is said once, and then nothing.
                rows += [
                    row_of(key, TaskHosts(task.workload, {}), observed_at)
                    for key, task in self._known.items()
                    if key not in found
                ]
                self._known = found
        return [row for row in rows if self._published.due(row)]

    def _tell_silence(
        self,
        name: str,
        admins: tuple[str, ...],
        live: list[str],
        said: Mapping[tuple[str, str], dict[str, Any] | Exception],
    ) -> None:
        for admin in admins:
            if admin in live:
                self._silent.discard(admin)
            elif admin not in self._silent:
                self._silent.add(admin)
                log.warning("gateway %s: the Envoy at %s doesn't answer: %s", name, admin, said[name, admin])


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
