"""kube-apiserver and etcd: found in `KUBEBUILDER_ASSETS`, or built once from their Go modules into the user's cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidegate.stack import user_cache
from tidegate.stack.errors import PartMissing, StackError

ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"
KUBERNETES_VERSION = "v1.34.1"
ETCD_VERSION = "v3.6.5"

_BUILD_SECONDS = 3600
_GO_VERSION = "1.24"
_LDFLAGS = "-s -w " + " ".join(
    f"-X {package}.git{name}={value}"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    for name, value in (("Version", KUBERNETES_VERSION), ("Major", "1"), ("Minor", "34"))
)
_STAGING = "./staging/src/"
"""The path of the modules in Kubernetes' own go.mod that are published separately; elsewhere they need a version."""


@dataclass(frozen=True)
class _Program:
    name: str
    module: str
    package: str
    version: str
    ldflags: str


_KUBE_APISERVER = _Program(
    "kube-apiserver",
    "k8s.io/kubernetes",
    "k8s.io/kubernetes/cmd/kube-apiserver",
    KUBERNETES_VERSION,
    _LDFLAGS,
)
_ETCD = _Program("etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3", ETCD_VERSION, "-s -w")


def kube_apiserver() -> Path:
    """The API server's program. The first build takes some minutes.

    Raises PartMissing if there is neither a program nor Go, StackError if the build fails.
    """
    return _program(_KUBE_APISERVER)


def etcd() -> Path:
    """etcd's program, found or built as the API server's. Raises PartMissing and StackError."""
    return _program(_ETCD)


def _program(program: _Program) -> Path:
    if folder := os.environ.get(ASSETS_VARIABLE):
        path = Path(folder) / program.name
        if not os.access(path, os.X_OK):
            raise PartMissing(
                f"{ASSETS_VARIABLE} is {folder}, which has no program {program.name}; "
                "put it there, or unset the variable to build it"
            )
        return path
    built = _cache() / f"{program.name}-{program.version}"
    if not built.exists():
        with user_cache.lock(built.with_name(built.name + ".lock")):
            if not built.exists():  # another process could have built it meanwhile
                _build(program, built)
    return built


def _build(program: _Program, target: Path) -> None:
    """Build the program there, completely or not at all."""
    if shutil.which("go") is None:
        raise PartMissing(
            f"{program.name} {program.version} is not available; set {ASSETS_VARIABLE} to a folder that has it, or "
            f"install Go {_GO_VERSION} or newer, which builds it once"
        )
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as name:
        folder = Path(name)
        (folder / "go.mod").write_text(_go_mod(program, folder))
        draft = folder / program.name
        flags = ("-mod=mod", "-trimpath", "-ldflags", program.ldflags, "-o", str(draft))
        _go(program, folder, "build", *flags, program.package)
        version = _run((str(draft), "--version"), folder, {}, f"{program.name} --version")
        if program.version.removeprefix("v") not in version:
            raise StackError(f"{program.name} was built with version {version!r}; expected {program.version}")
        draft.replace(target)


def _go_mod(program: _Program, folder: Path) -> str:
    """A module that needs nothing but the program's, with the replacements that only hold in a main module."""
    (folder / "go.mod").write_text(f"module tidegate/build\n\ngo {_GO_VERSION}\n")
    found = json.loads(
        _go(program, folder, "mod", "download", "-json", f"{program.module}@{program.version}")
    )
    written = json.loads(_go(program, folder, "mod", "edit", "-json", found["GoMod"]))
    published = program.version.replace("v1.", "v0.", 1)
    replaced = [
        f"replace {name} => {name} {published}\n"
        for replacement in written.get("Replace") or ()
        for name in [replacement["Old"]["Path"]]
        if replacement["New"]["Path"] == _STAGING + name
    ]
    return (
        f"module tidegate/build\n\ngo {_GO_VERSION}\n\nrequire {program.module} {program.version}\n\n"
        + "".join(replaced)
    )


def _go(program: _Program, folder: Path, *arguments: str) -> str:
    environment = {"CGO_ENABLED": "0", "GOWORK": "off"}
    return _run(("go", *arguments), folder, environment, f"building {program.name} {program.version}")


def _run(command: tuple[str, ...], folder: Path, environment: Mapping[str, str], what: str) -> str:
    try:
        result = subprocess.run(
            command,
            cwd=folder,
            env=dict(os.environ) | dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StackError(f"{what} failed: {error}") from error
    if result.returncode:
        # Go names each module that it downloads; what went wrong stands last.
        raise StackError(
            f"{what} failed with exit code {result.returncode}; Go needs its module proxy, or set "
            f"{ASSETS_VARIABLE} to a folder with the programs:\n{result.stderr[-2000:]}"
        )
    return result.stdout


def _cache() -> Path:
    return user_cache.folder("kubernetes")


def main() -> None:
    """Find or build both, so that no test has to wait for it."""
    for path in (etcd(), kube_apiserver()):
        print(path)  # noqa: T201


if __name__ == "__main__":
    main()
