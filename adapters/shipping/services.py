"""The logs of inference services: which files, whose they are, and what message a record becomes."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tidegate.adapters.shipping.sender import Destination
from tidegate.jobs.logic.identity import of_service, workload_of_pod
from tidegate.jobs.logic.logs.fields import fields_of
from tidegate.jobs.logic.logs.records import records_of, text_of
from tidegate.schemas.rows.lines import InferenceLogLine
from tidegate.schemas.rows.service_metrics import OVERFLOW
from tidegate.schemas.settings import AccessLog
from tidegate.schemas.topics import INFERENCE_LOGS

_LOG = logging.getLogger(__name__)
_PARTS = re.compile(r"(\{[a-z]+\}|\*\*/?|\*|\?)")
_ROTATED = re.compile(r"(?:[-.]\d[\d-]*)?(?:\.gz)?")
"""What a rotation may put behind a name."""


class Whose(NamedTuple):
    """Whose log a file is."""

    department: str
    task: str
    replica: str


class LogFiles:
    """Patterns of files whose paths say whose log each is.

    `{department}` or `{namespace}`, `{task}` or `{pod}`, `{replica}`; `{any}` is what differs and says nothing. Each
    matches a part of one folder's or file's name. Examples: `/var/log/models/{department}/{task}/{replica}.log`;
    `/var/log/pods/{namespace}_{pod}_{any}/model/*.log`.
    """

    def __init__(self, patterns: Sequence[str], access_log: AccessLog) -> None:
        self._access_log = access_log
        self._told: set[Path] = set()
        self._expressions = [_expression(str(Path(pattern).expanduser().absolute())) for pattern in patterns]
        self.globs = tuple(re.sub(r"\{[a-z]+\}", "*", pattern) for pattern in patterns)

    def whose(self, path: Path) -> Whose:
        """Of a file that was rotated to a name that no pattern is for, department and task are `__overflow__`."""
        for expression in self._expressions:
            found = expression.fullmatch(str(path))
            if found is not None:
                return self._whose(found.groupdict(), path)
        if path not in self._told:
            self._told.add(path)
            _LOG.warning("%s: its path doesn't say whose log it is; its lines are of %s", path, OVERFLOW)
        return Whose(OVERFLOW, OVERFLOW, path.stem)

    def _whose(self, named: dict[str, str], path: Path) -> Whose:
        pod = named.get("pod")
        identity = of_service(
            named.get("namespace", ""), named.get("task") or workload_of_pod(pod or ""), self._access_log
        )
        department = named.get("department") or identity.department
        return Whose(department, identity.task, named.get("replica") or pod or path.stem)


def destination(files: LogFiles) -> Destination:
    """Records into `inference.logs`, keyed by task."""
    return Destination(INFERENCE_LOGS, partial(_messages, files), _split, keyed=True)


def message_of(record: bytes, whose: Whose, file: str, now: datetime) -> InferenceLogLine:
    """One record. file: its name, the stream of what no container's runtime has marked."""
    prefix, raw = text_of(record)
    text = raw.decode("utf-8", "replace")
    told = fields_of(text, now)
    time = told.time
    if time is None and prefix is not None:
        time = fields_of(prefix.time.decode(), now).time
    return InferenceLogLine(
        timestamp=time,
        department=whose.department,
        task=whose.task,
        replica=whose.replica,
        stream=file if prefix is None else prefix.stream,
        message=text,
        severity=told.severity,
        request_id=told.request_id,
        trace_id=told.trace_id,
        span_id=told.span_id,
    )


def _split(block: bytes) -> tuple[list[bytes], int]:
    """Empty lines are part of records, or nothing."""
    return records_of(block), 0


def _messages(files: LogFiles, records: Sequence[bytes], path: Path) -> list[dict[str, Any]]:
    whose = files.whose(path)
    key, now = whose.task.encode(), datetime.now(UTC)
    return [
        {"value": message_of(record, whose, path.name, now).model_dump_json().encode(), "key": key}
        for record in records
    ]


def _expression(pattern: str) -> re.Pattern[str]:
    """What a pattern's glob matches, with its places as named groups; also once the file is rotated."""
    known: set[str] = set()
    made = []
    for part in _PARTS.split(pattern):
        name = part[1:-1]
        if part.startswith("{") and name != "any" and name not in known:
            known.add(name)
            made.append(f"(?P<{name}>[^/]+?)")
        elif part.startswith("{") and name in known:
            made.append(f"(?P={name})")
        elif part.startswith("**"):
            made.append("(?:.*/)?")
        else:
            made.append(
                {"*": "[^/]*", "?": "[^/]"}.get(part, "[^/]+?" if part == "{any}" else re.escape(part))
            )
    return re.compile("".join(made) + _ROTATED.pattern)
