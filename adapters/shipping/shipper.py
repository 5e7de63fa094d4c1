"""The log shipper: what the follower reads goes to the sender, and what has arrived is remembered on disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from tidegate.adapters.shipping.follower import Follower
from tidegate.adapters.shipping.limits import FollowLimits
from tidegate.adapters.shipping.lines import Lines, LineSplitter, Overlong
from tidegate.adapters.shipping.positions import FilePosition, StateFolder
from tidegate.adapters.shipping.records import RecordSplitter
from tidegate.adapters.shipping.sender import Counts, Destination, Origin, Sender
from tidegate.adapters.shipping.services import LogFiles, destination
from tidegate.adapters.shipping.tail import Damaged, Event, Receipt, Tail
from tidegate.schemas.settings import Settings

log = logging.getLogger(__name__)

_SCAN_SECONDS = 0.5
_SAVE_SECONDS = 1.0
_TELL_SECONDS = 60.0


@dataclass(frozen=True)
class Cargo:
    """What is shipped: which files, where what is known of them is kept, how they are cut, and where it goes."""

    files: tuple[str, ...]
    state_dir: Path
    destination: Destination = field(default_factory=Destination)
    splitter: type[LineSplitter] = LineSplitter
    record_wait_seconds: float = 1


def access_logs(settings: Settings) -> Cargo:
    """The lines of `settings.shipper.files`."""
    return Cargo(settings.shipper.files, settings.shipper_state_dir())


def service_logs(settings: Settings) -> Cargo:
    """The records of `settings.service_logs.files`."""
    own = settings.service_logs
    files = LogFiles(own.files, settings.access_log)
    return Cargo(
        files.globs,
        settings.service_logs_state_dir(),
        destination(files),
        RecordSplitter,
        own.record_wait_seconds,
    )


class LogShipper:
    """Ships lines, of `settings.shipper.files` unless told else, until it is told to stop.

    At least once: a file's offset moves over what Kafka has acknowledged, and only then is saved. Where Kafka
    is away, reading stops once `buffer_mib` are held, and goes on when it is back.

    Raises StateFolderError where another shipper has the state folder, or the folder is damaged.
    """

    def __init__(self, settings: Settings, cargo: Cargo | None = None) -> None:
        shipper, cargo = settings.shipper, cargo or access_logs(settings)
        self._max_line_bytes = shipper.max_line_bytes
        self._poll_seconds = shipper.poll_ms / 1000
        self._flush_seconds = shipper.flush_seconds
        self._folder = StateFolder(cargo.state_dir)
        try:
            self._saved: list[FilePosition] = self._folder.load()
        except BaseException:
            self._folder.close()
            raise
        limits = FollowLimits(
            max_line_bytes=shipper.max_line_bytes,
            rotated_wait_seconds=shipper.rotated_wait_seconds,
            splitter=cargo.splitter,
            record_wait_seconds=cargo.record_wait_seconds,
        )
        self._follower = Follower(cargo.files, limits, self._saved)
        self._sender = Sender(settings.kafka, shipper, cargo.destination)
        self._scan_at = self._save_at = 0.0
        self._tell_at = time.monotonic() + _TELL_SECONDS
        self._told = Counts()

    @property
    def counts(self) -> Counts:
        """What was done so far."""
        return replace(self._sender.counts)

    @property
    def bytes_held(self) -> int:
        """Memory for lines that Kafka hasn't taken yet, about."""
        return self._sender.bytes_held

    @property
    def idle(self) -> bool:
        """Whether all that the last step read has arrived, and it read every file to its end."""
        return self._sender.idle and all(tail.at_end for tail in self._follower.tails)

    def connect(self, seconds: float) -> bool:
        """Wait up to so long for Kafka; returns whether it answers. Not needed: every step tries too."""
        deadline = time.monotonic() + seconds
        while not self._sender.connected and time.monotonic() < deadline:
            self._sender.poll(0.01)
        return self._sender.connected

    def run(self, stop: Callable[[], bool]) -> None:
        """Ship until `stop()` is true; then send what was read, and remember how far that came."""
        while not stop():
            self.step(time.monotonic())
        log.info("stopping: waiting up to %.0f s for Kafka to take what was read", self._flush_seconds)
        if not self._sender.flush(self._flush_seconds):
            log.warning("Kafka has not taken all that was read; the rest is read again at the next start")

    def step(self, now: float) -> None:
        """Read what is new (a chunk of each file), send it, serve what came back. now: seconds, steady."""
        if now >= self._scan_at:
            self._follower.scan(now, time.time_ns())
            self._scan_at = now + _SCAN_SECONDS
        moved = False
        for tail, event in self._follower.read(now, self._sender.has_room):
            tail.sent(event, self._send(tail, event))
            moved = True
        self._sender.poll(0 if moved else self._poll_seconds)
        if now >= self._save_at:
            self.save()
            self._save_at = now + _SAVE_SECONDS
        if now >= self._tell_at:
            self._tell()
            self._tell_at = now + _TELL_SECONDS

    def save(self) -> None:
        """Write down how far each file is in Kafka, where that has changed.

        A full disk stops nobody: it is told, and tried again; after a crash more is sent twice.
        """
        states = self._follower.positions()
        if states == self._saved:
            return
        try:
            self._folder.save(states)
            self._saved = states
        except OSError as error:
            log.error("%s: offsets can't be saved, tried again: %s", self._folder.folder, error)

    def close(self) -> None:
        """Remember what has arrived, and let go of files, Kafka and the state folder."""
        try:
            self.save()
        finally:
            self._follower.close()
            self._sender.close()
            self._folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, tail: Tail, event: Event) -> Receipt | None:
        if isinstance(event, Lines):
            return self._sender.send_lines(self._origin(tail, event.start), event.block)
        if isinstance(event, Overlong):
            reason = f"line: longer than shipper.max_line_bytes ({self._max_line_bytes})"
            return self._sender.send_letter(self._origin(tail, event.start), reason, event.excerpt)
        if isinstance(event, Damaged):
            return self._sender.send_letter(self._origin(tail, event.end), f"file: {event.reason}", b"")
        return None

    def _origin(self, tail: Tail, offset: int) -> Origin:
        return Origin(tail.name.path, tail.identity, offset)

    def _tell(self) -> None:
        counts, told = self.counts, self._told
        if counts != told:
            self._told = counts
            log.info(
                "%d lines in %d s; %d lines, %d dead letters, %d empty lines since the start",
                counts.lines - told.lines,
                _TELL_SECONDS,
                counts.lines,
                counts.dead,
                counts.empty,
            )
