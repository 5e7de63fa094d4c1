"""The access-log line inside what a log agent wraps around it, as the contract has it."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.oracle.values import Literal, Unreadable, strict_json

_CRI = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[^\s]{8,35} (stdout|stderr) [FP] ")
_MOST = 4
"""Envelopes within each other that are opened."""


def unwrapped(value: bytes) -> bytes:
    """The innermost line of a message; the message itself where it wraps none."""
    for _ in range(_MOST):
        inner = _content(value)
        if inner is None:
            break
        value = inner
    return value


def _content(value: bytes) -> bytes | None:
    if not value.startswith(b"{"):
        prefix = _CRI.match(value)
        return value[prefix.end() :] if prefix else None
    try:
        record = strict_json(value)
    except Unreadable:
        return None
    if "start_time" in record:
        return None
    for key in ("message", "log"):
        held = record.get(key)
        if isinstance(held, dict) and "start_time" in held:
            return _written(held).encode()
        if isinstance(held, str) and not isinstance(held, Literal) and held.strip():
            return held.strip().encode("utf-8", "replace")
    return None


def _written(value: Any) -> str:
    """JSON with each number as it was written."""
    if isinstance(value, Literal):
        return value
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return json.dumps(value)
