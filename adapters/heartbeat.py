"""The heartbeat of a role in a container: a file that the role touches while its work goes on.

The environment names the file in TIDEGATE_ALIVE_FILE; docker/healthy.py checks the file's age. Without the variable,
no file is touched.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

VARIABLE = "TIDEGATE_ALIVE_FILE"
_TOUCH_SECONDS = 1.0


class Heartbeat:
    """The file that is touched, at most once a second."""

    def __init__(self, path: Path | None = None) -> None:
        """path: the file; None: the one that the environment names."""
        named = os.environ.get(VARIABLE)
        self._path = path or (Path(named) if named else None)
        self._touched_at = -_TOUCH_SECONDS

    def beat(self) -> None:
        """Report that the work goes on."""
        now = time.monotonic()
        if self._path is not None and now - self._touched_at >= _TOUCH_SECONDS:
            self._touched_at = now
            self._path.touch()
