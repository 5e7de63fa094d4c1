"""A container's health: exits with 0 where it is well, else with 1 and the reason on one line.

TIDEGATE_HEALTH_URL    must be answered with 2xx; {hostname} in it is this container's name
TIDEGATE_ALIVE_FILE    without that: a file that the role touches while its work goes on
TIDEGATE_ALIVE_SECONDS    so old it may be; more than the longest wait between two tries (30 s by default)
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

_TIMEOUT_SECONDS = 4
_ALIVE_SECONDS = 90.0


def problem(environment: Mapping[str, str]) -> str | None:
    """Why this container isn't well; None where it is."""
    if url := environment.get("TIDEGATE_HEALTH_URL"):
        return _answers(url.replace("{hostname}", socket.gethostname()))
    if path := environment.get("TIDEGATE_ALIVE_FILE"):
        return _is_fresh(Path(path), float(environment.get("TIDEGATE_ALIVE_SECONDS", _ALIVE_SECONDS)))
    return "neither TIDEGATE_HEALTH_URL nor TIDEGATE_ALIVE_FILE is set"


def _answers(url: str) -> str | None:
    import urllib.request  # noqa: PLC0415 (most of what a check costs, and half of the roles need none)

    try:
        urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS).close()  # noqa: S310 (who sets it runs this container)
    except OSError as error:
        return f"{url}: {error}"
    return None


def _is_fresh(path: Path, seconds: float) -> str | None:
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return f"{path}: isn't there, so the role hasn't begun"
    return f"{path}: not touched for {age:.0f} s, more than {seconds:g}" if age > seconds else None


if __name__ == "__main__":
    sys.exit(problem(os.environ))
