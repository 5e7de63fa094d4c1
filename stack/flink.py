"""Flink: a standalone cluster of one JobManager and one TaskManager, from the apache-flink package.

Jobs bring their own jars (`pipeline.jars`), so nothing is added to the distribution. Both processes share one
folder with the checkpoints in it; either can be killed and started again without the other.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidegate.artifacts.jvm import java
from tidegate.schemas.settings import Settings
from tidegate.stack import flink_conf
from tidegate.stack.errors import PartMissing, StackError
from tidegate.stack.ports import HOST
from tidegate.stack.processes import Launch
from tidegate.stack.server import Place

_FOLDER = "flink"
_CLUSTER = "cluster.json"


class _FlinkProcess:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = settings.stack

    def folder(self, state_dir: Path, earlier: Path | None) -> Path:
        """The cluster's folder, shared by both processes, with the checkpoints."""
        return state_dir / _FOLDER


class FlinkJobManager(_FlinkProcess):
    """Runs jobs, keeps checkpoint metadata, serves the web UI, and writes its addresses for the TaskManagers."""

    name = "flink-jobmanager"

    @property
    def ports(self) -> Mapping[str, int]:
        """One for REST and the web UI, one for the TaskManagers, one for jobs' files."""
        return {"rest": self._stack.flink_rest_port, "rpc": 0, "blob": 0}

    def prepare(self, place: Place) -> Launch:
        """Write its configuration, and the cluster's addresses for the TaskManager."""
        cluster = {
            "jobmanager.rpc.address": HOST,
            "jobmanager.rpc.port": str(place.ports["rpc"]),
            "rest.address": HOST,
            "rest.port": str(place.ports["rest"]),
        }
        (place.folder / _CLUSTER).write_text(json.dumps(cluster))
        options = cluster | {
            "jobmanager.bind-host": HOST,
            "jobmanager.memory.process.size": f"{self._stack.jobmanager_memory_mib}m",
            "rest.bind-address": HOST,
            "rest.bind-port": str(place.ports["rest"]),
            "blob.server.port": str(place.ports["blob"]),
            "web.upload.dir": str(_made(place, "uploads")),
            "execution.checkpointing.storage": "filesystem",
            "execution.checkpointing.dir": self._settings.checkpoint_dir().absolute().as_uri(),
        }
        return _launch(place, self.name, "jobmanager.sh", options | self._settings.flink.options)

    def problem(self, place: Place) -> str | None:
        """Ready when it answers by REST."""
        try:
            _get(_rest(place), "overview")
        except (OSError, ValueError) as error:
            return f"it doesn't answer yet: {getattr(error, 'reason', error)}"
        return None

    def addresses(self, place: Place) -> dict[str, str]:
        """The web UI."""
        return {"web UI": f"http://{_rest(place)}"}

    def settings(self, place: Place) -> dict[str, dict[str, Any]]:
        """`flink.rest_address`."""
        return {"flink": {"rest_address": _rest(place)}}


class FlinkTaskManager(_FlinkProcess):
    """Runs the jobs' tasks. After a restart, jobs resume from their last checkpoint."""

    name = "flink-taskmanager"

    @property
    def ports(self) -> Mapping[str, int]:
        """One for the JobManager, one for data."""
        return {"rpc": 0, "data": 0}

    def prepare(self, place: Place) -> Launch:
        """Write its configuration.

        Raises StackError when no JobManager was ever started here.
        """
        options = _cluster(place) | {
            "taskmanager.host": HOST,
            "taskmanager.bind-host": HOST,
            "taskmanager.rpc.port": str(place.ports["rpc"]),
            "taskmanager.data.port": str(place.ports["data"]),
            "taskmanager.resource-id": _resource(place),
            "taskmanager.numberOfTaskSlots": str(self._stack.taskmanager_slots),
            "taskmanager.memory.process.size": f"{self._stack.taskmanager_memory_mib}m",
        }
        return _launch(place, self.name, "taskmanager.sh", options | self._settings.flink.options)

    def problem(self, place: Place) -> str | None:
        """Ready when this process is registered; a dead one stays registered for a while, under another id."""
        try:
            known = _get(_cluster_rest(place), "taskmanagers")["taskmanagers"]
        except (OSError, ValueError, KeyError) as error:
            return f"the JobManager doesn't answer yet: {getattr(error, 'reason', error)}"
        if any(manager["id"] == _resource(place) for manager in known):
            return None
        return "it isn't registered at the JobManager yet"

    def addresses(self, place: Place) -> dict[str, str]:
        """Its page in the web UI."""
        return {"web UI": f"http://{_cluster_rest(place)}/#/task-manager/{_resource(place)}/metrics"}

    def settings(self, place: Place) -> dict[str, dict[str, Any]]:
        """None: jobs go to the JobManager."""
        return {}


def _launch(place: Place, name: str, script: str, options: Mapping[str, str]) -> Launch:
    home = _home()
    conf, work = _made(place, f"{name}-conf"), _made(place, f"{name}-work")
    flink_conf.write(conf, {**flink_conf.shared_options(home, work, sys.executable), **options})
    environment = {
        "FLINK_CONF_DIR": str(conf),
        "FLINK_LOG_DIR": str(work),
        "FLINK_PID_DIR": str(work),
        "JAVA_HOME": str(java().parent.parent),
    }
    return Launch(("bash", str(home / "bin" / script), "start-foreground"), place.folder, environment)


def _home() -> Path:
    try:
        import pyflink  # noqa: PLC0415 (a part that only the jobs and the stack bring)
    except ImportError as error:
        raise PartMissing("Flink isn't installed; pip install 'tidegate[stack]'") from error
    return Path(pyflink.__file__).parent


def _made(place: Place, name: str) -> Path:
    folder = place.folder / name
    folder.mkdir(exist_ok=True)
    return folder


def _resource(place: Place) -> str:
    return f"taskmanager-{place.label}"


def _rest(place: Place) -> str:
    return f"{HOST}:{place.ports['rest']}"


def _cluster(place: Place) -> dict[str, str]:
    path = place.folder / _CLUSTER
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise StackError("the TaskManager needs a JobManager; start both: `tidegate up flink`") from error


def _cluster_rest(place: Place) -> str:
    cluster = _cluster(place)
    return f"{cluster['rest.address']}:{cluster['rest.port']}"


def _get(rest: str, path: str) -> Any:
    try:
        with urllib.request.urlopen(f"http://{rest}/{path}", timeout=1) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise ValueError(f"status {error.code}") from error
