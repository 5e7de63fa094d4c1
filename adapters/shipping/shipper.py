"""The log shipper: sends what the follower reads, and saves the positions that Kafka has acknowledged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from tidegate.adapters.shipping.envelopes import EnvelopeSplitter
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
_PROGRESS_SECONDS = 60.0


@dataclass(frozen=True)
class ShippingPlan:
    """What is shipped: which files, where their positions are saved, how they are split, and where they go."""

    files: tuple[str, ...]
    state_dir: Path
    destination: Destination = field(default_factory=Destination)
    splitter: type[LineSplitter] = EnvelopeSplitter
    record_wait_seconds: float = 1


def access_logs(settings: Settings) -> ShippingPlan:
    """The lines of `settings.shipper.files`."""
    return ShippingPlan(settings.shipper.files, settings.shipper_state_dir())


def service_logs(settings: Settings) -> ShippingPlan:
    """The records of `settings.service_logs.files`."""
    own = settings.service_logs
    files = LogFiles(own.files, settings.access_log)
    return ShippingPlan(
        files.globs,
        settings.service_logs_state_dir(),
        destination(files),
        RecordSplitter,
        own.record_wait_seconds,
    )


class LogShipper:
    """Ships lines until it is stopped; by default those of `settings.shipper.files`.

    At least once: a file's offset moves over what Kafka has acknowledged, and is saved only then. While Kafka
    is unavailable, reading stops once `buffer_mib` are held.

    Raises StateFolderError where another shipper uses the state folder, or the folder is damaged.
    """

    def __init__(self, settings: Settings, plan: ShippingPlan | None = None) -> None:
        shipper, plan = settings.shipper, plan or access_logs(settings)
        self._max_line_bytes = shipper.max_line_bytes
        self._poll_seconds = shipper.poll_ms / 1000
        self._flush_seconds = shipper.flush_seconds
        self._folder = StateFolder(plan.state_dir)
        try:
            self._saved: list[FilePosition] = self._folder.load()
        except BaseException:
            self._folder.close()
            raise
        limits = FollowLimits(
            max_line_bytes=shipper.max_line_bytes,
            rotated_wait_seconds=shipper.rotated_wait_seconds,
            splitter=plan.splitter,
            record_wait_seconds=plan.record_wait_seconds,
        )
        self._follower = Follower(plan.files, limits, self._saved)
        self._sender = Sender(settings.kafka, shipper, plan.destination)
        self._scan_at = self._save_at = 0.0
        self._log_at = time.monotonic() + _PROGRESS_SECONDS
        self._logged = Counts()

    @property
    def counts(self) -> Counts:
        """What was shipped so far."""
        return replace(self._sender.counts)

    @property
    def bytes_held(self) -> int:
        """Approximate memory of the lines that Kafka hasn't acknowledged yet."""
        return self._sender.bytes_held

    @property
    def idle(self) -> bool:
        """Whether all that the last step read has arrived, and it read every file to its end."""
        return self._sender.idle and all(tail.at_end for tail in self._follower.tails)

    def connect(self, seconds: float) -> bool:
        """Wait up to `seconds` for Kafka; returns whether it answers. Optional: every step tries to connect."""
        deadline = time.monotonic() + seconds
        while not self._sender.connected and time.monotonic() < deadline:
            self._sender.poll(0.01)
        return self._sender.connected

    def run(self, stop: Callable[[], bool]) -> None:
        """Ship until `stop()` is true; then send what was read, and save the positions."""
        while not stop():
            self.step(time.monotonic())
        log.info("stopping: waiting up to %.0f s for Kafka to acknowledge what was read", self._flush_seconds)
        if not self._sender.flush(self._flush_seconds):
            log.warning(
                "Kafka has not acknowledged all lines that were read; the rest is sent again at the next start"
            )

    def step(self, now: float) -> None:
        """Read what is new (a chunk of each file), send it, serve delivery reports. now: seconds of a steady clock."""
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
        if now >= self._log_at:
            self._log_progress()
            self._log_at = now + _PROGRESS_SECONDS

    def save(self) -> None:
        """Save the position of each file, where any has changed.

        A full disk doesn't stop the shipper: it is logged, and the next save tries again. After a crash, more
        lines are then sent twice.
        """
        positions = self._follower.positions()
        if positions == self._saved:
            return
        try:
            self._folder.save(positions)
            self._saved = positions
        except OSError as error:
            log.error("%s: positions can't be saved, trying again: %s", self._folder.folder, error)

    def close(self) -> None:
        """Save the positions, and close the files, the connection to Kafka and the state folder."""
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
            return self._sender.send_dead_letter(self._origin(tail, event.start), reason, event.excerpt)
        if isinstance(event, Damaged):
            return self._sender.send_dead_letter(self._origin(tail, event.end), f"file: {event.reason}", b"")
        return None

    def _origin(self, tail: Tail, offset: int) -> Origin:
        return Origin(tail.name.path, tail.identity, offset)

    def _log_progress(self) -> None:
        counts, before = self.counts, self._logged
        if counts != before:
            self._logged = counts
            log.info(
                "%d lines in %d s; %d lines, %d dead letters, %d empty lines since the start",
                counts.lines - before.lines,
                _PROGRESS_SECONDS,
                counts.lines,
                counts.dead,
                counts.empty,
            )
