"""The task catalog as it changes: the file `catalog.file` where that is set, else the topic `tidegate.tasks`."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from pathlib import Path
from typing import Protocol

from tidegate.adapters.kafka.log import LogMessage, TopicLog, row_of
from tidegate.jobs.logic.catalog_rows import RowCatalog
from tidegate.schemas import catalog as catalogs
from tidegate.schemas import topics
from tidegate.schemas.catalog import Catalog, CatalogError
from tidegate.schemas.rows.limits import TaskRow
from tidegate.schemas.settings import Kafka, Settings

_LOG = logging.getLogger(__name__)


class CatalogSource(Protocol):
    """Where a role has its catalog from."""

    @property
    def place(self) -> str:
        """The file or the topic, for messages."""

    @property
    def catalog(self) -> Catalog:
        """The last good one."""

    def changed(self) -> bool:
        """Look for a change; whether `catalog` is another one than before. Never raises.

        While Kafka is away it may wait up to a second, every half minute.
        """

    def refresh(self) -> None:
        """Bring `catalog` up to what the source holds now. Raises KafkaUnavailable."""

    def close(self) -> None:
        """End what it has open."""


class FileSource:
    """The catalog's file. A change with mistakes is logged, and the last good catalog stays."""

    def __init__(self, path: Path, poll_seconds: float) -> None:
        """poll_seconds: the file is looked at no more often. Raises CatalogError when it has mistakes now."""
        self._path = path
        self._poll_seconds = poll_seconds
        self._due = time.monotonic() + poll_seconds
        self._stamp = self._stamp_now()
        self._catalog = catalogs.load(path)

    @property
    def place(self) -> str:
        """The file's path."""
        return str(self._path)

    @property
    def catalog(self) -> Catalog:
        """The last good one."""
        return self._catalog

    def changed(self) -> bool:
        """Look at the file, where that is due."""
        if time.monotonic() < self._due:
            return False
        self._due = time.monotonic() + self._poll_seconds
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._catalog = catalogs.load(self._path)
        except CatalogError as error:
            _LOG.error("the catalog is refused, the last good one stays in use; correct the file:\n%s", error)
            return False
        _LOG.info("%s: %d tasks", self._path, len(self._catalog.tasks))
        return True

    def refresh(self) -> None:
        """Look at the file now."""
        self._due = 0
        self.changed()

    def close(self) -> None:
        """Nothing is open."""

    def _stamp_now(self) -> tuple[int, int, int]:
        """Another one for another content: a file is replaced by a rename, or written to."""
        try:
            stat = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (stat.st_ino, stat.st_mtime_ns, stat.st_size)


class TopicSource:
    """The catalog's topic; empty until it is created. A row with mistakes is logged, and the last good one stays."""

    def __init__(self, kafka: Kafka) -> None:
        """Reads the topic whole. Raises KafkaUnavailable."""
        self._place = f"topic {kafka.topic(topics.TASKS)} at {kafka.bootstrap_servers}"
        self._rows = RowCatalog()
        self._log = TopicLog(kafka, [topics.TASKS])
        try:
            self.refresh()
        except BaseException:
            self._log.close()
            raise

    @property
    def place(self) -> str:
        """The topic, and its broker."""
        return self._place

    @property
    def catalog(self) -> Catalog:
        """The last good one."""
        return self._catalog

    def changed(self) -> bool:
        """Take the rows that have come."""
        taken = False
        while messages := self._log.poll(0):
            for message in messages:
                taken |= self._take(message, self._rows)
        if taken:
            self._catalog = self._rows.catalog()
        return taken

    def refresh(self) -> None:
        """Read the topic whole again: `changed` alone knows only what has arrived so far."""
        rows = RowCatalog()
        try:
            for message in self._log.snapshot():
                self._take(message, rows)
        finally:
            self._log.follow()
        self._rows = rows
        self._catalog = rows.catalog()

    def close(self) -> None:
        """Leave Kafka."""
        self._log.close()

    def _take(self, message: LogMessage, rows: RowCatalog) -> bool:
        row = None if message.value is None else row_of(message, TaskRow)
        if row is None and message.value is not None:
            return False
        if reason := rows.put(message.key, row):
            _LOG.warning(
                "the catalog's row is refused, the last good one stays: %s; publish a corrected catalog",
                reason,
            )
            return False
        return True


def catalog_source(settings: Settings, file_poll_seconds: float | None = None) -> CatalogSource:
    """The source by the settings. file_poll_seconds: None: `catalog.poll_seconds`; 0: each `changed` looks at the file.

    Raises CatalogError for a file with mistakes, KafkaUnavailable for the topic.
    """
    if settings.catalog.file is not None:
        poll_seconds = settings.catalog.poll_seconds if file_poll_seconds is None else file_poll_seconds
        return FileSource(settings.catalog.file, poll_seconds)
    return TopicSource(settings.kafka)


def known(settings: Settings) -> Catalog | None:
    """The catalog of now; None where no file is set, and the topic holds no task.

    Raises CatalogError and KafkaUnavailable.
    """
    with closing(catalog_source(settings)) as source:
        return source.catalog if settings.catalog.file is not None or source.catalog.tasks else None
