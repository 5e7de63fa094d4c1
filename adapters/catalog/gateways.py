"""The gateways of the catalog's file, and what changes of them while it runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from tidegate.schemas.catalog import CatalogError, Gateway, load
from tidegate.schemas.settings.limits import Catalog

log = logging.getLogger(__name__)


class GatewayFile:
    """The gateways by the name that the catalog gives them; none without a file.

    Raises CatalogError for a catalog with mistakes at the start. Later ones are logged, and the last good one stays.
    """

    def __init__(self, settings: Catalog) -> None:
        self._file = settings.file
        self._poll_seconds = settings.poll_seconds
        self._looked_at = 0.0
        self._seen = self._stamp()
        self.gateways: Mapping[str, Gateway] = load(self._file).gateways if self._file else {}

    def changed(self, now: float) -> Mapping[str, Gateway] | None:
        """The gateways, where they aren't as they were; None where they are. now: of a clock that never goes back."""
        if self._file is None or now - self._looked_at < self._poll_seconds:
            return None
        self._looked_at = now
        stamp = self._stamp()
        if stamp == self._seen:
            return None
        self._seen = stamp
        try:
            gateways = load(self._file).gateways
        except CatalogError as error:
            log.error("the task catalog has mistakes; its last gateways stay:\n%s", error)
            return None
        if gateways == self.gateways:
            return None
        self.gateways = gateways
        return gateways

    def _stamp(self) -> tuple[int, int, int] | None:
        """Another one for another content: a file is replaced by a rename, or written to."""
        if self._file is None:
            return None
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
