"""Elasticsearch: one node, the real server without its optional modules.

It refuses to run as root. Started by root it runs as an unprivileged user, who must be able to
enter its folder.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.artifacts import coordinates, maven
from tidegate.artifacts.jvm import java
from tidegate.schemas.settings import Settings
from tidegate.stack.errors import PartMissing, StackError
from tidegate.stack.ports import HOST, answers
from tidegate.stack.processes import Launch
from tidegate.stack.server import Place

USUAL_USERS = ("elasticsearch", "nobody")
OTHER_PLACE = "/var/tmp"  # noqa: S108 (mkdtemp makes a folder there that only root and then the user may write)

_READY = ("green", "yellow")
_KEPT_CONFIG = ("log4j2.properties", "jvm.options")


@dataclass(frozen=True)
class _User:
    name: str
    user: int
    group: int


class ElasticsearchServer:
    """The node, with its program and data in its folder."""

    name = "elasticsearch"

    def __init__(self, settings: Settings) -> None:
        self._heap_mib = settings.stack.elasticsearch_heap_mib
        self._port = settings.stack.elasticsearch_port
        self._wanted_user = settings.stack.elasticsearch_user

    @property
    def ports(self) -> Mapping[str, int]:
        """One for clients, and one for other nodes, of which there are none."""
        return {"http": self._port, "transport": 0}

    def folder(self, state_dir: Path, earlier: Path | None) -> Path:
        """A folder in the state folder, or, if its user can't enter that (below /root), a new one in /var/tmp."""
        if earlier is not None and earlier.exists():
            return earlier
        user = self._user()
        if user is None or _may_enter(user, state_dir):
            return state_dir / self.name
        folder = Path(tempfile.mkdtemp(prefix="tidegate-elasticsearch-", dir=OTHER_PLACE))
        folder.chmod(0o755)
        return folder

    def prepare(self, place: Place) -> Launch:
        """Unpack the server the first time, and make its user the owner of the folders that it writes to."""
        program = _unpacked(maven.file(coordinates.ELASTICSEARCH), place.folder)
        config = place.folder / "config"
        if config.exists():
            shutil.rmtree(config)  # its user could have put links there, through which root would write
        for folder in (config / "jvm.options.d", *(place.folder / name for name in ("data", "logs", "tmp"))):
            folder.mkdir(parents=True, exist_ok=True)
        for name in _KEPT_CONFIG:
            shutil.copyfile(program / "config" / name, config / name)
        (config / "elasticsearch.yml").write_text(_configuration(place))
        user = self._user()
        if user is not None:
            for name in ("config", "data", "logs", "tmp"):
                _give(place.folder / name, user)
            _check_java(user)
        return Launch(
            command=(str(program / "bin" / "elasticsearch"),),
            directory=place.folder / "logs",
            environment={
                "ES_PATH_CONF": str(config),
                "ES_JAVA_HOME": str(java().parent.parent),
                "ES_JAVA_OPTS": f"-Xms{self._heap_mib}m -Xmx{self._heap_mib}m",
                "ES_TMPDIR": str(place.folder / "tmp"),
                "HOME": str(place.folder),
            },
            user=user.user if user else None,
            group=user.group if user else None,
        )

    def problem(self, place: Place) -> str | None:
        """Ready when the cluster's health is yellow (nothing is missing) or green."""
        if not answers(place.ports["http"]):
            return "its port isn't open yet"
        request = f"{_url(place)}/_cluster/health"
        try:
            with urllib.request.urlopen(request, timeout=1.5) as response:  # noqa: S310 (loopback, http)
                health = json.load(response)["status"]
        except (OSError, ValueError, KeyError) as error:
            return f"it doesn't answer yet: {error}"
        return None if health in _READY else f"its health is {health}"

    def addresses(self, place: Place) -> dict[str, str]:
        """The URL."""
        return {"url": _url(place)}

    def settings(self, place: Place) -> dict[str, dict[str, Any]]:
        """`elasticsearch.url`."""
        return {"elasticsearch": {"url": _url(place)}}

    def _user(self) -> _User | None:
        """The user who runs it; None for the current user.

        Raises StackError if the user of the settings is unknown or root, or none of the usual ones exists.
        """
        if os.geteuid() != 0:
            return None
        for name in (self._wanted_user,) if self._wanted_user else USUAL_USERS:
            try:
                found = pwd.getpwnam(name)
            except KeyError:
                continue
            if found.pw_uid == 0:
                raise StackError(
                    f"stack.elasticsearch_user is {name}, which is root; set an unprivileged user, since "
                    "Elasticsearch refuses to run as root"
                )
            return _User(name, found.pw_uid, found.pw_gid)
        wanted = self._wanted_user or " nor ".join(USUAL_USERS)
        raise StackError(
            f"Elasticsearch can't run as root, and there is no user {wanted}; create one, or set "
            "stack.elasticsearch_user to an unprivileged user"
        )


def _url(place: Place) -> str:
    return f"http://{HOST}:{place.ports['http']}"


def _configuration(place: Place) -> str:
    values: dict[str, Any] = {
        "cluster.name": "tidegate",
        "node.name": "tidegate-1",
        "discovery.type": "single-node",
        "network.host": HOST,
        "http.port": place.ports["http"],
        "transport.port": place.ports["transport"],
        "path.data": str(place.folder / "data"),
        "path.logs": str(place.folder / "logs"),
        "xpack.security.enabled": False,
        # A nearly full disk of a developer's machine should not make indices read-only.
        "cluster.routing.allocation.disk.threshold_enabled": False,
        "action.auto_create_index": True,
    }
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in values.items())


def _unpacked(archive: Path, folder: Path) -> Path:
    """The server's program folder, unpacked completely or not at all. Readable by all users, writable by its owner."""
    program = folder / archive.stem
    if program.exists():
        return program
    with tempfile.TemporaryDirectory(dir=folder) as draft, zipfile.ZipFile(archive) as content:
        for entry in content.infolist():
            path = Path(content.extract(entry, draft))
            mode = entry.external_attr >> 16
            path.chmod(0o755 if entry.is_dir() or mode & 0o100 else 0o644)
        for path in [Path(draft), *(p for p in Path(draft).rglob("*") if p.is_dir())]:
            path.chmod(0o755)
        (Path(draft) / archive.stem).rename(program)
    return program


def _give(folder: Path, user: _User) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.user, user.group, follow_symlinks=False)


def _may_enter(user: _User, folder: Path) -> bool:
    return _as_user(user, "/bin/sh", "-c", 'cd "$1"', "sh", str(folder))


def _check_java(user: _User) -> None:
    if not _as_user(user, str(java()), "-version"):
        raise PartMissing(
            f"user {user.name}, who runs Elasticsearch, can't run {java()}; install a JDK for all users, set "
            "JAVA_HOME to one, or set stack.elasticsearch_user to a user who can"
        )


def _as_user(user: _User, *command: str) -> bool:
    result = subprocess.run(
        command,
        user=user.user,
        group=user.group,
        extra_groups=[],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    return result.returncode == 0
