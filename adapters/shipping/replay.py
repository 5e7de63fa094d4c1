"""Sends log files to the topic again: as fast as possible, or at the pace at which the requests ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import AdminClient

from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.shipping.envelopes import EnvelopeSplitter, access_lines
from tidegate.adapters.shipping.lines import Lines, Overlong
from tidegate.adapters.shipping.positions import Fingerprint
from tidegate.adapters.shipping.replay_lines import LineTime, shifted, time_of
from tidegate.adapters.shipping.sender import Destination, Origin, Sender
from tidegate.adapters.shipping.sources import FileDamaged, FileUnfinished, GzipSource, PlainSource
from tidegate.schemas.settings import Settings
from tidegate.schemas.topics import DEAD_LETTERS

log = logging.getLogger(__name__)

_CHUNK_BYTES = 262_144
_BLOCK_LINES = 500
_TICK_SECONDS = 0.05
_NEW_TOPIC_SECONDS = 10.0
_GZIP_MAGIC = b"\x1f\x8b"


class ReplayFailed(Exception):
    """The files can't be replayed. The message names the file, the reason and the remedy."""


@dataclass(frozen=True)
class ReplayPlan:
    """How the lines are sent.

    speed: 1 keeps the pace of the requests' ends, 10 is ten times as fast, None is as fast as possible.
    shift_to_now: move every start_time by the same whole seconds, no request ending after its line is sent.
    partition: the only one that is written to; None sends blocks to the partitions in turn.
    """

    speed: float | None = None
    shift_to_now: bool = False
    partition: int | None = None


@dataclass(frozen=True)
class ReplayReport:
    """What was sent: lines in Kafka, dead letters (too long), skipped empty lines, lines without a time."""

    lines: int
    dead: int
    empty: int
    untimed: int
    seconds: float
    interrupted: bool


@dataclass(frozen=True)
class _Line:
    """One line, its place and its time."""

    value: bytes
    origin: Origin
    time: LineTime | None


def replay(
    settings: Settings,
    files: Sequence[Path],
    plan: ReplayPlan,
    stop: Callable[[], bool],
    destination: Destination | None = None,
) -> ReplayReport:
    """Send the lines of the files in order, invalid ones unchanged, until all are in Kafka.

    Raises ReplayFailed for a file that can't be read (before anything is sent where it can't be opened) or a
    partition that doesn't exist, KafkaUnavailable where no broker answers at the start.
    """
    for path in files:
        _opened(path).close()
    target = destination or Destination(partition=plan.partition)
    ensure_topics(settings.kafka, [target.topic, DEAD_LETTERS])
    _check_partition(settings, target)
    sender = Sender(settings.kafka, settings.shipper, target)
    try:
        return _Replay(settings, files, plan, stop, sender).run()
    finally:
        sender.close()


