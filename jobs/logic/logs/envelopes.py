"""Opens the envelopes in which log agents carry an access-log line. Pure.

- the container runtime's prefix (CRI: time, stream, tag); parts of a line (tag P) are joined by stream;
- JSON with the line in `log` or `message`, as a text or as an object: Docker's json-file, Fluent Bit, Filebeat, Vector.

jobs/java/Envelope.java opens the same in the job, one message at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from tidegate.jobs.logic.logs.records import without_prefix

_KEYS = ("message", "log")
"""In this order: Filebeat's `log` holds the file that its `message` came from."""
_TIME_KEY = "start_time"
_MAX_DEPTH = 4
"""Envelopes within envelopes: an agent that reads the node's files without removing CRI's prefix adds its own."""
_PART = b" P "


def opened(line: bytes) -> bytes:
    """The line within all its envelopes; the line itself where it has none, or where it can't be opened."""
    for _ in range(_MAX_DEPTH):
        inner = _inner(line)
        if inner is None:
            break
        line = inner
    return line


def opened_lines(lines: Iterable[bytes]) -> list[bytes]:
    """Each line opened, and the parts of a line joined; empty ones are left out.

    The parts of a line whose end is missing are one line.
    """
    parts: dict[str, list[bytes]] = {}
    found = []
    for line in lines:
        prefix, text = without_prefix(line) if line[:1] != b"{" else (None, line)
        if prefix is None:
            found.append(opened(line))
            continue
        if prefix.stream in parts or prefix.partial:
            parts.setdefault(prefix.stream, []).append(text)
        if not prefix.partial:
            found.append(opened(b"".join(parts.pop(prefix.stream, [text]))))
    found += [opened(b"".join(texts)) for texts in parts.values()]
    return [line for line in found if line]


def may_have_parts(data: bytes) -> bool:
    """Whether any line could be a part of a longer one: quick, and false only where none is."""
    return _PART in data


def joined_end(data: bytes) -> int:
    """Behind the last whole line in `data` after which no stream has an unfinished line."""
    whole = data.rfind(b"\n") + 1
    if not may_have_parts(data[:whole]):
        return whole
    unfinished: set[str] = set()
    at = end = 0
    while at < whole:
        after = data.index(b"\n", at) + 1
        prefix, _ = without_prefix(data[at:after])
        if prefix is not None and prefix.partial:
            unfinished.add(prefix.stream)
        elif prefix is not None:
            unfinished.discard(prefix.stream)
        at = after
        end = end if unfinished else at
    return end


def _inner(line: bytes) -> bytes | None:
    if line[:1] != b"{":
        prefix, text = without_prefix(line)
        return None if prefix is None else text
    content = _envelope(line)
    for key in _KEYS:
        value = content.get(key)
        if isinstance(value, dict) and _TIME_KEY in value:
            return orjson.dumps(value)
        if isinstance(value, str) and (text := value.strip().encode("utf-8", "replace")):
            return text
    return None


def _envelope(line: bytes) -> dict[str, Any]:
    """The object that a line is; empty where it is no JSON, or an access-log line itself."""
    if b'"log"' not in line and b'"message"' not in line:
        return {}
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) and _TIME_KEY not in content else {}
