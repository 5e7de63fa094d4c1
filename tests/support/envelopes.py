"""One access-log line as log agents wrap it, and whether the job counts each message by itself."""

from __future__ import annotations

import json

from tests.support.lines import line

LINE = line()
CRI = "2026-11-30T15:00:00.123456789Z stdout F "
CRI_PART = "2026-11-30T15:00:00.123456789+08:00 stdout P "
_INNER = json.loads(LINE)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


ENVELOPES: list[tuple[bytes, bool]] = [
    (LINE.encode(), True),
    ((CRI + LINE).encode(), True),
    (_json({"log": LINE + "\n", "stream": "stdout", "time": "2026-11-30T15:00:00.1Z"}), True),
    (_json({"@timestamp": "2026-11-30T15:00:00.1Z", "message": LINE, "kubernetes": {"pod": {}}}), True),
    (_json({"message": LINE, "source_type": "kubernetes_logs", "timestamp": "2026-11-30T15:00:00Z"}), True),
    (_json({"log": _INNER, "stream": "stdout"}), True),
    (_json({"message": _INNER}), True),
    (_json({"message": CRI + LINE, "log": {}}), True),
    (_json({"message": CRI + LINE, "log": {"file": {"path": "/var/log/pods/x.log"}}}), True),
    (_json({"@timestamp": 1796050935.1, "log": CRI + LINE}), True),
    (_json({**_INNER, "message": "of the line itself", "log": "likewise"}), True),
    ((CRI_PART + LINE[:200]).encode(), False),
    (_json({"message": "Envoy proxy is ready"}), False),
    (_json({"message": 5}), False),
    (b"2026-11-30T15:00:00.123Z info Envoy proxy is ready", False),
]
