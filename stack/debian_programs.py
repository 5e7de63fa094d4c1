"""Prometheus' programs: named by a variable, on the PATH, or unpacked from Debian's packages into the user's cache.

Nothing is installed: the package is downloaded by apt and only its program is used. Neither needs root: where apt's own
lists are missing or old, lists of our own are made beside the programs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tidegate.stack import user_cache
from tidegate.stack.errors import PartMissing

_SECONDS = 300
_SHARE = b"/usr/share/prometheus/alertmanager"
_HERE = b"/proc/self/cwd/./././././templates"
"""Debian's Alertmanager reads its templates from one place that isn't there when nothing is installed. A path of the
same length takes its place in the unpacked program: `templates` in the folder in which it is started."""


@dataclass(frozen=True)
class _Program:
    """name: of the program. package: Debian's. variable: names the program's file in the environment."""

    name: str
    package: str
    variable: str


_PROMETHEUS = _Program("prometheus", "prometheus", "TIDEGATE_PROMETHEUS")
_PROMTOOL = _Program("promtool", "prometheus", "TIDEGATE_PROMTOOL")
_ALERTMANAGER = _Program("prometheus-alertmanager", "prometheus-alertmanager", "TIDEGATE_ALERTMANAGER")
_NODE_EXPORTER = _Program("prometheus-node-exporter", "prometheus-node-exporter", "TIDEGATE_NODE_EXPORTER")


VARIABLES = tuple(program.variable for program in (_PROMETHEUS, _PROMTOOL, _ALERTMANAGER, _NODE_EXPORTER))
"""Each names a program's file, where it isn't on the PATH."""


def prometheus() -> Path:
    """Prometheus' program. Raises PartMissing where it can't be had."""
    return _program(_PROMETHEUS)


def promtool() -> Path:
    """Prometheus' own tool. Raises PartMissing where it can't be had."""
    return _program(_PROMTOOL)


def alertmanager() -> Path:
    """Alertmanager's program. Raises PartMissing where it can't be had."""
    return _program(_ALERTMANAGER)


def alertmanager_templates() -> Path | None:
    """What has to be `templates` in the folder in which Alertmanager is started; None where nothing has."""
    templates = _cache() / _ALERTMANAGER.package / _SHARE.decode().lstrip("/")
    return templates if alertmanager().is_relative_to(_cache()) else None


def node_exporter() -> Path:
    """The node exporter's program. Raises PartMissing where it can't be had."""
    return _program(_NODE_EXPORTER)


def _program(program: _Program) -> Path:
    if named := os.environ.get(program.variable):
        if not os.access(named, os.X_OK):
            raise PartMissing(f"{program.variable} is {named}, which is no program; mend or unset it")
        return Path(named)
    if found := shutil.which(program.name):
        return Path(found)
    unpacked = _cache() / program.package
    path = unpacked / "usr" / "bin" / program.name
    if not path.exists():
        with user_cache.lock(_cache() / f"{program.package}.lock"):
            if not path.exists():  # another process could have unpacked it meanwhile
                _unpack(program, unpacked)
    return path


def _unpack(program: _Program, target: Path) -> None:
    """Put the package's files there, whole or not at all."""
    todo = f"install the package {program.package}, or set {program.variable} to the program"
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise PartMissing(f"there is no {program.name}: {todo}")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="package-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # apt's own user downloads into it where root calls apt
        error = _download(program.package, folder, ())
        if error:
            lists = _own_lists()
            error = _run(("apt-get", *lists, "update"), folder) or _download(program.package, folder, lists)
        found = sorted(folder.glob("*.deb"))
        if error or not found:
            raise PartMissing(f"there is no {program.name}: {todo}. apt says: {error or 'nothing'}")
        error = _run(("dpkg-deb", "-x", str(found[0]), str(folder / "files")), folder)
        unpacked = folder / "files" / "usr" / "bin" / program.name
        if error or not unpacked.exists():
            raise PartMissing(f"{found[0].name} has no {program.name}: {todo}. {error}")
        if program is _ALERTMANAGER:
            unpacked.write_bytes(unpacked.read_bytes().replace(_SHARE, _HERE))
        shutil.rmtree(target, ignore_errors=True)
        (folder / "files").replace(target)


def _download(package: str, folder: Path, options: tuple[str, ...]) -> str:
    return _run(("apt-get", *options, "download", package), folder)


def _own_lists() -> tuple[str, ...]:
    """apt's options for lists that the user may write; sources and keys stay the system's."""
    folder = _cache() / "apt"
    for part in ("lists/partial", "archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    options = {
        "Dir::State::lists": folder / "lists",
        "Dir::Cache::archives": folder / "archives",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
    }
    return tuple(part for name, value in options.items() for part in ("-o", f"{name}={value}"))


def _run(command: tuple[str, ...], folder: Path) -> str:
    """What went wrong, in the command's own last words; nothing when all went well."""
    try:
        result = subprocess.run(
            command,
            cwd=folder,
            env=dict(os.environ) | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if result.returncode == 0:
        return ""
    return result.stderr.strip()[-1000:] or f"exit code {result.returncode}"


def _cache() -> Path:
    return user_cache.folder("debian")
