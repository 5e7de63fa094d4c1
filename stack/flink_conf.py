"""Flink's configuration folder: the options that JobManager and TaskManager share, locally and in a container."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

_OPENS = "env.java.opts.all"

_LOG4J = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %-60c %x - %m%n
logger.kafka.name = org.apache.flink.kafka.shaded.org.apache.kafka
logger.kafka.level = WARN
"""


def shared_options(home: Path, work: Path, python: str) -> dict[str, str]:
    """The options of both processes. home: the package's folder. work: for temporary files. python: the interpreter."""
    return {
        _OPENS: _default_java_options(home),
        "io.tmp.dirs": str(work),
        # A killed TaskManager is detected after two unanswered calls: in 6 s, not in 20.
        "heartbeat.interval": "3000",
        "heartbeat.timeout": "30000",
        # The TaskManager may be up before the JobManager; the default would leave it waiting 10 s.
        "cluster.registration.error-delay": "500",
        "python.executable": python,
        "python.client.executable": python,
        # The demo's jobs come and go; each leaves classes behind until the next collection.
        "taskmanager.memory.jvm-metaspace.size": "256m",
    }


def write(folder: Path, options: Mapping[str, str]) -> None:
    """Write Flink's options and logging configuration into a folder for FLINK_CONF_DIR."""
    # JSON's quoting is YAML's quoting, and a flat key is as good as a nested one.
    lines = [f"{name}: {json.dumps(value)}\n" for name, value in options.items()]
    (folder / "config.yaml").write_text("".join(lines))
    (folder / "log4j-console.properties").write_text(_LOG4J)
    # For a client that submits jobs with this folder.
    (folder / "log4j-cli.properties").write_text(_LOG4J.replace("level = INFO", "level = WARN"))


def _default_java_options(home: Path) -> str:
    """The package's own `--add-opens`, without which Flink fails on Java 17."""
    text = (home / "conf" / "config.yaml").read_text()
    found: Any = YAML(typ="safe").load(text)
    for part in _OPENS.split("."):
        found = found[part]
    return str(found)
