"""Recordings for `tidegate replay-limits`: from the topics into a file, and back. A file named `.gz` is packed."""

from __future__ import annotations

import gzip
import logging
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import IO

from tidegate.adapters.kafka.log import LogMessage, TopicLog
from tidegate.jobs.logic.catalog_rows import rows_of
from tidegate.jobs.logic.limits.replay_events import (
    RECORDED,
    REMOVABLE,
    BadEvent,
    RecordedEvent,
    event_of,
    read_event,
    read_row,
)
from tidegate.schemas import catalog as catalogs
from tidegate.schemas import topics
from tidegate.schemas.settings import Settings
from tidegate.schemas.topics import Topic

_LOG = logging.getLogger(__name__)
_TURN_SECONDS = 0.2
_PACKED = b"\x1f\x8b"
_Out = IO[bytes] | gzip.GzipFile


class RecordingUnusable(Exception):
    """A recording can't be read or written. The message has the file, and the line and field where there is one."""


@dataclass
class Recorded:
    """How many events were written, by topic; and the messages that are none."""

    events: dict[str, int]
    unreadable: int = 0


def read(path: Path) -> list[RecordedEvent]:
    """All events of a file, as they stand there. Empty lines are left out. Raises RecordingUnusable."""
    return list(_events(path))


def _events(path: Path) -> Iterator[RecordedEvent]:
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _PACKED
            raw.seek(0)
            lines: Iterable[bytes] = gzip.GzipFile(fileobj=raw) if packed else raw
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    yield read_event(line)
                except BadEvent as error:
                    raise RecordingUnusable(f"{path}: line {number}: {error}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise RecordingUnusable(f"{path}: can't be read: {error}") from error


def record(settings: Settings, path: Path, since: timedelta, lasts: timedelta, stop: Event) -> Recorded:
    """Record what the topics hold from so long ago until so long from now, or until `stop` is set.

    Recorded with it is what was in force when it begins: the whole catalog (of `catalog.file` where that is set), the
    newest controls of operators, and the sources' rows of the refresh before.
    Raises RecordingUnusable, CatalogError and KafkaUnavailable.
    """
    now = datetime.now(UTC)
    begin = now - since
    of_sources = begin - timedelta(seconds=settings.watcher.refresh_seconds)
    found = Recorded({})
    log = TopicLog(settings.kafka, RECORDED)
    try:
        with _written(path) as out:
            moments: dict[Topic, datetime | None] = {
                topics.LIMIT_CONTROLS: None,
                topics.GATEWAYS: of_sources,
                topics.REPLICAS: of_sources,
                topics.REPLICA_CHANGES: begin,
            }
            file = settings.catalog.file
            if file is not None:
                _write(out, map(event_of, rows_of(catalogs.load(file), begin)), found)
            else:
                moments[topics.TASKS] = None
            _write(out, _readable(log.snapshot(moments), found), found)
            log.follow()
            end = time.monotonic() + lasts.total_seconds()
            while not stop.is_set() and time.monotonic() < end:
                _write(out, _readable(log.poll(_TURN_SECONDS), found), found)
    finally:
        log.close()
    return found


@contextmanager
def _written(path: Path) -> Iterator[_Out]:
    """A file that is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    try:
        with ExitStack() as files:
            out: _Out = files.enter_context(part.open("wb"))
            if path.suffix == ".gz":
                # Without a moment in its head, the same events are the same bytes.
                out = files.enter_context(gzip.GzipFile("", "wb", fileobj=out, mtime=0))
            yield out
        part.replace(path)
    except OSError as error:
        raise RecordingUnusable(f"{path}: can't be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _readable(messages: Iterable[LogMessage], found: Recorded) -> Iterator[RecordedEvent]:
    for message in messages:
        if message.value is None:
            if message.topic.name in REMOVABLE:
                yield RecordedEvent(message.topic.name, message.at_ms, message.key, None)
            continue
        try:
            yield event_of(read_row(message.topic.name, message.value))
        except BadEvent as error:
            found.unreadable += 1
            _LOG.warning("%s, key %r, is left out: %s", message.topic.name, message.key, error)


def _write(out: _Out, events: Iterable[RecordedEvent], found: Recorded) -> None:
    for event in events:
        out.write(event.to_line().encode() + b"\n")
        found.events[event.topic] = found.events.get(event.topic, 0) + 1
    out.flush()
