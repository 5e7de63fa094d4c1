"""The demo's models with Envoy's files, for containers: `python -m tidegate.demo.pod FOLDER USAGE_PORT`.

It shares a network namespace with Envoy and the clients, as the containers of a pod do, and FOLDER is a shared volume:
the models listen on loopback, Envoy reads its configuration and writes its access log in FOLDER. The clients
(`tidegate.demo.load`) write their report there, and its progress makes replicas leave, join and become ready each day.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import yaml

from tidegate.adapters.heartbeat import Heartbeat
from tidegate.demo import envoy_config, upstreams
from tidegate.demo.director import Director
from tidegate.demo.envoy_config import LOOPBACK, Files
from tidegate.demo.load_report import LoadReport
from tidegate.demo.moves import Moves
from tidegate.demo.parts import Replicas
from tidegate.demo.scenario import DEMO, Scenario
from tidegate.demo.workspace import catalog_of

PORT = 8080
"""Envoy's port for clients."""
ADMIN_PORT = 9901
SCENARIO = "scenario.json"
CATALOG = "catalog.yaml"
REPORT = "load-report.json"
_EVERYWHERE = "0.0.0.0"  # noqa: S104 (of a network that only the containers have)
_STEP_SECONDS = 0.5
_ROTATE_BYTES = 64 * 1024 * 1024


class Pod:
    """One scenario's models, and the files of the Envoy in front of them."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self._scenario = scenario
        self._folder = folder
        self._files = Files(folder)
        self._moves: Moves | None = None
        self._fraction = 0.0

    async def run(self, usage_port: int, stop: asyncio.Event, usage_host: str = _EVERYWHERE) -> None:
        """Serve until `stop` is set. usage_port, usage_host: the metrics endpoint of the models' resource use."""
        Replicas.unready_file(self._folder).unlink(missing_ok=True)
        (self._folder / REPORT).unlink(missing_ok=True)
        serving = await upstreams.listen(
            self._scenario, Replicas.unready_file(self._folder), Replicas.logs(self._folder)
        )
        serving.usage.serve(usage_host, usage_port)
        self._scenario.write(self._folder / SCENARIO)
        (self._folder / CATALOG).write_text(yaml.safe_dump(catalog_of(self._scenario), sort_keys=False))
        envoy_config.write(self._scenario, serving.addresses, self._files, PORT, ADMIN_PORT, host=_EVERYWHERE)
        heartbeat = Heartbeat()
        try:
            while not stop.is_set():
                self._step(serving.addresses, time.time_ns() // 1_000_000)
                await asyncio.to_thread(self._rotate)
                heartbeat.beat()
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _STEP_SECONDS)
        finally:
            serving.close()

    def _step(self, addresses: dict[str, str], now_ms: int) -> None:
        report = LoadReport.read(self._folder / REPORT)
        fraction = report.fraction if report is not None else 0.0
        if self._moves is None or fraction < self._fraction:  # the first day, or the next one
            self._moves = Moves(
                self._scenario, Director(self._scenario, self._files, addresses, self._folder)
            )
        self._fraction = fraction
        self._moves.step(fraction, now_ms)

    def _rotate(self) -> None:
        """Rotate Envoy's log as logrotate does, and keep one old file."""
        log = self._files.access_log
        if not log.exists() or log.stat().st_size < _ROTATE_BYTES:
            return
        log.replace(log.with_name(f"{log.name}.1"))
        request = urllib.request.Request(f"http://{LOOPBACK}:{ADMIN_PORT}/reopen_logs", method="POST")
        with suppress(OSError):  # an unavailable Envoy opens the new file when it starts
            urllib.request.urlopen(request, timeout=2).close()  # noqa: S310


async def _main(folder: Path, usage_port: int) -> None:
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    await Pod(DEMO, folder).run(usage_port, stop)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m tidegate.demo.pod FOLDER USAGE_PORT")
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
