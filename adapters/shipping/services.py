"""The logs of inference services: their files, their owners, and the message that a record becomes."""

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

log = logging.getLogger(__name__)
_PARTS = re.compile(r"(\{[a-z]+\}|\*\*/?|\*|\?)")
_ROTATED = re.compile(r"(?:[-.]\d[\d-]*)?(?:\.gz)?")
"""What a rotation may append to a name."""


class LogOwner(NamedTuple):
    """The department, task and replica that write a log file."""

    department: str
    task: str
    replica: str


class LogFiles:
    """Patterns of files whose paths contain the owner of each log.

    `{department}` or `{namespace}`, `{task}` or `{pod}`, `{replica}`; `{any}` matches what varies without a meaning.
    Each matches a part of one folder's or file's name. Examples: `/var/log/models/{department}/{task}/{replica}.log`;
    `/var/log/pods/{namespace}_{pod}_{any}/model/*.log`.
    """

    def __init__(self, patterns: Sequence[str], access_log: AccessLog) -> None:
        self._access_log = access_log
        self._unmatched: set[Path] = set()
        self._expressions = [_expression(str(Path(pattern).expanduser().absolute())) for pattern in patterns]
        self.globs = tuple(re.sub(r"\{[a-z]+\}", "*", pattern) for pattern in patterns)

    def owner_of(self, path: Path) -> LogOwner:
        """The owner of a file; `__overflow__` for a file that was rotated to a name that no pattern matches."""
        for expression in self._expressions:
            found = expression.fullmatch(str(path))
            if found is not None:
                return self._owner(found.groupdict(), path)
        if path not in self._unmatched:
            self._unmatched.add(path)
            log.warning(
                "%s: no pattern matches the path, so department and task of its lines are %s", path, OVERFLOW
            )
        return LogOwner(OVERFLOW, OVERFLOW, path.stem)

    def _owner(self, named: dict[str, str], path: Path) -> LogOwner:
        pod = named.get("pod")
        identity = of_service(
            named.get("namespace", ""), named.get("task") or workload_of_pod(pod or ""), self._access_log
        )
        department = named.get("department") or identity.department
        return LogOwner(department, identity.task, named.get("replica") or pod or path.stem)


def destination(files: LogFiles) -> Destination:
    """Records into `inference.logs`, keyed by task."""
    return Destination(INFERENCE_LOGS, partial(_messages, files), _split, keyed=True)


def message_of(record: bytes, owner: LogOwner, file: str, now: datetime) -> InferenceLogLine:
    """The message of one record. file: its name, which is the stream where no container runtime has set one."""
    prefix, raw = text_of(record)
    text = raw.decode("utf-8", "replace")
    fields = fields_of(text, now)
    time = fields.time
    if time is None and prefix is not None:
        time = fields_of(prefix.time.decode(), now).time
    return InferenceLogLine(
        timestamp=time,
        department=owner.department,
        task=owner.task,
        replica=owner.replica,
        stream=file if prefix is None else prefix.stream,
        message=text,
        severity=fields.severity,
        request_id=fields.request_id,
        trace_id=fields.trace_id,
        span_id=fields.span_id,
    )


def _split(block: bytes) -> tuple[list[bytes], int]:
    """The records of a block, and 0: empty lines belong to records, so none is counted."""
    return records_of(block), 0


def _messages(files: LogFiles, records: Sequence[bytes], path: Path) -> list[dict[str, Any]]:
    owner = files.owner_of(path)
    key, now = owner.task.encode(), datetime.now(UTC)
    return [
        {"value": message_of(record, owner, path.name, now).model_dump_json().encode(), "key": key}
        for record in records
    ]


def _expression(pattern: str) -> re.Pattern[str]:
    """A pattern's glob as an expression with named groups; it matches rotated names too."""
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
