"""Prometheus' programs and a browser: named by a variable, found on the PATH, or unpacked from Debian's packages.

Nothing is installed: apt downloads packages into the user's cache, and only their programs are used. This needs no
root: if apt's own lists are missing or old, it uses lists of its own beside the programs.
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
"""Debian's Alertmanager reads its templates from a path that doesn't exist unless it is installed. In the unpacked
program a path of the same length replaces it: `templates` in the folder in which it is started."""


@dataclass(frozen=True)
class _Program:
    """name: of the program. package: Debian's. variable: names the program's file in the environment.

    whole: its libraries are packages that may be missing here, so they are unpacked beside it.
    """

    name: str
    package: str
    variable: str
    whole: bool = False


_PROMETHEUS = _Program("prometheus", "prometheus", "TIDEGATE_PROMETHEUS")
_PROMTOOL = _Program("promtool", "prometheus", "TIDEGATE_PROMTOOL")
_ALERTMANAGER = _Program("prometheus-alertmanager", "prometheus-alertmanager", "TIDEGATE_ALERTMANAGER")


_CHROMIUM = _Program("chromium", "chromium-driver", "TIDEGATE_CHROMIUM", whole=True)
_CHROMEDRIVER = _Program("chromedriver", "chromium-driver", "TIDEGATE_CHROMEDRIVER", whole=True)

VARIABLES = tuple(
    program.variable for program in (_PROMETHEUS, _PROMTOOL, _ALERTMANAGER, _CHROMIUM, _CHROMEDRIVER)
)
"""Each names a program's file, where it isn't on the PATH."""


def prometheus() -> Path:
    """Prometheus' program. Raises PartMissing if it isn't available."""
    return _program(_PROMETHEUS)


def promtool() -> Path:
    """Prometheus' own tool. Raises PartMissing if it isn't available."""
    return _program(_PROMTOOL)


def alertmanager() -> Path:
    """Alertmanager's program. Raises PartMissing if it isn't available."""
    return _program(_ALERTMANAGER)


def alertmanager_templates() -> Path | None:
    """The target of `templates` in the folder in which Alertmanager is started; None if it isn't needed."""
    templates = _cache() / _ALERTMANAGER.package / _SHARE.decode().lstrip("/")
    return templates if alertmanager().is_relative_to(_cache()) else None


def browser() -> tuple[Path, Path]:
    """Chromium's program and its driver's, to be run in `browser_environment`.

    Raises PartMissing if they aren't available.
    """
    program, driver = _program(_CHROMIUM), _program(_CHROMEDRIVER)
    if program.is_relative_to(_cache()):
        # The package's own starter looks for its parts where an installed package has them.
        program = _unpacked_browser() / "usr" / "lib" / "chromium" / "chromium"
    return program, driver


def browser_environment() -> dict[str, str]:
    """The variables with which the browser finds the libraries and fonts that were unpacked beside it."""
    root = _unpacked_browser()
    libraries = [
        part
        for folder in sorted((root / "usr" / "lib").glob("*-linux-gnu"))
        for part in (folder, folder / "pulseaudio")
    ]
    found = {"LD_LIBRARY_PATH": ":".join(map(str, libraries))} if libraries else {}
    if (root / "etc" / "fonts").exists():
        found["FONTCONFIG_PATH"] = str(root / "etc" / "fonts")
    if (root / "usr" / "share" / "fonts").exists():
        found["XDG_DATA_HOME"] = str(root / "usr" / "share")
    return found


def _unpacked_browser() -> Path:
    return _cache() / _CHROMIUM.package


def _program(program: _Program) -> Path:
    if named := os.environ.get(program.variable):
        if not os.access(named, os.X_OK):
            raise PartMissing(f"{program.variable} is {named}, which is not a program; correct or unset it")
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
    """Unpack the package's files there, completely or not at all."""
    todo = f"install the package {program.package}, or set {program.variable} to the program"
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise PartMissing(f"{program.name} is not available; {todo}")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="package-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # apt's own user downloads into it where root calls apt
        error = _download(program, folder, ())
        if error:
            lists = _own_lists()
            error = _run(("apt-get", *lists, "update"), folder) or _download(program, folder, lists)
        found = sorted(folder.glob("*.deb"))
        if error or not found:
            raise PartMissing(f"{program.name} is not available; {todo}. apt reports: {error or 'nothing'}")
        for package in found:
            error = error or _run(("dpkg-deb", "-x", str(package), str(folder / "files")), folder)
        unpacked = folder / "files" / "usr" / "bin" / program.name
        if error or not unpacked.exists():
            raise PartMissing(f"{program.package} has no {program.name}; {todo}. {error}")
        if program is _ALERTMANAGER:
            unpacked.write_bytes(unpacked.read_bytes().replace(_SHARE, _HERE))
        shutil.rmtree(target, ignore_errors=True)
        (folder / "files").replace(target)


def _download(program: _Program, folder: Path, options: tuple[str, ...]) -> str:
    packages = [program.package]
    if program.whole:
        # The dependencies that an installation would add to this machine.
        simulated = ("apt-get", *options, "install", "--simulate", "--no-install-recommends", program.package)
        plan = _call(simulated, folder)
        if plan.returncode:
            return _wrong(plan)
        packages += [line.split()[1] for line in plan.stdout.splitlines() if line.startswith("Inst ")]
    return _run(("apt-get", *options, "download", *sorted(set(packages))), folder)


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
    """The end of the command's error output; empty if it succeeds."""
    return _wrong(_call(command, folder))


def _call(command: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
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
        return subprocess.CompletedProcess(command, 1, "", str(error))


def _wrong(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == 0:
        return ""
    return done.stderr.strip()[-1000:] or f"exit code {done.returncode}"


def _cache() -> Path:
    return user_cache.folder("debian")
