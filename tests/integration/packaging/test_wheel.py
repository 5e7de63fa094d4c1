"""The wheel as its users get it: built from the tree, installed into an empty environment, run outside the tree.

The environment has every requirement of this one by links, so that it is ready in seconds and needs no network; pip
still checks the wheel's requirements, extras included, against it.
"""

from __future__ import annotations

import email
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import WHEEL_VARIABLE
from tests.support.lines import at, line
from tests.support.paths import ROOT
from tidegate.schemas.json_schema import file_name
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import ALL_TOPICS
from tidegate.stack.processes import clean_environment

PATIENCE_SECONDS = 600

NOT_PACKAGES = {"benchmarks", "docker", "docs", "examples", "tests"}
NOT_BUILT_OF = (".*", "build", "dist", "*.egg-info", "__pycache__", "benchmarks", "docs", "tests")
SOURCES_ONLY = {".proto"}
"""Files beside the code that only its makers need."""


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel and nothing of the tree. folder: an empty one, to run in."""

    wheel: Path
    environment: Path
    folder: Path

    @property
    def site_packages(self) -> Path:
        """Where the wheel's files are."""
        return site_packages_of(self.environment)

    def run(self, *command: str, kafka: Kafka | None = None) -> subprocess.CompletedProcess[str]:
        """A program of the environment, to its end."""
        program, *arguments = command
        settings = {"TIDEGATE_STACK__STATE_DIR": str(self.folder)}
        if kafka is not None:
            settings |= {
                "TIDEGATE_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
                "TIDEGATE_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
            }
        return subprocess.run(
            [str(self.environment / "bin" / program), *arguments],
            cwd=self.folder,
            env=outside_environment() | settings,
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    def output(self, *command: str, kafka: Kafka | None = None) -> str:
        """What a program writes, which must succeed."""
        done = self.run(*command, kafka=kafka)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    named = os.environ.get(WHEEL_VARIABLE)
    wheel = Path(named).absolute() if named else built_wheel(folder)
    environment = folder / "environment"
    must([sys.executable, "-m", "venv", "--without-pip", str(environment)], folder)
    requirements = folder / "requirements"
    link_requirements(requirements)
    (site_packages_of(environment) / "requirements.pth").write_text(f"{requirements}\n")
    extras = metadata_of(wheel).get_all("Provides-Extra") or []
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index")
    must([str(environment / "bin" / "python"), *install, f"{wheel}[{','.join(extras)}]"], folder)
    outside = folder / "outside"
    outside.mkdir()
    return Installed(wheel, environment, outside)


def built_wheel(folder: Path) -> Path:
    """The wheel of the tree, made of a copy: what an earlier build left in `build/` would be in it too."""
    tree = folder / "tree"
    shutil.copytree(ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(*NOT_BUILT_OF))
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    must([sys.executable, *build, "--wheel-dir", str(folder), str(tree)], folder)
    (wheel,) = folder.glob("tidegate-*.whl")
    return wheel


def link_requirements(folder: Path) -> None:
    """Links to everything that is installed here, but tidegate.

    The environment gets the folder as one more place to import from, in which Python reads no .pth files.
    """
    folder.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "tidegate" not in path.name:
            (folder / path.name).symlink_to(path)


def site_packages_of(environment: Path) -> Path:
    (found,) = (environment / "lib").glob("python*/site-packages")
    return found


def outside_environment() -> dict[str, str]:
    """This process' environment without what would show the tree to another Python."""
    return {name: value for name, value in clean_environment().items() if not name.startswith("PYTHON")}


def must(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, env=outside_environment(), check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def metadata_of(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def files_of_the_tree() -> set[str]:
    """Every file below a package of the tree, as `tidegate/...`, wherever the layout has the packages."""
    namespace = ROOT / "src" / "tidegate"
    root = namespace if namespace.exists() else ROOT
    packages = [
        path.parent
        for path in root.glob("*/__init__.py")
        if path.parent.name not in NOT_PACKAGES and not path.parent.name.startswith(".")
    ]
    return {
        f"tidegate/{package.name}/{path.relative_to(package)}"
        for package in packages
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in SOURCES_ONLY
    }


def test_every_file_of_the_packages_is_in_the_wheel_and_nothing_else(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    # Files of the namespace itself, such as a py.typed of the whole, are the build's own.
    assert {name for name in found if name.count("/") > 1} == files_of_the_tree()


def test_every_package_is_marked_as_typed(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        names = set(archive.namelist())
    packages = {"/".join(name.split("/")[:2]) for name in names if name.endswith(".py")}
    assert len(packages) > 5
    whole = {"tidegate/__init__.py", "tidegate/py.typed"} <= names
    assert whole or {package for package in packages if f"{package}/py.typed" not in names} == set()


def test_its_modules_are_those_of_the_wheel_and_can_be_imported(installed: Installed) -> None:
    """Modules that are programs run when they are imported; each other one is imported."""
    code = """
import importlib, json, pkgutil, sys
import tidegate
found = {"": list(tidegate.__path__)}
for module in pkgutil.walk_packages(tidegate.__path__, "tidegate."):
    if not module.name.endswith("__main__"):
        found[module.name] = [importlib.import_module(module.name).__file__]
print(json.dumps(found))
"""
    found: dict[str, list[str]] = json.loads(installed.output("python", "-c", code))
    assert found[""] == [str(installed.site_packages / "tidegate")]
    outside = {
        name: paths
        for name, paths in found.items()
        if not all(path.startswith(f"{installed.site_packages}/") for path in paths)
    }
    assert outside == {}
    modules = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in files_of_the_tree()
        if name.endswith(".py") and not name.endswith("__main__.py")
    }
    assert found.keys() - {""} == modules


def test_the_command_tells_the_wheels_version(installed: Installed) -> None:
    version = metadata_of(installed.wheel)["Version"]
    assert installed.output("tidegate", "--version").strip() == f"tidegate {version}"


def test_doctor_reports(installed: Installed) -> None:
    done = installed.run("tidegate", "doctor", "--json")
    assert done.returncode in (0, 1), done.stderr
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert findings["Kafka"]["state"] in ("ok", "fail")


def test_schemas_are_written(installed: Installed) -> None:
    installed.output("tidegate", "schemas", "--out", "schemas")
    written = {path.name for path in (installed.folder / "schemas").iterdir()}
    assert written == {file_name(topic) for topic in ALL_TOPICS}


def test_settings_are_listed(installed: Installed) -> None:
    assert (
        installed.output("tidegate", "settings", "--markdown") == (ROOT / "docs" / "settings.md").read_text()
    )
    changed = installed.output("tidegate", "settings", "--changed")
    assert "environment TIDEGATE_STACK__STATE_DIR" in changed


@pytest.mark.timeout(1800)
def test_a_bounded_job_counts_the_lines(installed: Installed, kafka: Kafka) -> None:
    lines = [line(start_time=at(second)) for second in range(5)]
    (installed.folder / "access.log").write_text("".join(f"{one}\n" for one in lines))
    installed.output("tidegate", "replay", "access.log", "--shift-to-now", "--partition", "0", kafka=kafka)
    ended = installed.output("tidegate", "run", "service-metrics", "--bounded", kafka=kafka)
    assert f"{len(lines)} lines" in ended
    rows = installed.output("tidegate", "windows", "--level", "task", "--json", kafka=kafka).splitlines()
    assert sum(json.loads(row)["requests"] for row in rows) == len(lines)
