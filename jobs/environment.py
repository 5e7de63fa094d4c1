"""Flink's table environment from the settings: on this process' local cluster, or on a cluster at an address."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.artifacts import coordinates, maven
from tidegate.jobs import functions, python_worker
from tidegate.schemas.settings import Settings

if TYPE_CHECKING:
    from pyflink.table import StreamTableEnvironment


@dataclass(frozen=True)
class Where:
    """Where a job runs, and what it begins with.

    cluster: `host:port` of a JobManager's REST address; None is this process. checkpoint: the folder of the one that it
    resumes from; None: without state.
    """

    cluster: str | None = None
    bounded: bool = False
    checkpoint: Path | None = None


def options(
    settings: Settings, where: Where, name: str, of_the_job: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Flink's options for one job; what `flink.options` sets beats ours.

    name: the job's, unique among those that share a checkpoint folder. of_the_job: what a job with Python functions
    needs beside the rest.
    """
    flink = settings.flink
    chosen = {
        "pipeline.name": name,
        "pipeline.jars": ";".join(_url(path) for path in jars()),
        "pipeline.object-reuse": "true",
        "pipeline.generic-types": "false",
        "pipeline.auto-watermark-interval": "100 ms",
        "parallelism.default": str(flink.parallelism),
        "execution.checkpointing.storage": "filesystem",
        "execution.checkpointing.dir": _url(settings.checkpoint_dir() / name),
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": _duration(
            flink.restart_initial_backoff_seconds
        ),
        "restart-strategy.exponential-delay.max-backoff": _duration(flink.restart_max_backoff_seconds),
        "table.local-time-zone": "UTC",
    }
    if not where.bounded:
        chosen["execution.checkpointing.interval"] = _duration(flink.checkpoint_interval_seconds)
    if where.checkpoint:
        chosen |= {
            "execution.state-recovery.path": _url(where.checkpoint),
            # It is the job's own: once there is a newer one, Flink removes it.
            "execution.state-recovery.claim-mode": "CLAIM",
        }
    if where.cluster:
        host, port = where.cluster.rsplit(":", 1)
        if of_the_job:
            chosen["pipeline.jars"] += f";{_url(_python_jar())}"
        chosen |= {
            "execution.target": "remote",
            "rest.address": host,
            "rest.port": port,
            "execution.attached": "false",
        }
    else:
        chosen |= {
            "execution.target": "local",
            "execution.attached": "true",
            "python.executable": sys.executable,
        }
    return chosen | dict(of_the_job or {}) | flink.options


def create(
    settings: Settings, where: Where, name: str, of_the_job: Mapping[str, str] | None = None
) -> StreamTableEnvironment:
    """A streaming table environment with our functions registered.

    Raises FunctionsNotBuilt and ArtifactUnavailable where a Java part is missing.
    """
    from pyflink.common import Configuration
    from pyflink.datastream import StreamExecutionEnvironment
    from pyflink.table import EnvironmentSettings, StreamTableEnvironment

    if where.cluster:
        # PyFlink takes this process for a place to run Python functions in, unless this sends them elsewhere.
        os.environ["_python_worker_execution_mode"] = "process"  # noqa: SIM112 (PyFlink reads this name)
    elif of_the_job:
        python_worker.end_with_the_runner()
    configuration = Configuration()
    for key, value in options(settings, where, name, of_the_job).items():
        configuration.set_string(key, value)
    table_settings = (
        EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration).build()
    )
    environment = StreamTableEnvironment.create(
        StreamExecutionEnvironment.get_execution_environment(configuration), table_settings
    )
    for function, java_class in functions.FUNCTIONS.items():
        environment.execute_sql(
            f"CREATE TEMPORARY SYSTEM FUNCTION {function} AS '{java_class}' LANGUAGE JAVA"
        )
    return environment


def jars() -> list[Path]:
    """What every job needs, downloaded and compiled once. Raises FunctionsNotBuilt and ArtifactUnavailable."""
    return [
        maven.file(coordinates.FLINK_KAFKA_CONNECTOR),
        maven.file(coordinates.RE2J),
        functions.jar(),
    ]


def _python_jar() -> Path:
    """What runs Python functions in the JVM; a cluster that isn't PyFlink's own may lack it."""
    import pyflink

    (found,) = (Path(pyflink.__file__).parent / "opt").glob("flink-python-*.jar")
    return found


def _duration(seconds: float) -> str:
    """Flink knows no fractions of a unit."""
    return f"{round(seconds * 1000)} ms"


def _url(path: Path) -> str:
    return path.absolute().as_uri()
