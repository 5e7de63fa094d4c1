"""The compose file as tests read it: by the compose plugin where there is one, else by our own eyes."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
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
def services() -> Mapping[str, dict[str, Any]]:
    """Every service, its variables replaced by their defaults and its anchors followed."""
    text = _VARIABLE.sub(lambda found: found[2] or "", FILE.read_text())
    return dict(yaml.safe_load(text.replace("$$", "$"))["services"])


def ours() -> Iterator[tuple[str, dict[str, Any]]]:
    """Those of our own images."""
    return ((name, one) for name, one in services().items() if one["image"].startswith("tidegate-"))


def has_plugin() -> bool:
    """Whether `docker compose` is here."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0
