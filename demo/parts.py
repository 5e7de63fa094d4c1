"""The demo's own processes, as servers of the local stack: `tidegate status` shows them, `down` stops them."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tidegate.demo import envoy_config
from tidegate.demo.envoy_config import Files
from tidegate.demo.load_report import LoadReport
from tidegate.demo.scenario import Scenario
from tidegate.schemas.elasticsearch import INDEX_CONTRACTS
from tidegate.schemas.settings import Elasticsearch, Settings
from tidegate.stack.envoy import EnvoyServer
from tidegate.stack.ports import HOST, answers
from tidegate.stack.processes import Launch
from tidegate.stack.server import Place, UsualFolder

GATEWAY_NAME = "gateway-1"
_NO_PORTS: Mapping[str, int] = {}


class _Part(UsualFolder):
    """A process of the demo without ports of the stack and without settings."""

    @property
    def ports(self) -> Mapping[str, int]:
        return _NO_PORTS

    def problem(self, place: Place) -> str | None:
        """Ready as soon as it runs; the demo checks that it keeps running."""
        return None

    def addresses(self, place: Place) -> dict[str, str]:
        """None by default."""
        return {}

    def settings(self, place: Place) -> dict[str, dict[str, Any]]:
        """None by default."""
        return {}


class Replicas(_Part):
    """Every replica of the scenario, in one process."""

    name = "replicas"

    def __init__(self, scenario: Scenario, scenario_file: Path) -> None:
        self._scenario = scenario
        self._scenario_file = scenario_file

    def prepare(self, place: Place) -> Launch:
        """Remove the addresses of an earlier start."""
        _addresses(place).unlink(missing_ok=True)
        self.unready_file(place.folder).unlink(missing_ok=True)
        program = (sys.executable, "-m", "tidegate.demo.upstreams")
        files = (
            self._scenario_file,
            _addresses(place),
            self.unready_file(place.folder),
            place.folder / _USAGE,
            self.logs(place.folder),
        )
        return Launch((*program, *map(str, files)), place.folder)

    def problem(self, place: Place) -> str | None:
        """Ready when all of them listen."""
        return None if _addresses(place).exists() else "not all replicas listen yet"

    def addresses(self, place: Place) -> dict[str, str]:
        """Their number, and the file with their addresses."""
        return {f"{len(list(self._scenario.replicas()))} replicas": str(_addresses(place))}

    @staticmethod
    def listening(folder: Path) -> dict[str, str]:
        """Replica name to `ip:port`, of the replicas whose files are in this folder."""
        return dict(json.loads((folder / _ADDRESSES).read_text()))

    @staticmethod
    def usage(folder: Path) -> str:
        """host:port of the metrics endpoint of the replicas with their files in this folder."""
        return (folder / _USAGE).read_text()

    @staticmethod
    def logs(folder: Path) -> Path:
        """The folder of the logs, `DEPARTMENT/TASK/REPLICA.log`, of the replicas with their files in this folder."""
        return folder / _LOGS

    @staticmethod
    def unready_file(folder: Path) -> Path:
        """The file with the names of the replicas that aren't ready, as a JSON list."""
        return folder / _UNREADY

    @staticmethod
    def set_unready(folder: Path, names: Iterable[str]) -> None:
        """Mark exactly these replicas as not ready."""
        draft = folder / f".{_UNREADY}"
        draft.write_text(json.dumps(sorted(names)))
        draft.replace(Replicas.unready_file(folder))


class DemoGateway(EnvoyServer):
    """Envoy with one route per task and the access log in tidegate's format."""

    name = "gateway"

    def __init__(self, settings: Settings, scenario: Scenario, replicas: Mapping[str, str]) -> None:
        """replicas: name to `ip:port`. Its files are below the settings' state folder."""
        self._files = Files(settings.stack.state_dir.absolute() / self.name)
        super().__init__(settings, self._files.bootstrap)
        self._scenario = scenario
        self._replicas = replicas

    @property
    def ports(self) -> Mapping[str, int]:
        """One for the clients, one for its admin page."""
        return {"http": 0, "admin": 0}

    def prepare(self, place: Place) -> Launch:
        """Write its configuration."""
        http, admin = place.ports["http"], place.ports["admin"]
        envoy_config.write(self._scenario, self._replicas, self._files, http, admin)
        return replace(super().prepare(place), environment={"POD_NAME": GATEWAY_NAME})


