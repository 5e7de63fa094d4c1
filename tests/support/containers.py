"""tidegate's images, built from this folder, and containers of them that reach the tests' servers.

BUILD_FLAGS is as for `make images`: what a network of one's own needs.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache

from tests.support.compose import ROOT
from tests.support.waiting import until
from tidegate.schemas.settings import Elasticsearch, Kafka

BASE = "debian:bookworm-slim"
BUILD_SECONDS = 900
_LIKE_COMPOSE = (
    *("--network", "host", "--read-only", "--init"),
    *("--tmpfs", "/tmp:mode=1777,size=1g,exec"),  # noqa: S108 (the container's own)
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges:true"),
)


def docker(*arguments: str, timeout: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
    """One command of Docker's, to its end."""
    program = shutil.which("docker")
    if program is None:
        raise FileNotFoundError("docker")
    done = subprocess.run(
        [program, *arguments],
        cwd=ROOT,
        env=os.environ | {"DOCKER_BUILDKIT": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0 or not check, f"docker {arguments}:\n{done.stdout}{done.stderr}"
    return done


@cache
def missing() -> str | None:
    """Why no image can be built here; None where it can."""
    try:
        version = docker("version", "--format", "{{.Client.Version}}", check=False)
    except FileNotFoundError:
        return "needs Docker"
    if version.returncode != 0:
        return "no Docker daemon answers"
    # From 23 on, what understands the Dockerfiles' mounts is a plugin.
    if int(version.stdout.partition(".")[0]) >= 23 and docker("buildx", "version", check=False).returncode:
        return "needs Docker's plugin buildx"
    if docker("image", "inspect", BASE, check=False).returncode == 0:
        return None
    pulled = docker("pull", "--quiet", BASE, timeout=300, check=False)
    return None if pulled.returncode == 0 else f"{BASE} isn't here and can't be pulled"


@cache
def image(name: str) -> str:
    """The image `jobs` or `adapters`, built; its name. Only where nothing is `missing`."""
    tag = f"tidegate-{name}:test"
    flags = shlex.split(os.environ.get("BUILD_FLAGS", ""))
    docker("build", *flags, "--file", f"docker/{name}/Dockerfile", "--tag", tag, ".", timeout=BUILD_SECONDS)
    return tag


def environment(kafka: Kafka, elasticsearch: Elasticsearch | None = None) -> dict[str, str]:
    """What leads a role to the tests' servers."""
    reported = {
        "TIDEGATE_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TIDEGATE_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
    }
    if elasticsearch is not None:
        reported["TIDEGATE_ELASTICSEARCH__URL"] = elasticsearch.url
        reported["TIDEGATE_ELASTICSEARCH__INDEX_PREFIX"] = elasticsearch.index_prefix
    return reported


def run(
    image: str, *command: str, environment: Mapping[str, str] | None = None, flags: Sequence[str] = ()
) -> str:
    """A container to its end, confined as in the compose file; what it said."""
    return docker("run", "--rm", *_options(environment, flags), image, *command, timeout=280).stdout


@contextmanager
def running(
    image: str, *command: str, environment: Mapping[str, str] | None = None, flags: Sequence[str] = ()
) -> Iterator[str]:
    """A container's name, until the block ends; it is removed then."""
    name = f"tidegate-test-{uuid.uuid4().hex[:8]}"
    docker("run", "--detach", "--name", name, *_options(environment, flags), image, *command)
    try:
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


def await_health(name: str) -> None:
    """Until Docker calls a container healthy."""

    def looked() -> bool:
        return docker("inspect", "--format", "{{.State.Health.Status}}", name).stdout.strip() == "healthy"

    until(looked, f"{name} is healthy")


def stop(name: str) -> int:
    """End a container as compose does; its exit code."""
    docker("stop", "--time", "30", name)
    return int(docker("inspect", "--format", "{{.State.ExitCode}}", name).stdout)


def _options(environment: Mapping[str, str] | None, flags: Sequence[str]) -> list[str]:
    reported = [part for name, value in (environment or {}).items() for part in ("--env", f"{name}={value}")]
    return [*_LIKE_COMPOSE, *reported, *flags]
