"""Java artifacts by Maven coordinates: downloaded once into the local Maven cache, verified, and returned as paths.

The cache is Maven's own (`M2_REPO`, else `~/.m2/repository`), so that artifacts which it holds already are used.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.artifacts import checksums

if TYPE_CHECKING:
    from jgo.maven import Artifact, MavenContext

_LOCK = ".tidegate.lock"
_DOWNLOADING = ".tidegate-downloading"


class ArtifactUnavailable(Exception):
    """A Java artifact isn't available. The message names the artifact, the reason, and what to do."""


@dataclass(frozen=True)
class Coordinate:
    """The Maven coordinate of one file."""

    group: str
    artifact: str
    packaging: str
    version: str

    @classmethod
    def parse(cls, text: str) -> Coordinate:
        """From `group:artifact:version` or `group:artifact:packaging:version`.

        Raises ValueError for another form.
        """
        match text.split(":"):
            case [group, artifact, version]:
                return cls(group, artifact, "jar", version)
            case [group, artifact, packaging, version]:
                return cls(group, artifact, packaging, version)
        raise ValueError(f"{text!r} is not group:artifact:version or group:artifact:packaging:version")

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.packaging}:{self.version}"


def artifact(group: str, artifact: str, version: str, packaging: str = "jar") -> Path:
    """The file of one artifact, without its dependencies.

    Raises ArtifactUnavailable.
    """
    return file(str(Coordinate(group, artifact, packaging, version)))


def file(coordinate: str) -> Path:
    """The file of one artifact, without its dependencies.

    Raises ArtifactUnavailable, and ValueError for a text that is not a coordinate.
    """
    (path,) = _checked(resolve(coordinate, transitive=False)).values()
    return path


def classpath(*coordinates: str) -> list[Path]:
    """The jars of these artifacts and of their runtime dependencies, the artifacts themselves first.

    The first time this takes about half a minute for Kafka (it reads 90 POMs).
    Raises ArtifactUnavailable, and ValueError for a text that is not a coordinate.
    """
    return [path for path in _checked(resolve(*coordinates)).values() if path.suffix == ".jar"]


def resolve(*coordinates: str, transitive: bool = True) -> dict[str, Path]:
    """Coordinate to file, of these artifacts and of their runtime dependencies, without checking checksums.

    transitive: False leaves out the dependencies.
    Raises ArtifactUnavailable, and ValueError for a text that is not a coordinate.
    """
    from jgo.maven import Dependency  # noqa: PLC0415 (costs 0.2 s, and most commands don't need it)

    parts = [Coordinate.parse(text) for text in coordinates]
    with _maven() as context, _reporting(", ".join(coordinates)):
        wanted = [
            Dependency(
                context.project(part.group, part.artifact)
                .at_version(part.version)
                .artifact("", part.packaging),
                raw=True,  # else each artifact's managed versions would override the others' (an old kafka-clients)
            )
            for part in parts
        ]
        if transitive:
            inputs, needed = context.resolver.resolve(wanted)
            wanted = [*inputs, *needed]
        return {_name(dependency.artifact): dependency.artifact.resolve() for dependency in wanted}


def _name(artifact: Artifact) -> str:
    return str(Coordinate(artifact.groupId, artifact.artifactId, artifact.packaging, artifact.version))


def _checked(parts: dict[str, Path]) -> dict[str, Path]:
    """The same artifacts, after a check of every pinned checksum."""
    for coordinate, path in parts.items():
        expected = checksums.pinned().get(coordinate)
        if expected is not None and checksums.checksum(path) != expected:
            raise ArtifactUnavailable(
                f"{coordinate}: {path} is damaged or not the file that tidegate was tested with (SHA-256 differs); "
                "remove it and try again"
            )
    return parts


@contextmanager
def _maven() -> Iterator[MavenContext]:
    """jgo's context, with an exclusive lock on the cache.

    jgo writes a download directly to its final name. Two processes would read each other's partial files, and an
    interrupted download would stay as a broken file forever. So one process downloads at a time, and records the
    name of the file until it is complete. A read-only cache (in a container) is used without a lock.
    """
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415

    class Journaled(PythonResolver):
        def download(self, artifact: Artifact) -> Path | None:
            path = artifact.cached_path
            if path is None:
                raise ArtifactUnavailable(f"{artifact}: no Maven cache folder; set M2_REPO to one")
            journal.write_text(str(path))
            try:
                return super().download(artifact)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            finally:
                journal.unlink()

    context = MavenContext(resolver=Journaled(), timeout=60)
    journal = context.repo_cache / _DOWNLOADING
    if context.repo_cache.exists() and not os.access(context.repo_cache, os.W_OK):
        yield context
        return
    context.repo_cache.mkdir(parents=True, exist_ok=True)
    with (context.repo_cache / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if journal.exists():
            Path(journal.read_text()).unlink(missing_ok=True)
            journal.unlink()
        yield context


@contextmanager
def _reporting(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
        reason = str(error).partition(" in remote repositories")[0]
        raise ArtifactUnavailable(
            f"{what} can't be resolved: {reason}; check the network and the proxy settings, or put the "
            "file into the local Maven cache (M2_REPO, else ~/.m2/repository)"
        ) from error