class Shipper(_Part):
    """`tidegate ship`: the gateway's log."""

    name = "shipper"
    _arguments: tuple[str, ...] = ("ship",)

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command

    @classmethod
    def state_dir(cls, folder: Path) -> Path:
        """The folder of its offsets, below the demo's folder."""
        return folder / cls.name / "state"

    def prepare(self, place: Place) -> Launch:
        """Its files come from the demo's tidegate.toml."""
        return Launch((*self._command, *self._arguments), place.folder)

    def problem(self, place: Place) -> str | None:
        """Ready when its state folder exists."""
        return None if self.state_dir(place.folder.parent).exists() else "it hasn't started to ship yet"


class ServiceShipper(Shipper):
    """`tidegate ship --services`: the replicas' logs."""

    name = "service-shipper"
    _arguments = ("ship", "--services")


class Indexer(_Part):
    """`tidegate index`."""

    name = "indexer"

    def __init__(self, command: tuple[str, ...], elasticsearch: Elasticsearch) -> None:
        self._command = command
        self._elasticsearch = elasticsearch

    def prepare(self, place: Place) -> Launch:
        """All topics."""
        return Launch((*self._command, "index"), place.folder)

    def problem(self, place: Place) -> str | None:
        """Ready when the last index template exists."""
        last = INDEX_CONTRACTS[-1].alias(self._elasticsearch.index_prefix)
        url = f"{self._elasticsearch.url.rstrip('/')}/_index_template/{last}"
        try:
            urllib.request.urlopen(url, timeout=1).close()  # noqa: S310 (the settings allow http and https only)
        except (OSError, ValueError):
            return "the index templates aren't installed yet"
        return None


class Watcher(_Part):
    """`tidegate watch`."""

    name = "watcher"

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command

    def prepare(self, place: Place) -> Launch:
        """The settings name its source."""
        return Launch((*self._command, "watch"), place.folder)


class Controller(_Part):
    """`tidegate limit`."""

    name = "controller"

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command

    def prepare(self, place: Place) -> Launch:
        """The settings name its catalog and target."""
        return Launch((*self._command, "limit"), place.folder)


class AlertSender(_Part):
    """`tidegate alerts send`."""

    name = "alert-sender"

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command

    def prepare(self, place: Place) -> Launch:
        """The settings name its receivers."""
        return Launch((*self._command, "alerts", "send"), place.folder)


class RemoteWriter(_Part):
    """`tidegate remote-write`."""

    name = "remote-write"

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command

    @property
    def ports(self) -> Mapping[str, int]:
        """One, for the Prometheus."""
        return {"http": 0}

    def prepare(self, place: Place) -> Launch:
        """The settings name the accepted metrics."""
        return Launch((*self._command, "remote-write", "--port", str(place.ports["http"])), place.folder)

    def problem(self, place: Place) -> str | None:
        """Ready when it listens."""
        return None if answers(place.ports["http"]) else "it doesn't listen yet"

    def addresses(self, place: Place) -> dict[str, str]:
        """The remote-write URL."""
        return {"url": f"http://{HOST}:{place.ports['http']}/api/v1/write"}


class Clients(_Part):
    """The load."""

    name = "clients"

    def __init__(self, scenario_file: Path, port: int, seconds: float) -> None:
        self._scenario_file = scenario_file
        self._port = port
        self._seconds = seconds

    def prepare(self, place: Place) -> Launch:
        """Remove an earlier report."""
        _report(place).unlink(missing_ok=True)
        program = (sys.executable, "-m", "tidegate.demo.load")
        arguments = (str(self._scenario_file), str(_report(place)), str(self._port), str(self._seconds))
        return Launch((*program, *arguments), place.folder)

    def problem(self, place: Place) -> str | None:
        """Ready when the first report exists."""
        return None if _report(place).exists() else "no request yet"

    @staticmethod
    def report(folder: Path) -> LoadReport | None:
        """The newest report of the clients with their files in this folder."""
        return LoadReport.read(folder / _REPORT)


_ADDRESSES = "addresses.json"
_LOGS = "logs"
_REPORT = "report.json"
_UNREADY = "unready.json"
_USAGE = "usage-address"


def _addresses(place: Place) -> Path:
    return place.folder / _ADDRESSES


def _report(place: Place) -> Path:
    return place.folder / _REPORT