class _Replay:
    def __init__(
        self,
        settings: Settings,
        files: Sequence[Path],
        plan: ReplayPlan,
        stop: Callable[[], bool],
        sender: Sender,
    ) -> None:
        self._max_line_bytes = settings.shipper.max_line_bytes
        self._flush_seconds = settings.shipper.flush_seconds
        self._files = files
        self._plan = plan
        self._stop = stop
        self._sender = sender
        self._untimed = 0

    def run(self) -> ReplayReport:
        began = time.monotonic()
        if self._plan.speed is None and not self._plan.shift_to_now:
            self._send_blocks()
        else:
            self._send_timed()
        while not self._stop() and not self._sender.flush(0.5):
            pass
        interrupted = self._stop()
        if interrupted:
            self._sender.flush(self._flush_seconds)
        counts = self._sender.counts
        seconds = time.monotonic() - began
        return ReplayReport(counts.lines, counts.dead, counts.empty, self._untimed, seconds, interrupted)

    def _send_blocks(self) -> None:
        """Send whole blocks: no line has to be parsed."""
        for origin, block in self._blocks():
            if not self._wait_for_room():
                return
            self._sender.send_lines(origin, block)

    def _send_timed(self) -> None:
        speed = self._plan.speed
        shift_seconds = 0
        ends = self._first_and_last_ms() if self._plan.shift_to_now else None
        self._wait_for_room()  # the clock starts when the first line can go
        if ends is not None:
            shift_seconds = shift_seconds_of(*ends, speed, time.time_ns() // 1_000_000)
        gathered: list[_Line] = []
        first_ms: int | None = None
        began = time.monotonic()
        for line in self._lines():
            if line.time is not None and speed is not None:
                first_ms = line.time.end_ms if first_ms is None else first_ms
                due = began + (line.time.end_ms - first_ms) / 1000 / speed
                if due > time.monotonic():
                    self._send(gathered, shift_seconds)
                    self._wait_until(due)
            if self._stop():
                break
            gathered.append(line)
            if len(gathered) >= _BLOCK_LINES:
                self._send(gathered, shift_seconds)
        self._send(gathered, shift_seconds)

    def _send(self, gathered: list[_Line], shift_seconds: int) -> None:
        """Send the gathered lines, and clear them."""
        if gathered and self._wait_for_room():
            self._untimed += sum(line.time is None for line in gathered)
            values = [
                shifted(line.value, line.time, shift_seconds) if line.time and shift_seconds else line.value
                for line in gathered
            ]
            self._sender.send_lines(gathered[0].origin, b"\n".join(values) + b"\n")
        gathered.clear()

    def _wait_for_room(self) -> bool:
        """Wait until the sender has room; returns False where the replay is stopped before."""
        self._sender.poll(0)
        while not self._sender.has_room():
            if self._stop():
                return False
            self._sender.poll(_TICK_SECONDS)
        return True

    def _wait_until(self, due: float) -> None:
        while (left := due - time.monotonic()) > 0 and not self._stop():
            # In steps: a poll returns with the first delivery report.
            self._sender.poll(0)
            time.sleep(min(left, _TICK_SECONDS))

    def _first_and_last_ms(self) -> tuple[int, int]:
        """The end of the first line's request, and the latest end of all; reads every file once."""
        ends = (line.time.end_ms for line in self._lines(report=False) if line.time is not None)
        first = next(ends, None)
        if first is None:
            raise ReplayFailed(
                "no line has a valid start_time, so no time can be shifted; run without --shift-to-now"
            )
        return first, max(ends, default=first)

    def _lines(self, report: bool = True) -> Iterator[_Line]:
        for origin, block in self._blocks(report):
            offset = origin.offset
            for line in access_lines(block)[0]:
                yield _Line(line, Origin(origin.path, origin.identity, offset), time_of(line))
                offset += len(line) + 1

    def _blocks(self, report: bool = True) -> Iterator[tuple[Origin, bytes]]:
        """The files' whole lines. report: publish a dead letter for each line that is too long."""
        for path in self._files:
            source = _opened(path)
            identity = Fingerprint.of(source.head).digest
            splitter = EnvelopeSplitter(0, self._max_line_bytes)
            try:
                while data := source.read(splitter.read_offset, b"", _CHUNK_BYTES):
                    for item in splitter.feed(data):
                        if isinstance(item, Lines):
                            yield Origin(path, identity, item.start), item.block
                        elif isinstance(item, Overlong) and report and self._wait_for_room():
                            reason = f"line: longer than shipper.max_line_bytes ({self._max_line_bytes})"
                            self._sender.send_dead_letter(
                                Origin(path, identity, item.start), reason, item.excerpt
                            )
                    if self._stop():
                        return
                for item in splitter.rest():
                    if isinstance(item, Lines):
                        yield Origin(path, identity, item.start), item.block
            except (OSError, FileDamaged, FileUnfinished) as error:
                raise ReplayFailed(
                    f"{path}: can't be read after byte {splitter.read_offset}: {error}; the lines before it "
                    "were sent"
                ) from error
            finally:
                source.close()


def _check_partition(settings: Settings, target: Destination) -> None:
    if target.partition is None:
        return
    name = settings.kafka.topic(target.topic)
    client = AdminClient({**settings.kafka.client_config(), "log_level": 2})
    deadline = time.monotonic() + _NEW_TOPIC_SECONDS
    while (topic := client.list_topics(name, timeout=_NEW_TOPIC_SECONDS).topics[name]).error is not None:
        if time.monotonic() > deadline:
            raise ReplayFailed(f"topic {name}: {topic.error.str()}")
        time.sleep(_TICK_SECONDS)
    if target.partition >= len(topic.partitions):
        raise ReplayFailed(
            f"partition {target.partition} doesn't exist: topic {name} has the partitions 0 to "
            f"{len(topic.partitions) - 1}"
        )


def _opened(path: Path) -> PlainSource | GzipSource:
    try:
        with path.open("rb") as beginning:
            compressed = beginning.read(2) == _GZIP_MAGIC
        return GzipSource(path) if compressed else PlainSource(path)
    except OSError as error:
        raise ReplayFailed(f"{path}: {error.strerror}") from error
    except (FileDamaged, FileUnfinished) as error:
        raise ReplayFailed(str(error)) from error


def shift_seconds_of(first_ms: int, last_ms: int, speed: float | None, now_ms: int) -> int:
    """Whole seconds to move all lines by, so that no request ends after its line is sent.

    At speed 1 or slower the first request ends now; faster, the last one ends when it is sent.
    first_ms, last_ms: when the first request and the latest one ended.
    """
    takes_ms = 0.0 if speed is None else (last_ms - first_ms) / speed
    return int(min(now_ms - first_ms, now_ms + takes_ms - last_ms) // 1000)


def parse_speed(text: str) -> float | None:
    """None for `max`, otherwise the factor. Raises ValueError for what is not a positive number."""
    if text == "max":
        return None
    speed = float(text)
    if not 0 < speed < float("inf"):
        raise ValueError(f"{text!r} is neither max nor a positive number")
    return speed
