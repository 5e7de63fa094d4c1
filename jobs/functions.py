"""The Flink functions that run once per request: compiled from `jobs/java` into one jar, kept in the user's cache.

They are Java since a request must not leave the JVM (docs/decisions/0002-per-request-functions-are-java.md). The
compiler is Eclipse's, so that a machine with a Java runtime and no JDK will do.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

from tidegate.artifacts import coordinates, maven
from tidegate.artifacts.jvm import java
from tidegate.schemas import response_flags

SOURCES = Path(__file__).parent / "java"
_RELEASE = "17"

FUNCTIONS = {
    "HISTOGRAM_OF": "io.tidegate.flink.HistogramOf",
    "HISTOGRAM_MERGE": "io.tidegate.flink.HistogramMerge",
    "SLICED_HISTOGRAM_MERGE": "io.tidegate.flink.SlicedHistogramMerge",
    "HISTOGRAM_SUMMARY": "io.tidegate.flink.HistogramSummary",
    "EXEMPLAR_OF": "io.tidegate.flink.ExemplarOf",
    "EXEMPLAR_MERGE": "io.tidegate.flink.ExemplarMerge",
    "FLAG_COUNTS": "io.tidegate.flink.FlagCounts",
    "FLAG_COUNTS_MERGE": "io.tidegate.flink.FlagCountsMerge",
    "IDENTITY_OF": "io.tidegate.flink.IdentityOf",
    "REPLICA_OF": "io.tidegate.flink.ReplicaOf",
    "FIRST_NAMES": "io.tidegate.flink.FirstNamesOf",
    "FIRST_NAMES_MERGE": "io.tidegate.flink.FirstNamesMerge",
}
"""SQL name to class; each class' comment has what it takes and gives."""


class FunctionsNotBuilt(Exception):
    """The functions could not be compiled. The message has the compiler's own."""


def jar() -> Path:
    """The functions' jar, compiled where the cache has none of these sources.

    Raises FunctionsNotBuilt, and `tidegate.artifacts.maven.ArtifactUnavailable` when the compiler or Java can't be had.
    """
    target = _cache() / f"tidegate-flink-functions-{_fingerprint()}.jar"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            _compile(Path(work))
            packed = _pack(Path(work))
            packed.replace(target)  # atomic: two processes that build at once leave one whole jar
    return target


def _sources() -> list[Path]:
    return sorted(path for path in SOURCES.rglob("*") if path.suffix == ".java" or "services" in path.parts)


def _fingerprint() -> str:
    digest = hashlib.sha256(f"{metadata.version('apache-flink')} {_RELEASE} {coordinates.RE2J}".encode())
    for path in (*_sources(), response_flags.FILE):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "tidegate"


def _compile(target: Path) -> None:
    import pyflink

    libraries = [*(Path(pyflink.__file__).parent / "lib").glob("*.jar"), maven.file(coordinates.RE2J)]
    command = [
        str(java()),
        "-jar",
        str(maven.file(coordinates.JAVA_COMPILER)),
        f"-{_RELEASE}",
        "-proc:none",
        "-g",
        "-failOnWarning",
        "-warn:unusedImport,unusedLocal,unusedPrivate,nullDereference,fallthrough",
        "-classpath",
        os.pathsep.join(map(str, sorted(libraries))),
        "-d",
        str(target / "classes"),
        *(str(path) for path in _sources() if path.suffix == ".java"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise FunctionsNotBuilt(f"{SOURCES} does not compile:\n{ended.stdout}{ended.stderr}")


def _pack(work: Path) -> Path:
    packed = work / "functions.jar"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for root in (work / "classes", SOURCES):
            for path in sorted(root.rglob("*")):
                if path.is_file() and (root != SOURCES or "services" in path.parts):
                    archive.write(path, path.relative_to(root))
        archive.write(response_flags.FILE, f"io/tidegate/flink/{response_flags.FILE.name}")
    return packed
