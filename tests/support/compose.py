"""The compose file as tests read it: by the compose plugin where there is one, else by our own eyes."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import yaml

from tests.support.paths import ROOT
from tidegate.stack import ports

FILE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / ".env.example"
PROFILES = ("core", "demo", "full")

_VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z][A-Z0-9_]*)(?::-([^}]*))?\}")
_SET = re.compile(r"^([A-Z][A-Z0-9_]*)=(.*)$", re.MULTILINE)


def variables() -> dict[str, str]:
    """Every variable that the compose file reads, with its default there."""
    return dict(_VARIABLE.findall(FILE.read_text()))


def example() -> dict[str, str]:
    """What stands in .env.example."""
    return dict(_SET.findall(EXAMPLE.read_text()))


@cache
def services(**given: str) -> Mapping[str, dict[str, Any]]:
    """Every service, its anchors followed, its variables replaced by what is given or else their defaults."""
    text = _VARIABLE.sub(lambda found: given.get(found[1], found[2] or ""), FILE.read_text())
    return dict(yaml.safe_load(text.replace("$$", "$"))["services"])


def ours() -> Iterator[tuple[str, dict[str, Any]]]:
    """Those of our own images."""
    return ((name, one) for name, one in services().items() if one["image"].startswith("tidegate-"))


@contextmanager
def server(name: str, port: int, **given: str) -> Iterator[int]:
    """A server of the compose file alone in a container, as it is set up there; the port of loopback that leads to it.

    port: where it listens in the container. given: variables of the file; PORT in one stands for the port of loopback.
    """
    from testcontainers.core.container import DockerContainer

    mine = ports.free()
    one = services(**{key: value.replace("PORT", str(mine)) for key, value in given.items()})[name]
    container = DockerContainer(one["image"]).with_envs(**one["environment"]).with_kwargs(hostname=name)
    container.ports[port] = (ports.HOST, mine)
    with container:
        yield mine


def has_plugin() -> bool:
    """Whether `docker compose` is here."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0
