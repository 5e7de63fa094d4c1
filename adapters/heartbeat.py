"""A sign of life for whoever runs us in a container: a file that is touched while the work goes on.

The environment names it in TIDEGATE_ALIVE_FILE; docker/healthy.py looks how old it is. Without the variable nothing is
touched.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

VARIABLE = "TIDEGATE_ALIVE_FILE"
_TOUCH_SECONDS = 1.0


class Heartbeat:
    """Touches the file, at most once a second."""

    def __init__(self, path: Path | None = None) -> None:
        """path: by default the one that the environment names."""
        named = os.environ.get(VARIABLE)
        self._path = path or (Path(named) if named else None)
        self._touched_at = -_TOUCH_SECONDS

    def beat(self) -> None:
        """The work goes on."""
        now = time.monotonic()
        if self._path is not None and now - self._touched_at >= _TOUCH_SECONDS:
            self._touched_at = now
            self._path.touch()
